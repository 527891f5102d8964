"""Signing in and out, and what each role sees."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.console.visitor import Visitor
from tests.support.answering import Desk
from tests.support.waiting import until

pytestmark = pytest.mark.slow


def test_a_key_is_exchanged_for_a_session_and_kept_nowhere(someone: Callable[..., Visitor], desk: Desk) -> None:
    one = someone(None)
    sent: list[str] = []
    one.page.on("request", lambda request: sent.append(str(request.all_headers()) + str(request.post_data)))
    one.enter(desk.gate.key)
    expect(one.page.get_by_role("heading", name="Welcome")).to_be_visible()
    kept = one.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert desk.gate.key not in kept
    assert desk.gate.key not in one.page.content()
    assert [desk.gate.key in text for text in sent].count(True) == 1  # the sign-in itself
    cookies = one.page.context.cookies()
    assert [cookie["name"] for cookie in cookies] == ["stoker_session"]
    assert cookies[0]["httpOnly"]

    one.page.reload()
    expect(one.page.get_by_role("heading", name="Welcome")).to_be_visible()
    one.page.get_by_role("button", name="Sign out").click()
    expect(one.page.get_by_text("You are signed out.")).to_be_visible()
    one.page.reload()
    expect(one.page.get_by_label("API key")).to_be_visible()


def test_a_wrong_key_is_told_so_and_a_session_that_was_ended_leads_back(
    someone: Callable[..., Visitor], desk: Desk, new_key: Callable[..., dict[str, Any]]
) -> None:
    one = someone(None)
    one.page.goto(f"{one.url}/")
    one.page.get_by_label("API key").fill("sk-stoker-wrong")
    one.page.get_by_role("button", name="Sign in").click()
    expect(one.page.get_by_role("alert")).to_contain_text("key")
    made = new_key(role="member")
    one.enter(made["key"])
    assert desk.client.delete(f"/v1/admin/keys/{made['id']}").status_code == 200
    one.go("usage")
    expect(one.page.get_by_label("API key")).to_be_visible()


@pytest.mark.parametrize(
    ("role", "pages"),
    [
        ("reader", ["Start", "Chat", "Documents", "Usage"]),
        ("ingest", ["Start", "Documents", "Usage"]),
        ("member", ["Start", "Chat", "Documents", "Usage"]),
        ("manager", ["Start", "Chat", "Documents", "Usage", "Keys and people"]),
        ("admin", ["Start", "Chat", "Documents", "Usage", "Keys and people", "Operations"]),
    ],
)
def test_each_role_sees_the_pages_that_answer_it(
    someone: Callable[..., Visitor], new_key: Callable[..., dict[str, Any]], role: str, pages: list[str]
) -> None:
    one = someone(new_key(role=role)["key"])
    links = one.page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert links.all_inner_texts() == pages
    refused: list[str] = []
    one.page.on("response", lambda answer: refused.append(answer.url) if answer.status in (401, 403) else None)
    for name in pages:
        links.filter(has_text=name).first.click()
        until(lambda name=name: one.page.title() == f"{name} · Stoker", f"the page {name}")
        one.page.wait_for_load_state("networkidle")
        expect(one.page.get_by_role("heading", level=1)).to_have_count(1)
    assert not refused  # it asks for nothing that the role does not reach


def test_scopes_narrow_what_is_shown(someone: Callable[..., Visitor], new_key: Callable[..., dict[str, Any]]) -> None:
    one = someone(new_key(role="admin", scopes=["usage"])["key"])
    links = one.page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert links.all_inner_texts() == ["Start", "Usage"]
    one.go("operations")
    expect(one.page.get_by_role("heading", name="Welcome")).to_be_visible()
