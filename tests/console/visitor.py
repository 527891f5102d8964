"""Somebody before the console, in a real browser; what goes wrong there is noted."""

from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Locator, Page

WIDE = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}

# Runs before any script of a page: what the policy blocked, and whether a planted script ran.
_WATCH = """
window.ran = 0;
window.alert = () => { window.ran += 1; };
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""

# Elements that only markup in a text could have made, and handlers that only it could have set.
_FOREIGN = """() => {
  const made = [...document.querySelectorAll(
    "main img, main iframe, main object, main embed, main base, main link, main style, main meta, main video, "
    + "main math, dialog img, dialog iframe, dialog script, main script, body > img, body > iframe, body > script")];
  const handled = [...document.querySelectorAll("*")].filter(
    (one) => [...one.attributes].some(({ name, value }) => /^on/i.test(name) || /^\\s*javascript:/i.test(value)));
  return [...made, ...handled].map((one) => one.outerHTML.slice(0, 200));
}"""


@dataclass
class Visitor:
    """One tab of a browser that keeps nothing.

    Attributes:
        errors: what went wrong in scripts of the page.
        dialogs: texts of the browser's own dialogs, which the console never opens.
    """

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def enter(self, key: str) -> None:
        """Sign in with a key."""
        self.page.goto(f"{self.url}/")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.locator("#nav").wait_for(state="attached")  # which a phone shows behind a button

    def go(self, place: str, heading: str | None = None) -> None:
        """Go to a page of the console, such as `documents/harbour/search`, and wait for its heading."""
        self.page.evaluate("place => { location.hash = place; }", f"#/{place}")
        if heading is not None:
            self.page.get_by_role("heading", name=heading, level=1).wait_for(state="attached")

    def ask(self, question: str, documents: str | None = None, model: str | None = None) -> None:
        """Ask in the chat that is shown."""
        if documents is not None:
            self.page.get_by_label("Documents", exact=True).select_option(documents)
        if model is not None:
            self.page.get_by_label("Model", exact=True).select_option(model)
        self.page.get_by_role("textbox", name="Your question").fill(question)
        self.page.keyboard.press("Enter")

    def answer(self, at: int = -1) -> Locator:
        """An answer of the conversation, once it is whole."""
        done = self.page.locator("article.theirs:not([aria-busy])")
        (done.last if at == -1 else done.nth(at)).wait_for()
        return done.last if at == -1 else done.nth(at)

    def ran(self) -> int:
        """How many planted scripts ran."""
        return int(self.page.evaluate("window.ran"))

    def violations(self) -> list[str]:
        """What the policy blocked since the page was loaded."""
        return list(self.page.evaluate("window.violations"))

    def foreign(self) -> list[str]:
        """Elements and handlers that the console did not make."""
        return list(self.page.evaluate(_FOREIGN))


def visitor(browser: Browser, url: str, **about: Any) -> Visitor:
    """Open a tab; `about` goes to the browser's context. Its context is to be closed by whoever opened it."""
    context = browser.new_context(**{"viewport": WIDE, "color_scheme": "light", **about})
    context.add_init_script(_WATCH)
    page = context.new_page()
    page.set_default_timeout(60_000)
    one = Visitor(page, url)
    page.on("pageerror", lambda error: one.errors.append(str(error)))
    page.on("dialog", lambda dialog: (one.dialogs.append(dialog.message), dialog.dismiss()))
    return one
