"""What comes late, twice or not at all: presses, answers, connections."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.console.house import MODEL
from tests.console.visitor import Visitor
from tests.support.answering import Desk
from tests.support.waiting import until

pytestmark = pytest.mark.slow


def test_a_double_press_makes_one_key_whose_text_no_slip_takes_away(admin: Visitor, desk: Desk) -> None:
    admin.go("keys", "Keys and people")
    admin.page.get_by_role("button", name="New key").click()
    form = admin.page.get_by_role("dialog")
    form.get_by_label("What it is for").fill("pressed twice")
    admin.page.mouse.click(5, 5)  # beside it: what was typed stays
    form.get_by_role("button", name="Make the key").dblclick()
    text = admin.page.locator("[data-secret]").inner_text()
    found = desk.client.get("/v1/admin/keys", params={"name": "pressed twice"}).json()["data"]
    assert len(found) == 1
    admin.page.mouse.click(5, 5)
    admin.page.keyboard.press("Escape")
    assert admin.page.locator("[data-secret]").inner_text() == text
    admin.page.get_by_role("button", name="Copy", exact=True).click()
    expect(admin.page.get_by_role("dialog").get_by_text("Copied")).to_be_visible()  # where the page behind is inert
    admin.page.get_by_role("button", name="I have it").click()
    expect(admin.page.locator("dialog")).to_have_count(0)


def test_why_a_form_is_refused_stands_in_it_and_what_was_typed_stays(admin: Visitor) -> None:
    """It stood behind the dialog, where it was dim to those who see and silent to those who listen."""
    admin.go("documents", "Documents")
    admin.page.get_by_role("button", name="New collection").click()
    form = admin.page.get_by_role("dialog")
    form.get_by_label("Name").fill("harbour")
    form.get_by_role("button", name="Make it").click()
    expect(form.get_by_role("alert")).to_contain_text("harbour")
    expect(form.get_by_label("Name")).to_have_value("harbour")


def test_limits_are_those_of_whoever_was_chosen_last(admin: Visitor, desk: Desk) -> None:
    """An answer that came late put one's limits under another's name, and kept them there."""
    users = [desk.client.post("/v1/admin/users", json={"name": f"budget {at}"}).json()["id"] for at in "ab"]
    for user, money in zip(users, ("11", "22"), strict=True):
        desk.client.put(f"/v1/admin/limits/user/{user}", json={"usd_per_month": money}).raise_for_status()
    admin.go("keys/budgets", "Keys and people")
    admin.page.get_by_label("Of", exact=True).select_option("user")
    admin.page.get_by_label("Find whom by a part of their name").fill("BUDGET")
    expect(admin.page.get_by_label("Which")).to_have_text("budget bbudget a")
    waiting: list[Route] = []
    admin.page.route(f"**/limits/user/{users[0]}", lambda route: waiting.append(route))
    with admin.page.expect_request(f"**/limits/user/{users[0]}"):
        admin.page.get_by_label("Which").select_option("budget a")
    admin.page.get_by_label("Which").select_option("budget b")
    expect(admin.page.get_by_label("US dollars a month")).to_have_value("22")
    with admin.page.expect_response(f"**/limits/user/{users[0]}"):
        waiting[0].continue_()
    admin.page.wait_for_load_state("networkidle")
    expect(admin.page.get_by_label("US dollars a month")).to_have_value("22")


def test_a_search_that_comes_late_does_not_take_the_place_of_the_last_one(admin: Visitor) -> None:
    admin.go("documents/harbour/search", "harbour")
    waiting: list[Route] = []
    box = admin.page.get_by_role("searchbox", name="Search")
    box.fill("ferry")
    admin.page.route("**/v1/search", lambda route: route.continue_() if waiting else waiting.append(route))
    with admin.page.expect_request("**/v1/search"):
        admin.page.keyboard.press("Enter")
    box.fill("lighthouse painted white")
    admin.page.keyboard.press("Enter")
    expect(admin.page.locator(".hit").first).to_contain_text("lighthouse.txt")
    with admin.page.expect_response("**/v1/search"):
        waiting[0].continue_()
    admin.page.wait_for_load_state("networkidle")
    expect(admin.page.locator(".hit").first).to_contain_text("lighthouse.txt")


def test_a_list_whose_next_rows_do_not_come_says_so_and_goes_on(admin: Visitor, desk: Desk) -> None:
    for at in range(105):
        desk.client.post("/v1/admin/teams", json={"name": f"row {at}"}).raise_for_status()
        desk.client.post("/v1/admin/users", json={"name": f"row {at}"}).raise_for_status()
    admin.page.route("**/v1/admin/users?*after=*", lambda route: route.abort())
    admin.go("keys/users", "Keys and people")
    scroller = admin.page.locator(".list-scroller")
    expect(scroller.locator(".list-body .list-row").first).to_be_visible()
    scroller.evaluate("one => one.scrollTo(0, one.scrollHeight)")
    foot = admin.page.locator(".list-foot")
    expect(foot.get_by_role("alert")).to_contain_text("look whether it runs")
    scroller.evaluate("one => one.scrollTo(0, 0)")
    expect(foot.get_by_role("alert")).to_be_visible()  # it said "100 in all"
    admin.page.unroute("**/v1/admin/users?*after=*")
    foot.get_by_role("button", name="Try again").click()
    scroller.evaluate("one => one.scrollTo(0, one.scrollHeight)")
    expect(foot).to_contain_text("in all")


def test_the_focus_stays_on_the_button_that_has_it_when_rows_are_drawn_anew(admin: Visitor, desk: Desk) -> None:
    """It went to the first button of the row, so that Enter did another thing than was announced."""
    for at in range(40):
        desk.client.post("/v1/admin/keys", json={"name": f"focus {at}"}).raise_for_status()
    admin.go("keys", "Keys and people")
    button = admin.page.get_by_role("button", name="Revoke focus 30")
    button.focus()
    admin.page.locator(".list-scroller").evaluate("one => one.scrollTo(0, 15 * 48)")
    admin.page.locator(".list-row").filter(has_text="focus 39").wait_for(state="detached")
    expect(button).to_be_focused()


def test_keys_and_users_are_found_by_a_part_of_their_name(admin: Visitor, desk: Desk) -> None:
    for kind in ("keys", "users"):
        desk.client.post(f"/v1/admin/{kind}", json={"name": f"Zeppelin of {kind}"}).raise_for_status()
        admin.go(f"keys/{kind}", "Keys and people")
        admin.page.get_by_role("tab", name=kind.capitalize()).click()
        box = admin.page.get_by_label(f"Find {kind} by a part of their name")
        box.fill("zeppelin")
        expect(admin.page.get_by_text("1 in all")).to_be_visible()
        expect(admin.page.get_by_role("row").nth(1)).to_contain_text(f"Zeppelin of {kind}")
        box.fill("nobody at all")
        expect(admin.page.get_by_text("No name holds these signs.")).to_be_visible()


def test_an_upload_whose_events_break_off_is_followed_to_its_end(admin: Visitor, desk: Desk) -> None:
    """Its row stood at the stage that was told last, for ever."""
    desk.client.post("/v1/collections", json={"name": "broken"}).raise_for_status()
    admin.go("documents/broken", "broken")
    broken: list[str] = []

    def once(route: Route) -> None:
        if len(broken) < 2:
            broken.append(route.request.url)
            route.fulfill(status=200, content_type="text/event-stream", body=": waiting\n\n")
        else:
            route.continue_()

    admin.page.route("**/v1/jobs/*/events", once)
    file = {"name": "late.txt", "mimeType": "text/plain", "buffer": b"The drawbridge opens at noon."}
    admin.page.get_by_label("Choose files").set_input_files(file)
    row = admin.page.locator(".upload").filter(has_text="late.txt")
    expect(row.get_by_text("ready", exact=True).first).to_be_visible()
    assert len(broken) == 2


def test_files_go_on_being_sent_while_another_page_is_shown(admin: Visitor, desk: Desk) -> None:
    """Going to another page ended it, and said nothing."""
    desk.client.post("/v1/collections", json={"name": "many"}).raise_for_status()
    admin.go("documents/many", "many")
    waiting: list[Route] = []
    admin.page.route("**/v1/ingest", lambda route: route.continue_() if waiting else waiting.append(route))
    files = [{"name": f"{at}.txt", "mimeType": "text/plain", "buffer": b"text %d" % at} for at in range(25)]
    with admin.page.expect_request("**/v1/ingest"):
        admin.page.get_by_label("Choose files").set_input_files(files)
    admin.go("usage", "Usage of your tenant")
    waiting[0].continue_()

    def listed() -> int:
        admin.page.wait_for_timeout(50)  # the page's own requests go on meanwhile
        return len(desk.client.get("/v1/collections/many/documents", params={"limit": 100}).json()["data"])

    until(lambda: listed() == 25, "all files are there")


def test_a_page_that_was_left_does_not_change_the_address(admin: Visitor) -> None:
    """A conversation that was being made put its own address in the place of the next page's."""
    admin.go("chat/new", "Chat")
    waiting: list[Route] = []
    admin.page.route(
        "**/v1/conversations",
        lambda route: waiting.append(route) if route.request.method == "POST" else route.continue_(),
    )
    with admin.page.expect_request(
        lambda request: request.method == "POST" and request.url.endswith("/v1/conversations")
    ):
        admin.ask("hello", documents="", model=MODEL)
    admin.go("usage", "Usage of your tenant")
    with admin.page.expect_response(
        lambda answer: answer.request.method == "POST" and answer.url.endswith("/v1/conversations")
    ):
        waiting[0].continue_()
    admin.page.wait_for_load_state("networkidle")
    assert admin.page.url.endswith("#/usage")


def test_an_answer_that_was_kept_though_its_end_never_came_takes_no_other_with_it(admin: Visitor, desk: Desk) -> None:
    """What stood here as lost and there as kept shifted the count, and changing a question deleted another one."""
    admin.go("chat/new", "Chat")

    def said(words: str) -> None:
        admin.ask(words, documents="", model=MODEL)
        expect(admin.page.locator("article.theirs").last.locator(".answer-text")).to_contain_text(words)
        expect(admin.page.get_by_role("button", name="Send")).to_be_visible()

    said("first words")
    admin.page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(status=200, content_type="text/event-stream", body=_endless(route)),
    )
    said("second words")
    expect(admin.page.locator("article.theirs").last.get_by_role("alert")).to_contain_text("broke off")
    admin.page.unroute("**/v1/chat/completions")
    said("third words")
    said("fourth words")
    admin.page.get_by_role("button", name="Edit this question and ask again").last.click()
    said("other words")
    conversation = admin.page.url.rpartition("/")[2]
    items = desk.client.get(f"/v1/conversations/{conversation}/items", params={"order": "asc", "limit": 100}).json()
    asked = [one["content"][0]["text"] for one in items["data"] if one["role"] == "user"]
    assert asked == ["first words", "second words", "third words", "other words"]


def _endless(route: Route) -> str:
    """The server's whole answer, without its end."""
    return route.fetch().text().replace("data: [DONE]\n\n", "")


def test_what_was_typed_stays_where_the_conversation_cannot_be_cut(admin: Visitor) -> None:
    admin.go("chat/new", "Chat")
    admin.ask("hello there", documents="", model=MODEL)
    admin.answer()
    admin.page.get_by_role("button", name="Edit this question and ask again").click()
    admin.page.route("**/items*", lambda route: route.abort())
    box = admin.page.get_by_role("textbox", name="Your question")
    box.fill("a long text that took an hour")
    admin.page.keyboard.press("Enter")
    expect(admin.page.get_by_role("alert")).to_contain_text("look whether it runs")
    expect(box).to_have_value("a long text that took an hour")


def test_a_key_that_keeps_no_conversations_begins_a_new_chat(
    someone: Callable[..., Visitor], new_key: Callable[..., dict[str, Any]]
) -> None:
    """Its address stayed as it was, and so did the chat."""
    one = someone(new_key(scopes=["chat", "models"])["key"])
    one.go("chat/new", "Chat")
    one.ask("hello there", model=MODEL)
    one.answer()
    one.page.get_by_role("button", name="New chat").click()
    expect(one.page.locator("article")).to_have_count(0)


def test_the_skip_link_goes_to_the_content_and_not_to_another_page(admin: Visitor) -> None:
    """Its address was read as that of a page that there is not, and led to the first one."""
    admin.go("usage", "Usage of your tenant")
    admin.page.get_by_role("link", name="Skip to content").focus()
    admin.page.keyboard.press("Enter")
    expect(admin.page.locator("#main")).to_be_focused()
    expect(admin.page.get_by_role("heading", level=1)).to_have_text("Usage of your tenant")


def test_a_list_that_a_paragraph_interrupts_goes_on_counting(admin: Visitor) -> None:
    """Models write a blank line between items, and each item became number one."""
    text = "1. first\n\n2. second\n\nwords\n\n3. third\n4. fourth\n\n- point"
    script = """async (text) => (await import("/console/markdown.js")).markdown(text).map((one) => one.outerHTML)"""
    assert admin.page.evaluate(script, text) == [
        '<ol start="1"><li>first</li></ol>',
        '<ol start="2"><li>second</li></ol>',
        "<p>words</p>",
        '<ol start="3"><li>third</li><li>fourth</li></ol>',
        "<ul><li>point</li></ul>",
    ]
