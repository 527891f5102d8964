"""Documents in a real browser: sending them, watching them, why one failed, finding and deleting them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.console.visitor import Visitor
from tests.support.answering import Desk
from tests.support.waiting import until
from tests.unit.retrieval.files import pdf

pytestmark = pytest.mark.slow


@pytest.fixture
def papers(desk: Desk) -> str:
    name = f"papers-{len(desk.client.get('/v1/collections', params={'limit': 100}).json()['data'])}"
    desk.client.post("/v1/collections", json={"name": name}).raise_for_status()
    return name


def test_a_pdf_is_sent_passes_its_stages_and_is_read_at_its_page(admin: Visitor, papers: str, tmp_path: Path) -> None:
    file = tmp_path / "harbour rules.pdf"
    texts = ("Boats moor at the northern pier.", "The signal mast carries a blue lantern at night.")
    file.write_bytes(pdf([[(50, 700, text)] for text in texts]))
    told: list[str] = []
    admin.page.expose_function("told", lambda status: told.append(status))
    admin.go(f"documents/{papers}", papers)
    admin.page.evaluate(
        """() => new MutationObserver((changes) => {
             for (const { target } of changes) if (target.dataset.status) window.told(target.dataset.status);
           }).observe(document.querySelector(".uploads"),
                      { subtree: true, attributes: true, attributeFilter: ["data-status"] })"""
    )
    admin.page.get_by_label("Choose files").set_input_files(file)
    row = admin.page.get_by_role("row").filter(has_text="harbour rules.pdf")
    expect(row.get_by_text("ready")).to_be_visible()
    expect(row.get_by_role("cell").nth(2)).to_have_text("2")
    until(lambda: admin.page.title() and "ready" in told, "the last stage is shown")  # a call has it be told
    assert len(set(told)) >= 2, told  # stages were shown as they passed, not the end alone

    admin.go(f"documents/{papers}/search", papers)
    admin.page.get_by_role("searchbox", name="Search").fill("blue lantern")
    admin.page.keyboard.press("Enter")
    hit = admin.page.locator(".hit").first
    expect(hit).to_contain_text("page 1")  # where its passage begins
    hit.get_by_role("button").click()
    expect(admin.page.locator("dialog mark")).to_contain_text("blue lantern")
    expect(admin.page.locator("dialog").get_by_text("page 1")).to_be_visible()


def test_files_are_taken_by_drag_and_drop(admin: Visitor, papers: str) -> None:
    admin.go(f"documents/{papers}", papers)
    admin.page.locator(".drop").wait_for()
    admin.page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["The drawbridge opens at noon."], "bridge.txt", { type: "text/plain" }));
          document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }"""
    )
    expect(admin.page.get_by_role("row").filter(has_text="bridge.txt").get_by_text("ready")).to_be_visible()


def test_why_a_document_failed_is_told_and_it_can_be_tried_again(
    admin: Visitor, papers: str, desk: Desk, tmp_path: Path
) -> None:
    file = tmp_path / "nothing.txt"
    file.write_bytes(b"")
    admin.go(f"documents/{papers}", papers)
    admin.page.get_by_label("Choose files").set_input_files(file)
    upload = admin.page.locator(".upload").filter(has_text="nothing.txt")
    expect(upload.get_by_role("alert")).to_contain_text("empty")
    expect(upload.get_by_role("button", name="Try again")).to_be_visible()

    admin.page.reload()
    admin.page.get_by_label("Show documents of one state").select_option("failed")
    admin.page.get_by_role("button", name="failed: why?").click()
    expect(admin.page.get_by_role("dialog").get_by_role("alert")).to_contain_text("empty")
    with admin.page.expect_response("**/retry") as retried:
        admin.page.get_by_role("dialog").get_by_role("button", name="Try again").click()
    assert retried.value.status == 200
    expect(admin.page.locator(".upload").filter(has_text="nothing.txt")).to_be_visible()


def test_facets_narrow_a_search_and_a_mistake_is_mended(admin: Visitor, papers: str, desk: Desk) -> None:
    documents = [
        {"title": f"log {year}", "content": f"Cargo manifest of the year {year}.", "metadata": {"year": year}}
        for year in (1901, 1902, 1902)
    ]
    documents[2]["title"] = "log 1902 again"
    job = desk.client.post("/v1/ingest", json={"collection": papers, "documents": documents}).json()["job_id"]
    until(lambda: desk.client.get(f"/v1/jobs/{job}").json()["status"] == "succeeded", "the job")
    admin.go(f"documents/{papers}/search", papers)
    admin.page.get_by_label("Count values of").fill("year")
    admin.page.get_by_role("searchbox", name="Search").fill("cargo manifest")
    admin.page.keyboard.press("Enter")
    expect(admin.page.locator(".hit")).to_have_count(3)
    facet = admin.page.locator(".facet").filter(has_text="1902")
    expect(facet).to_contain_text("2")
    facet.click()
    expect(admin.page.locator(".hit")).to_have_count(2)
    expect(admin.page.locator(".facet").filter(has_text="1902")).to_have_attribute("aria-pressed", "true")


def test_a_document_and_a_collection_are_deleted_only_when_it_is_confirmed(
    admin: Visitor, papers: str, desk: Desk
) -> None:
    job = desk.client.post(
        "/v1/ingest", json={"collection": papers, "documents": [{"title": "gone", "content": "Soon to go."}]}
    ).json()["job_id"]
    until(lambda: desk.client.get(f"/v1/jobs/{job}").json()["status"] == "succeeded", "the job")
    path = f"/v1/collections/{papers}"
    admin.go(f"documents/{papers}", papers)
    admin.page.get_by_role("button", name="Delete gone").click()
    admin.page.get_by_role("button", name="Keep it").click()
    assert len(desk.client.get(f"{path}/documents").json()["data"]) == 1
    admin.page.get_by_role("button", name="Delete gone").click()
    admin.page.get_by_role("button", name="Delete", exact=True).click()
    expect(admin.page.get_by_text("No documents here")).to_be_visible()
    assert desk.client.get(f"{path}/documents").json()["data"] == []

    admin.go(f"documents/{papers}/settings", papers)
    admin.page.reload()
    admin.page.get_by_role("button", name="Delete this collection").click()
    admin.page.get_by_role("button", name="Delete all of it").click()
    assert desk.client.get(path).status_code == 200  # its name was not typed
    admin.page.get_by_label(f"Type {papers} to go on").fill(papers)
    admin.page.get_by_role("button", name="Delete all of it").click()
    until(lambda: desk.client.get(path).status_code == 404, "the collection is gone")


def test_settings_hold_for_the_next_question(admin: Visitor, papers: str, desk: Desk) -> None:
    admin.go(f"documents/{papers}/settings", papers)
    admin.page.get_by_label("Search by").select_option("lexical")
    admin.page.get_by_label("Who answers").select_option("quote")
    admin.page.get_by_role("button", name="Keep these settings").click()
    expect(admin.page.get_by_text("The settings hold")).to_be_visible()
    found = desk.client.get(f"/v1/collections/{papers}").json()
    assert (found["search"]["mode"], found["answers"]["generate"]) == ("lexical", "quote")


def test_a_key_that_puts_documents_in_sends_and_reads_none(
    someone: Callable[..., Visitor], new_key: Callable[..., dict[str, Any]], papers: str, tmp_path: Path, desk: Desk
) -> None:
    file = tmp_path / "note.txt"
    file.write_text("The tide turns at six.")
    one = someone(new_key(role="ingest")["key"])
    one.go("documents", "Send documents")
    one.page.get_by_label("Collection").fill(papers)
    one.page.get_by_role("button", name="Choose", exact=True).click()
    one.page.get_by_label("Choose files").set_input_files(file)
    expect(one.page.locator(".upload").filter(has_text="note.txt").locator(".badge.good")).to_be_visible()
    assert [each["filename"] for each in desk.client.get(f"/v1/collections/{papers}/documents").json()["data"]] == [
        "note.txt"
    ]
