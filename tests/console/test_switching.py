"""Who is signed in changes: in this tab, in another one, by a session that ended; nothing of the one before stays."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from playwright.sync_api import Error, Route, expect

from tests.console.house import MODEL
from tests.console.visitor import Visitor
from tests.support.answering import Desk

pytestmark = pytest.mark.slow

Someone = Callable[..., Visitor]
NewKey = Callable[..., dict[str, Any]]


@pytest.fixture
def stranger(desk: Desk) -> str:
    """A reader's key of another tenant."""
    tenant = desk.client.post("/v1/admin/tenants", json={"name": f"elsewhere {len(desk.gate.log)}"}).json()["id"]
    made = desk.client.post("/v1/admin/keys", json={"name": "stranger", "role": "reader", "tenant": tenant})
    return str(made.json()["key"])


def test_a_tab_follows_whoever_signs_in_in_another_one(someone: Someone, stranger: str, desk: Desk) -> None:
    """They share the cookie: a tab that was left open showed the new one's data under the old one's name."""
    one = someone()
    one.go("keys", "Keys and people")
    one.page.get_by_label("Find keys by a part of their name").fill("first admin")
    expect(one.page.get_by_role("row").filter(has_text="first admin")).to_be_visible()
    other = Visitor(one.page.context.new_page(), one.url)
    other.page.goto(f"{one.url}/")
    other.page.get_by_role("button", name="Sign out").click()
    expect(one.page.get_by_label("API key")).to_be_visible()
    other.enter(stranger)
    links = one.page.get_by_role("navigation", name="Pages").get_by_role("link")
    expect(links).to_have_text(["Start", "Chat", "Documents", "Usage"])
    assert "first admin" not in one.page.content()
    expect(one.page.locator(".me")).to_contain_text("stranger")
    other.page.get_by_role("button", name="Sign out").click()
    expect(one.page.get_by_label("API key")).to_be_visible()


def test_a_sign_out_that_fails_says_so_and_the_page_goes_on(admin: Visitor) -> None:
    """It seemed signed out, with all its data in sight, though the cookie still counted."""
    admin.go("keys", "Keys and people")
    admin.page.route("**/v1/session", lambda route: route.abort())
    admin.page.get_by_role("button", name="Sign out").click()
    expect(admin.page.get_by_role("alert")).to_contain_text("You are still signed in")
    admin.page.unroute("**/v1/session")
    admin.go("usage", "Usage of your tenant")
    admin.page.get_by_role("button", name="Sign out").click()
    expect(admin.page.get_by_text("You are signed out.")).to_be_visible()
    expect(admin.page.locator(".toast")).to_have_count(0)


def test_what_lies_over_the_page_goes_when_a_session_ends(someone: Someone, new_key: NewKey, desk: Desk) -> None:
    """A document stayed open over the sign-in page, which nobody could use then."""
    made = new_key(role="member")
    one = someone(made["key"])
    one.go("documents/harbour", "harbour")
    one.page.get_by_role("button", name="ferry.md", exact=True).click()
    expect(one.page.locator("dialog .document-text")).to_contain_text("07:45")
    assert desk.client.delete(f"/v1/admin/keys/{made['id']}").status_code == 200
    one.go("usage")
    expect(one.page.get_by_label("API key")).to_be_visible()
    expect(one.page.locator("dialog")).to_have_count(0)
    assert "07:45" not in one.page.content()
    expect(one.page.get_by_label("API key")).to_be_focused()


def test_the_rates_of_one_are_not_shown_to_the_next(someone: Someone, new_key: NewKey) -> None:
    one = someone(new_key(role="member", limits={"rpm": 77})["key"])
    one.go("chat/new", "Chat")
    one.ask("hello", documents="", model=MODEL)
    one.answer()
    one.go("usage", "Your usage")
    expect(one.page.get_by_text("Requests of this minute")).to_be_visible()
    one.page.get_by_role("button", name="Sign out").click()
    one.page.get_by_label("API key").fill(new_key(role="member")["key"])
    one.page.keyboard.press("Enter")
    one.go("usage", "Your usage")
    expect(one.page.get_by_role("heading", name="Limits")).to_be_visible()
    expect(one.page.get_by_text("Requests of this minute")).to_have_count(0)


def test_files_that_wait_are_not_sent_for_whoever_signs_in_next(someone: Someone, stranger: str, desk: Desk) -> None:
    one = someone()
    one.go("documents/harbour", "harbour")
    sent: list[Route] = []
    one.page.route("**/v1/ingest", lambda route: sent.append(route))
    files = [{"name": f"{at}.txt", "mimeType": "text/plain", "buffer": b"text"} for at in range(45)]
    with one.page.expect_request("**/v1/ingest"):
        one.page.get_by_label("Choose files").set_input_files(files)
    one.page.get_by_role("button", name="Sign out").click()
    one.page.get_by_label("API key").fill(stranger)
    one.page.keyboard.press("Enter")
    one.go("documents", "Documents")
    with suppress(Error):  # the browser has given it up, or it goes on now
        sent[0].continue_()
    one.page.wait_for_timeout(1_000)
    assert len(sent) == 1, "the portions after it are not for them"


def test_a_page_without_the_sessions_token_is_told_by_its_answers(admin: Visitor, desk: Desk) -> None:
    """Where no tab told it: the next thing that it would change is refused, and it looks who is signed in."""
    made = desk.client.post("/v1/admin/keys", json={"name": "second"}).json()
    admin.go("keys/teams", "Keys and people")
    signed = httpx.post(f"{admin.url}/v1/session", json={"key": made["key"]})
    admin.page.context.add_cookies(
        [{"name": "stoker_session", "value": signed.cookies["stoker_session"], "url": admin.url}]
    )
    admin.page.get_by_role("button", name="New team").click()
    admin.page.get_by_role("dialog").get_by_label("Name").fill("nobody's")
    admin.page.get_by_role("button", name="Make it").click()
    expect(admin.page.locator(".me")).to_contain_text("member")
    expect(admin.page.locator("dialog")).to_have_count(0)
