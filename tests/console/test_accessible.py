"""Everybody can use it: axe finds nothing serious on any page, and the keyboard alone is enough."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.house import MODEL
from tests.console.visitor import PHONE, WIDE, Visitor
from tests.support.answering import Desk
from tests.support.process import ROOT

pytestmark = pytest.mark.slow

AXE = (
    Path(os.environ.get("STOKER_ENVS_DIR", ROOT / ".stoker" / "envs")) / "console-node/node_modules/axe-core/axe.min.js"
)
PLACES = {
    "start": "Welcome",
    "chat": "Chat",
    "documents": "Documents",
    "documents/harbour": "harbour",
    "documents/harbour/search": "harbour",
    "documents/harbour/settings": "harbour",
    "documents/harbour/evaluation": "harbour",
    "usage": "Usage of your tenant",
    "keys": "Keys and people",
    "keys/users": "Keys and people",
    "keys/teams": "Keys and people",
    "keys/budgets": "Keys and people",
    "keys/audit": "Keys and people",
    "operations": "Operations",
}
_RUN = """async () => {
  const found = await window.axe.run(document, { resultTypes: ["violations"] });
  const shown = (nodes) => nodes.slice(0, 3).map((one) => one.html.slice(0, 160));
  return found.violations.map(({ id, impact, nodes }) => [impact, id, shown(nodes)]);
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        pytest.skip("axe-core is not here: install Node with npm and run ./stoker test again")
    return AXE.read_text()


def faults(one: Visitor) -> list[object]:
    """What axe calls serious or critical of the page as it is now."""
    one.page.wait_for_load_state("networkidle") if "operations" not in one.page.url else None
    return [found for found in one.page.evaluate(_RUN) if found[0] in ("serious", "critical")]


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(
    someone: Callable[..., Visitor],
    desk: Desk,
    axe: str,
    colours: str,
    size: dict[str, int],
    figure: Callable[[str], None],
) -> None:
    one = someone(None, color_scheme=colours, viewport=size)
    one.page.context.add_init_script(axe)
    one.page.goto(f"{one.url}/")
    one.page.get_by_label("API key").wait_for()
    found: dict[str, list[object]] = {"sign in": faults(one)}
    one.enter(desk.gate.key)
    for place, heading in PLACES.items():
        one.go(place, heading)
        one.page.locator(".loading").first.wait_for(state="detached")
        found[place] = faults(one)
    one.go("chat/new", "Chat")
    one.ask("When does the ferry to Wellhaven leave?", documents="harbour", model=MODEL)
    one.answer()
    found["an answer"] = faults(one)
    one.page.locator(".chip").first.click()
    one.page.locator("dialog mark").wait_for()
    found["the reader"] = faults(one)
    assert {place: some for place, some in found.items() if some} == {}
    figure(f"{len(found)} pages, {colours}: nothing serious or critical")


def test_the_keyboard_alone_signs_in_asks_and_reads_a_source(someone: Callable[..., Visitor], desk: Desk) -> None:
    one = someone(None)
    one.page.goto(f"{one.url}/")
    expect(one.page.get_by_label("API key")).to_be_focused()
    one.page.keyboard.type(desk.gate.key)
    one.page.keyboard.press("Enter")
    expect(one.page.get_by_role("heading", name="Welcome")).to_be_visible()
    pressed(one, lambda: one.page.get_by_role("link", name="Chat", exact=True))
    one.page.keyboard.press("Enter")
    expect(one.page.get_by_role("textbox", name="Your question")).to_be_focused()
    one.page.get_by_label("Documents", exact=True).focus()
    one.page.keyboard.type("harbour")
    one.page.get_by_role("textbox", name="Your question").focus()
    one.page.keyboard.type("When does the ferry to Wellhaven leave?")
    one.page.keyboard.press("Enter")
    one.answer()
    expect(one.page.get_by_role("status").filter(has_text="The answer is there")).to_be_attached()
    one.page.get_by_role("button", name="Source 1: ferry.md").first.focus()
    one.page.keyboard.press("Enter")
    expect(one.page.locator("dialog mark")).to_be_focused()
    one.page.keyboard.press("Escape")
    expect(one.page.get_by_role("button", name="Source 1: ferry.md").first).to_be_focused()  # back where one was


def pressed(one: Visitor, wanted: Callable[[], object]) -> None:
    """Press Tab until the element has the focus."""
    for _ in range(30):
        one.page.keyboard.press("Tab")
        if wanted().evaluate("one => one === document.activeElement"):  # type: ignore[attr-defined]
            return
    raise AssertionError("the element cannot be reached by Tab")


def test_colours_are_chosen_and_stay(someone: Callable[..., Visitor]) -> None:
    one = someone(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = one.page.evaluate(background)
    one.page.get_by_role("button", name="Use light colours").click()
    light = one.page.evaluate(background)
    assert light != dark
    one.page.reload()
    expect(one.page.get_by_role("button", name="Use dark colours")).to_be_visible()
    assert one.page.evaluate(background) == light


def test_nothing_is_wider_than_a_phone(someone: Callable[..., Visitor]) -> None:
    one = someone(viewport=PHONE)
    for place, heading in PLACES.items():
        one.go(place, heading)
        one.page.locator(".loading").first.wait_for(state="detached")
        wide = one.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"], place


def test_a_list_on_a_phone_shows_the_names_of_what_is_in_it(someone: Callable[..., Visitor], desk: Desk) -> None:
    """Columns of fixed width left those of keys no room at all."""
    desk.client.post("/v1/admin/users", json={"name": "somebody"})
    one = someone(viewport=PHONE)
    for place in ("keys", "keys/users", "keys/audit", "documents/harbour"):
        one.page.goto(f"{one.url}/#/{place}")
        one.page.reload()
        cell = one.page.locator(".list-body .list-row").first.get_by_role("cell").first
        cell.wait_for()
        box = cell.bounding_box()
        assert box is not None
        assert box["width"] > 110, place
