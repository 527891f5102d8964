"""Experiments, evaluations and GPUs with what real ones hold, and the page of the API's routes."""

import time
from collections.abc import Callable

import httpx
import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from storage.schema import evaluations
from tests.console.conftest import FERRY
from tests.console.house import TRIED
from tests.console.test_accessible import axe, faults
from tests.console.visitor import PHONE, Visitor
from tests.support.answering import Desk
from tests.support.waiting import until

__all__ = ["axe"]

pytestmark = pytest.mark.slow


def test_an_experiment_is_shown_before_its_first_call_and_with_what_its_sides_have_shown(
    admin: Visitor, desk: Desk
) -> None:
    """One that nobody had met yet was told as none."""
    desk.fill(TRIED, [("ferry.md", FERRY.encode())])
    admin.go("operations", "Operations")
    table = admin.page.get_by_role("table", name="Experiments")
    expect(table.get_by_role("row").filter(has_text="by-words")).to_contain_text(f"answers of {TRIED}, 50 %")
    for number in range(12):
        key = desk.client.post("/v1/admin/keys", json={"name": f"tried {number}"}).json()["key"]
        body = {"query": "When does the ferry to Wellhaven leave?", "collection": TRIED, "use_cache": False}
        asked = httpx.post(
            f"{desk.gate.url}/v1/query", json=body, headers={"authorization": f"Bearer {key}"}, timeout=120
        )
        assert asked.status_code == 200, asked.text
    admin.page.reload()
    rows = table.get_by_role("row")
    expect(rows).to_have_count(3)
    sides = {row.get_by_role("cell").nth(1).inner_text(): row for row in rows.all()[1:]}
    assert set(sides) == {"control", "variant"}
    assert sum(int(row.get_by_role("cell").nth(3).inner_text()) for row in sides.values()) == 12
    for row in sides.values():
        expect(row.get_by_role("cell").nth(5)).to_contain_text("s")
    admin.page.get_by_role("button", name="End by-words").click()
    admin.page.get_by_role("button", name="End it").click()
    expect(rows.nth(1)).to_contain_text("stopped")
    admin.page.get_by_role("button", name="Go on with by-words").click()
    expect(rows.nth(1)).to_contain_text("running")


def test_gpus_are_shown_with_their_models_and_those_that_are_nobodys(admin: Visitor) -> None:
    admin.go("operations", "Operations")
    rows = admin.page.get_by_role("table", name="GPUs").get_by_role("row")
    expect(rows).to_have_count(3)
    for text in ("node-7 0", "house-70b, house-8b", "88 %", "64 GB of 80 GB", "413 W"):
        expect(rows.nth(1)).to_contain_text(text)
    for text in ("node-7 1", "nobody's", "–"):
        expect(rows.nth(2)).to_contain_text(text)


def test_an_evaluation_is_shown_with_its_measures_its_days_and_why_one_failed(admin: Visitor, desk: Desk) -> None:
    desk.fill("judged", [("oil.md", b"The engine gets new oil every 250 hours."), ("dogs.md", b"Dogs wear a muzzle.")])
    asked = {
        "queries": [{"id": "q1", "text": "how often is oil changed"}, {"id": "q2", "text": "what do dogs wear"}],
        "qrels": [
            {"query_id": "q1", "document": "oil.md"},
            {"query_id": "q2", "document": "dogs.md"},
        ],
    }
    made = desk.client.put("/v1/collections/judged/evaluation", json=asked)
    assert made.status_code == 200, made.text
    path = "/v1/collections/judged/evaluation/results"
    until(lambda: desk.client.get(path).json()["data"], "the first evaluation", 180)
    earlier(desk)
    admin.go("documents/judged/evaluation", "judged")
    expect(admin.page.get_by_text("2 questions, judged by")).to_be_visible()
    figure = admin.page.locator(".figure").filter(has_text="ndcg@10").locator("dd").first
    expect(figure).to_have_text("1.000")
    chart = admin.page.get_by_role("img", name="Measures by day")
    expect(chart.locator("circle")).to_have_count(4)  # two measures on two days
    rows = admin.page.get_by_role("table", name="Results of the evaluation").get_by_role("row")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("whole")
    expect(rows.filter(has_text="failed")).to_contain_text("the index was <b>away</b>")


def earlier(desk: Desk) -> None:
    """A whole evaluation of the day before, and one that failed."""
    engine = sa.create_engine(f"sqlite:///{desk.gate.folder / 'stoker.db'}")
    with engine.begin() as connection:
        real = connection.execute(sa.select(evaluations)).one()
        worse = {
            **real.result,
            "measures": {name: {**one, "mean": 0.5} for name, one in real.result["measures"].items()},
        }
        about = {"collection_id": real.collection_id}
        day_before = f"eval_{'0' * 20}{real.id[-6:]}"
        rows = [
            {**about, "id": day_before, "outcome": "whole", "reason": None, "result": worse, "at": real.at - 86_400},
            {
                **about,
                "id": f"eval_{'0' * 25}a",
                "outcome": "failed",
                "reason": "the index was <b>away</b>",
                "result": None,
                "at": time.time() - 2 * 86_400,
            },
        ]
        connection.execute(evaluations.insert(), rows)
    engine.dispose()


@pytest.mark.parametrize("about", [{}, {"color_scheme": "dark", "viewport": PHONE}], ids=["wide", "phone"])
def test_the_routes_of_the_api_are_read_without_a_network(
    someone: Callable[..., Visitor], axe: str, about: dict[str, object]
) -> None:
    one = someone(None, **about)
    one.page.context.add_init_script(axe)
    asked: list[str] = []
    one.page.on("request", lambda request: asked.append(request.url))
    one.page.goto(f"{one.url}/docs")
    expect(one.page.get_by_role("heading", level=1)).to_contain_text("Routes of Stoker")
    one.page.get_by_label("Find routes").fill("/v1/search")
    route = one.page.locator("details.route:not([hidden])")
    expect(route).to_have_count(1)
    route.locator("summary").click()
    expect(route.get_by_role("row").filter(has_text="top_k")).to_contain_text("integer")
    expect(route.get_by_role("row").filter(has_text="collection")).to_contain_text("string, required")
    assert {url.split("/")[2] for url in asked} == {one.url.split("/")[2]}
    assert one.violations() == []
    assert faults(one) == []
    wide = one.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= one.page.viewport_size["width"]  # type: ignore[index]
