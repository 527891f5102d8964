"""Long lists stay usable, and the first look at the page is soon there; figures are printed."""

import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from core.ids import new_id
from storage.schema import api_keys, collections, documents
from tests.console.visitor import Visitor
from tests.support.answering import Desk
from tests.support.waiting import until

pytestmark = pytest.mark.slow

DOCUMENTS, KEYS = 10_000, 5_000
MOST_ROWS = 80  # in the document at any time


@pytest.fixture(scope="module")
def large(desk: Desk) -> str:
    """A collection of so many documents, and as many keys, as SQL has them."""
    name = "archive"
    desk.client.post("/v1/collections", json={"name": name}).raise_for_status()
    engine = sa.create_engine(f"sqlite:///{desk.gate.folder / 'stoker.db'}")
    now = time.time()
    with engine.begin() as connection:
        made = connection.execute(sa.select(collections).where(collections.c.live_name == name)).one()
        document = {
            "collection_id": made.id,
            "tenant_id": made.tenant_id,
            "media_type": "text/plain",
            "sha256": "0" * 64,
            "source_key": "none",
            "metadata": {},
            "status": "failed",
            "error": "the file is empty; send one with text",
            "created_at": now,
            "updated_at": now,
        }
        ids = sorted(new_id("doc") for _ in range(DOCUMENTS))  # as the list has them
        rows = [{**document, "id": id_, "filename": f"paper {at:05}.txt"} for at, id_ in enumerate(ids)]
        connection.execute(documents.insert(), rows)
        reader = sa.text(
            "INSERT INTO document_readers (document_id, reader) SELECT id, '*' FROM documents WHERE collection_id = :id"
        )
        connection.execute(reader, {"id": made.id})
        key = {"tenant_id": made.tenant_id, "prefix": "sk-stoker-many", "role": "member", "created_at": now}
        many = [{**key, "id": new_id("key"), "name": f"robot {at:04}", "sha256": f"{at:064}"} for at in range(KEYS)]
        connection.execute(api_keys.insert(), many)
    engine.dispose()
    return name


@pytest.mark.parametrize(
    ("place", "count", "last"), [("documents/archive", DOCUMENTS, "paper 09999.txt"), ("keys", KEYS, "first admin")]
)
def test_a_long_list_shows_its_first_rows_at_once_and_scrolls_to_its_end(
    admin: Visitor, large: str, place: str, count: int, last: str, figure: Callable[[str], None]
) -> None:
    begun = time.monotonic()
    admin.go(place)
    rows = admin.page.locator(".list-body .list-row")
    expect(rows.first).to_be_visible()
    first_s = time.monotonic() - begun
    scroller = admin.page.locator(".list-scroller")
    most = 0
    begun = time.monotonic()

    def at_the_end() -> bool:
        nonlocal most
        scroller.evaluate("one => one.scrollTo(0, one.scrollHeight)")
        most = max(most, rows.count())
        return bool(admin.page.get_by_text("in all").count())

    until(at_the_end, "the list's end", 180)
    scroller.evaluate("one => one.scrollTo(0, one.scrollHeight)")
    expect(rows.filter(has_text=last)).to_be_visible()
    end_s = time.monotonic() - begun
    assert most <= MOST_ROWS
    begun = time.monotonic()
    scroller.evaluate("one => one.scrollTo(0, one.scrollHeight / 2)")
    expect(rows.first).to_be_visible()
    jump_s = time.monotonic() - begun
    figure(
        f"{count} rows: first after {first_s:.2f} s, all fetched and the last shown after {end_s:.1f} s, "
        f"a jump to the middle {jump_s:.2f} s, at most {most} rows drawn"
    )


def test_one_of_many_is_found_by_a_part_of_its_name(admin: Visitor, large: str, figure: Callable[[str], None]) -> None:
    admin.go(f"documents/{large}", large)
    expect(admin.page.locator(".list-row").nth(1)).to_be_visible()
    begun = time.monotonic()
    admin.page.get_by_label("Find documents by a part of their name").fill("R 0777")
    expect(admin.page.get_by_text("10 in all")).to_be_visible()
    figure(f"10 of {DOCUMENTS} found by a part of their name in {time.monotonic() - begun:.2f} s")
    admin.page.get_by_label("Find documents by a part of their name").fill("100%_")
    expect(admin.page.get_by_text("No documents here")).to_be_visible()


def test_the_first_paint_is_soon(someone: Callable[..., Visitor], figure: Callable[[str], None]) -> None:
    paints = []
    for _ in range(5):
        one = someone(None)
        one.page.goto(f"{one.url}/")
        one.page.get_by_label("API key").wait_for()
        paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        until(lambda: one.page.evaluate(paint), "the first paint")  # noqa: B023
        paints.append(one.page.evaluate(paint))
    sent = one.page.evaluate(
        "performance.getEntriesByType('resource').reduce((sum, each) => sum + each.transferSize, 0)"
    )
    assert max(paints) > 0
    figure(f"first contentful paint, median of 5: {sorted(paints)[2]:.0f} ms; {sent / 1000:.0f} kB sent")
