"""The chat in a real browser: streams, stopping, sources that can be checked, conversations, feedback, costs."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.console.house import LARGE, MODEL
from tests.console.visitor import Visitor
from tests.support.answering import Desk
from tests.support.openai_server import OpenAiServer
from tests.support.waiting import until

pytestmark = pytest.mark.slow

QUESTION = "When does the ferry to Wellhaven leave?"


def test_a_page_that_is_left_before_it_is_there_does_not_come_later(admin: Visitor) -> None:
    """A page that was waiting for its answers once put itself in the place of the next one."""
    waiting: list[Route] = []
    admin.page.route("**/v1/collections?limit=1", lambda route: waiting.append(route))  # which Start asks
    with admin.page.expect_request("**/v1/collections?limit=1"):
        admin.go("start")
    admin.go("keys", "Keys and people")
    with admin.page.expect_response("**/v1/collections?limit=1"):
        waiting[0].continue_()
    admin.page.wait_for_load_state("networkidle")
    expect(admin.page.get_by_role("heading", level=1)).to_have_text("Keys and people")


def test_the_picker_fills_itself_and_an_answer_streams_until_it_is_stopped(
    admin: Visitor, model: OpenAiServer, desk: Desk
) -> None:
    admin.go("chat", "Chat")
    assert admin.page.get_by_label("Model", exact=True).locator("option").all_inner_texts() == [MODEL, LARGE]
    model.pause_s = 0.05
    stopped = model.cancelled
    admin.ask("Tell me at length about words.", model=LARGE)
    text = admin.page.locator("article.theirs .answer-text")
    expect(text).to_contain_text("word5 word6")  # it is shown while more is being made
    assert "word399" not in text.inner_text()
    admin.page.get_by_role("button", name="Stop the answer").click()
    expect(admin.page.get_by_text("Stopped.")).to_be_visible()
    shown = text.inner_text()
    until(lambda: model.cancelled > stopped, "the upstream hears that its client left")
    model.pause_s = 0
    assert text.inner_text() == shown
    assert "word399" not in shown
    expect(admin.page.get_by_role("button", name="Send")).to_be_visible()


def test_a_source_opens_the_document_at_the_very_words(admin: Visitor) -> None:
    admin.go("chat", "Chat")
    admin.ask(QUESTION, documents="harbour")
    answer = admin.answer()
    expect(answer.locator(".chip").first).to_have_accessible_name("Source 1: ferry.md")
    quote = answer.locator(".source-quote").first.inner_text()
    answer.locator(".chip").first.click()
    mark = admin.page.locator("dialog mark")
    expect(mark).to_be_visible()
    assert mark.inner_text() == quote
    assert "07:45" in quote
    expect(admin.page.get_by_text("the quote stands here, word for word")).to_be_visible()
    expect(admin.page.locator("dialog .document-text")).to_contain_text("🚢🚢🚢")
    assert mark.evaluate("one => one === document.activeElement")
    box = mark.bounding_box()
    assert box is not None
    assert 0 < box["y"] < 860
    admin.page.keyboard.press("Escape")
    expect(admin.page.locator("dialog")).to_have_count(0)


def test_a_conversation_is_kept_and_opens_again_with_its_sources(admin: Visitor) -> None:
    admin.go("chat", "Chat")
    admin.ask(QUESTION, documents="harbour")
    said = admin.answer().locator(".answer-text").inner_text()
    until(lambda: "#/chat/conv" in admin.page.url, "the address names the conversation")
    admin.page.reload()
    answer = admin.answer()
    assert answer.locator(".answer-text").inner_text().split("\n")[0].startswith(said.split("1")[0][:40])
    answer.locator(".source").first.click()
    expect(admin.page.locator("dialog mark")).to_contain_text("07:45")


def test_asking_again_and_changing_a_question_take_the_place_of_what_came_after(
    admin: Visitor, desk: Desk, model: OpenAiServer
) -> None:
    admin.go("chat", "Chat")
    for words in ("first words here", "second words here"):
        admin.ask(words, documents="", model=MODEL)
        expect(admin.page.locator("article.theirs").last.locator(".answer-text")).to_contain_text(words)
        admin.answer()
    asked = model.requests
    admin.page.get_by_role("button", name="Ask again", exact=True).last.click()
    until(lambda: model.requests > asked, "the model is asked again")
    expect(admin.page.get_by_role("button", name="Send")).to_be_visible()
    expect(admin.page.locator("article.theirs")).to_have_count(2)
    admin.page.get_by_role("button", name="Edit this question and ask again").first.click()
    question = admin.page.get_by_role("textbox", name="Your question")
    expect(question).to_have_value("first words here")
    question.fill("other words now")
    admin.page.keyboard.press("Enter")
    expect(admin.page.locator("article.theirs")).to_have_count(1)
    expect(admin.page.locator("article.theirs .answer-text")).to_contain_text("other words now")
    admin.answer()
    expect(admin.page.locator("article.mine")).to_have_count(1)
    conversation = admin.page.url.rpartition("/")[2]
    items = desk.client.get(f"/v1/conversations/{conversation}/items", params={"order": "asc"}).json()["data"]
    assert [item["content"][0]["text"] for item in items] == ["other words now", "other words now"]


def test_under_an_answer_stand_its_cost_its_time_and_the_caches_outcome(admin: Visitor, desk: Desk) -> None:
    usage = desk.client.get("/v1/usage", params={"group_by": ""}).json()["data"]
    before = float(usage[0]["usd"]) if usage else 0.0
    question = "At what time does the ferry to Wellhaven leave?"
    for cache in ("miss", "exact"):
        admin.go("chat/new", "Chat")
        expect(admin.page.locator("article")).to_have_count(0)
        admin.ask(question, documents="harbour", model=LARGE)
        facts = admin.answer().locator(".facts")
        expect(facts).to_contain_text(f"cache {cache}")
        expect(facts).to_contain_text(re.compile(r"\d+ m?s, first words after"))
        expect(facts).to_contain_text(re.compile(r"\d+ tokens read, \d+ written"))
        expect(facts).to_contain_text("$0.0000" if cache == "miss" else "saved")
    admin.go("usage", "Usage of your tenant")
    cost = admin.page.locator(".figure").filter(has_text="Today").locator("dd").first
    expect(cost).not_to_have_text("$0")
    after = float(desk.client.get("/v1/usage", params={"group_by": ""}).json()["data"][0]["usd"])
    assert after > before
    expect(admin.page.get_by_role("table", name="Usage by model").get_by_text(LARGE)).to_be_visible()


def test_a_reader_says_whether_an_answer_helped(admin: Visitor, desk: Desk) -> None:
    admin.go("chat", "Chat")
    admin.ask(QUESTION, documents="harbour")
    button = admin.answer().get_by_role("button", name="This answer did not help")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    newest = desk.client.get("/v1/feedback").json()["data"][0]
    assert (newest["rating"], newest["collection"]) == ("down", "harbour")


def test_a_reader_asks_documents_and_no_model_alone(
    someone: Callable[..., Visitor], new_key: Callable[..., dict[str, Any]]
) -> None:
    one = someone(new_key(role="reader")["key"])
    one.go("chat", "Chat")
    assert "no documents" not in one.page.get_by_label("Documents", exact=True).locator("option").all_inner_texts()
    one.ask(QUESTION, documents="harbour")
    expect(one.answer().locator(".answer-text")).to_contain_text("07:45")


def test_what_fails_is_told_with_its_remedy_and_can_be_asked_again(admin: Visitor, model: OpenAiServer) -> None:
    admin.go("chat", "Chat")
    admin.page.route("**/v1/chat/completions", lambda route: route.abort())
    admin.ask("hello there", documents="", model=MODEL)
    expect(admin.page.locator("article.theirs").get_by_role("alert")).to_contain_text("look whether it runs")
    admin.page.unroute("**/v1/chat/completions")
    admin.page.get_by_role("button", name="Ask again", exact=True).click()
    expect(admin.page.locator("article.theirs .answer-text")).to_contain_text("hello there")
