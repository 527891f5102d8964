"""/v1/feedback, through the whole application, on each database."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ledger.line import row
from api.ledger.reports import day_of
from core.clock import ManualClock
from core.ids import new_id, unique_hex
from monitoring.metrics import FEEDBACK, exposition
from monitoring.tally import tally
from storage.schema import collections, feedback, ledger, ledger_asked
from tests.support.gate import Gate, open_gate
from tests.support.ledger import NOON, a_line

PATH = "/v1/feedback"
SUMMARY = f"{PATH}/summary"


@dataclass
class Two:
    """Two tenants, each with an answer of the same request id, one of its own, a manager and a reader."""

    gate: Gate
    ids: dict[str, str]
    managers: dict[str, str]
    readers: dict[str, str]


async def answered(gate: Gate, tenant_id: str, request_id: str, model: str = "small", **fields: Any) -> None:
    """Have a line of the ledger in SQL, as the keeper brings it."""
    line = a_line(f"{unique_hex()}.{request_id}"[:128], tenant_id=tenant_id, model_group=model, **fields)
    await gate.database.write(lambda connection: connection.execute(ledger.insert().values(row(line))))


async def collection(gate: Gate, tenant_id: str, name: str) -> str:
    """Have a collection in SQL."""
    made = {
        "id": new_id("col"),
        "tenant_id": tenant_id,
        "name": name,
        "live_name": name,
        "metadata": {},
        "chunking": {},
        "embedding_space": "s",
        "dimensions": 1,
        "average_terms": 1.0,
        "created_at": 0.0,
    }
    await gate.database.write(lambda connection: connection.execute(collections.insert().values(made)))
    return str(made["id"])


@pytest.fixture
async def two(gate: Gate) -> Two:
    made: dict[str, dict[str, str]] = {"ids": {}, "managers": {}, "readers": {}}
    for name in ("acme", "bolt"):
        made["ids"][name] = (await gate.made("/v1/admin/tenants", name=name))["id"]
        made["managers"][name] = (await gate.key("manager", tenant=name))["key"]
        made["readers"][name] = (await gate.key("reader", tenant=name))["key"]
        await answered(gate, made["ids"][name], "req_same", model=f"of {name}")
        await answered(gate, made["ids"][name], f"req_{name}", model=f"of {name}")
    return Two(gate, **made)


async def give(gate: Gate, key: str, request_id: str, rating: str = "up", **fields: Any) -> httpx.Response:
    return await gate.call("POST", PATH, key, json={"request_id": request_id, "rating": rating, **fields})


async def listed(gate: Gate, key: str, **params: Any) -> list[dict[str, Any]]:
    answer = await gate.call("GET", PATH, key, params=params)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert "error" in answer.json(), answer.text
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_reader_says_whether_an_answer_helped_and_the_manager_reads_it(two: Two) -> None:
    answer = await give(two.gate, two.readers["acme"], "req_acme", "down", comment="It missed the ferry.")
    assert answer.status_code == 200, answer.text
    word = answer.json()
    assert (word["object"], word["request_id"], word["rating"]) == ("feedback", "req_acme", "down")
    assert (word["comment"], word["model"], word["collection"]) == ("It missed the ferry.", "of acme", None)
    assert abs(word["created_at"] - time.time()) < 60
    assert await listed(two.gate, two.managers["acme"]) == [word]


async def test_another_tenants_request_is_not_there_nor_are_words_on_it(two: Two) -> None:
    foreign = await give(two.gate, two.readers["acme"], "req_bolt")
    unknown = await give(two.gate, two.readers["acme"], "req_none")
    assert code_of(foreign) == code_of(unknown) == (404, "request_not_found")
    assert "send the x-request-id of the answer" in unknown.json()["error"]["message"]
    assert unknown.text.replace("none", "bolt") == foreign.text
    for name in ("acme", "bolt"):  # the same id in both: each has its own answer, and its own word
        assert (await give(two.gate, two.readers[name], "req_same")).json()["model"] == f"of {name}"
        assert [word["model"] for word in await listed(two.gate, two.managers[name])] == [f"of {name}"]
        summary = (await two.gate.call("GET", SUMMARY, two.managers[name])).json()
        assert (summary["up"], [one["model"] for one in summary["data"]]) == (1, [f"of {name}"])


async def test_an_admin_too_rates_and_reads_the_own_tenant_alone(two: Two) -> None:
    assert code_of(await give(two.gate, two.gate.admin, "req_acme"))[0] == 404
    await give(two.gate, two.readers["acme"], "req_acme")
    assert await listed(two.gate, two.gate.admin) == []


async def test_only_managers_and_admins_read_and_whoever_asks_may_rate(two: Two) -> None:
    gate = two.gate
    for role, gives, reads in (("reader", 200, 403), ("member", 200, 403), ("ingest", 403, 403), ("manager", 200, 200)):
        key = (await gate.key(role, tenant="acme"))["key"]
        assert (await give(gate, key, "req_acme")).status_code == gives, role
        for path in (PATH, SUMMARY):
            assert (await gate.call("GET", path, key)).status_code == reads, role


async def test_a_second_word_of_the_same_reader_replaces_the_first(two: Two) -> None:
    reader, other = two.readers["acme"], (await two.gate.key("reader", tenant="acme"))["key"]
    first = (await give(two.gate, reader, "req_acme", "down", comment="No.")).json()
    await give(two.gate, other, "req_acme", "down")
    second = (await give(two.gate, reader, "req_acme", "up")).json()
    assert (second["id"], second["created_at"]) == (first["id"], first["created_at"])
    assert (second["rating"], second["comment"]) == ("up", None)
    words = await listed(two.gate, two.managers["acme"])
    assert sorted(word["rating"] for word in words) == ["down", "up"]
    assert len({word["who"] for word in words}) == 2


async def test_two_keys_of_one_user_are_one_reader(two: Two) -> None:
    user = await two.gate.made("/v1/admin/users", name="Ada", tenant="acme")
    keys = [(await two.gate.key("reader", tenant="acme", user=user["id"]))["key"] for _ in range(2)]
    for key, rating in zip(keys, ("up", "down"), strict=True):
        await give(two.gate, key, "req_acme", rating)
    assert [(one["who"], one["rating"]) for one in await listed(two.gate, two.managers["acme"])] == [
        (user["id"], "down")
    ]


async def test_pages_lead_through_all_words_the_newest_first(two: Two) -> None:
    gate, manager = two.gate, two.managers["acme"]
    for number in range(7):
        await answered(gate, two.ids["acme"], f"req_{number}")
        await give(gate, two.readers["acme"], f"req_{number}")
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        body = (await gate.call("GET", PATH, manager, params={"limit": 3, **after})).json()
        seen += [word["id"] for word in body["data"]]
        after = {"after": body["last_id"]}
        if not body["has_more"]:
            break
    assert len(seen) == 7
    assert seen == sorted(seen, reverse=True)
    answer = await gate.call("GET", PATH, manager, params={"after": "key_1"})
    assert code_of(answer) == (400, "invalid_request")


async def test_filters_narrow_by_rating_model_and_collection(two: Two) -> None:
    gate, reader, manager = two.gate, two.readers["acme"], two.managers["acme"]
    await collection(gate, two.ids["acme"], "papers")
    await collection(gate, two.ids["bolt"], "theirs")
    for number, (rating, model, named) in enumerate([("up", "a", "papers"), ("down", "a", None), ("down", "b", None)]):
        await answered(gate, two.ids["acme"], f"req_{number}", model=model)
        fields = {} if named is None else {"collection": named}
        assert (await give(gate, reader, f"req_{number}", rating, **fields)).status_code == 200
    found = {
        name: [word["request_id"] for word in await listed(gate, manager, **params)]
        for name, params in {
            "down": {"rating": "down"},
            "a": {"model": "a"},
            "both": {"rating": "down", "model": "a"},
            "papers": {"collection": "papers"},
            "none": {"collection": "theirs"},
        }.items()
    }
    assert found == {"down": ["req_2", "req_1"], "a": ["req_1", "req_0"], "both": ["req_1"], "papers": ["req_0"]} | {
        "none": []
    }
    for name in ("theirs", "nowhere"):  # another tenant's collection is none
        assert code_of(await give(gate, reader, "req_0", collection=name)) == (404, "collection_not_found")
    assert (await gate.call("GET", PATH, manager, params={"rating": "sideways"})).status_code == 400


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("request_id", ""),
        ("request_id", "a b"),
        ("request_id", "a" * 129),
        ("rating", "sideways"),
        ("comment", "x" * 2001),
        ("comment", "a\0b"),
        ("comment", "\ud800"),
        ("collection", "a\0b"),
        ("more", 1),
    ],
)
async def test_what_is_no_feedback_is_refused_by_its_field(light_gate: Gate, field: str, value: object) -> None:
    body = {"request_id": "req_1", "rating": "up"} | {field: value}
    headers = {"x-api-key": light_gate.admin, "content-type": "application/json"}
    answer = await light_gate.client.post(PATH, content=json.dumps(body), headers=headers)  # escaped, so no bad UTF-8
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == field


async def test_a_long_id_of_a_client_is_found_as_the_ledger_cut_it(two: Two) -> None:
    long = "client:" + "x" * 121
    await answered(two.gate, two.ids["acme"], long)
    told = [(await give(two.gate, two.readers["acme"], name)).json() for name in (long, f"{long[:103]}0", long[:103])]
    assert [one["request_id"] for one in told] == [long[:103]] * 3
    assert len({one["id"] for one in told}) == 1


async def test_of_two_answers_to_one_id_the_newest_is_meant(two: Two) -> None:
    for at, model in ((NOON + 60, "new"), (NOON, "old")):
        await answered(two.gate, two.ids["acme"], "req_twice", model=model, at=at)
    assert (await give(two.gate, two.readers["acme"], "req_twice")).json()["model"] == "new"


async def test_a_summary_counts_by_day_and_model_over_the_days_asked_for(url: str, tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    async with open_gate(url, tmp_path / "data", clock=clock) as gate:
        tenant_id = (await gate.call("GET", "/v1/session")).json()["tenant"]
        for number, (days, model, rating) in enumerate(
            [(0, "a", "up"), (0, "a", "down"), (0, "b", "up"), (3, "a", "down"), (0, "a", "down"), (2, "a", "up")]
        ):
            clock.advance(days * 86_400)
            await answered(gate, tenant_id, f"req_{number}", model=model)
            assert (await give(gate, gate.admin, f"req_{number}", rating)).status_code == 200
        expected = [
            {"day": day_of(NOON), "model": "a", "up": 1, "down": 1},
            {"day": day_of(NOON), "model": "b", "up": 1, "down": 0},
            {"day": day_of(NOON + 3 * 86_400), "model": "a", "up": 0, "down": 2},
            {"day": day_of(NOON + 5 * 86_400), "model": "a", "up": 1, "down": 0},
        ]
        for days, first in ((30, 0), (6, 0), (5, 2), (3, 2), (2, 3), (1, 3)):
            body = (await gate.call("GET", SUMMARY, params={"days": days})).json()
            assert body["data"] == expected[first:], days
            assert (body["up"], body["down"]) == (
                sum(one["up"] for one in expected[first:]),
                sum(one["down"] for one in expected[first:]),
            )
        for days in (0, 91):
            assert (await gate.call("GET", SUMMARY, params={"days": days})).status_code == 400


async def test_a_comment_stands_in_no_log_line_and_no_metric_also_where_sql_refuses_it(
    two: Two, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "Zanzibar-7731"
    assert (await give(two.gate, two.readers["acme"], "req_acme", comment=secret)).status_code == 200

    def refuse(_: object) -> str:
        return two.ids["acme"]  # a key that is taken

    await two.gate.database.write(
        lambda connection: connection.execute(
            feedback.insert().values(
                id=two.ids["acme"], tenant_id=two.ids["acme"], request_id="r", who="w", rating="up",
                model_group="m", created_at=0.0, updated_at=0.0,
            )
        )
    )  # fmt: skip
    monkeypatch.setattr("api.feedback.store.new_id", refuse)
    answer = await give(two.gate, two.readers["acme"], "req_same", comment=secret)
    assert answer.status_code == 500
    tally.flush()
    logged = capfd.readouterr().err + caplog.text
    assert "IntegrityError" in logged  # the error is told of
    assert secret not in logged + exposition()[0].decode() + answer.text


async def test_ratings_are_counted(two: Two) -> None:
    def counted() -> dict[str, float]:
        tally.flush()
        return {word: FEEDBACK.labels(word)._value.get() for word in ("up", "down")}

    before = counted()
    await give(two.gate, two.readers["acme"], "req_acme", "down")
    await give(two.gate, two.readers["acme"], "req_none", "down")  # not taken
    assert {word: value - before[word] for word, value in counted().items()} == {"up": 0, "down": 1}


async def test_a_request_is_found_by_the_index_made_for_it(gate: Gate) -> None:
    """Without it, each word would read all lines of the tenant."""
    query = sa.select(ledger.c.model_group).where(ledger.c.tenant_id == "t", ledger_asked == "r")

    async def plan(connection: AsyncConnection) -> str:
        if not gate.database.is_sqlite:
            await connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        text = str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN QUERY PLAN" if gate.database.is_sqlite else "EXPLAIN"
        return str((await connection.execute(sa.text(f"{explain} {text}"))).all())

    assert "ix_ledger_tenant_id_asked" in await gate.database.read(plan)
