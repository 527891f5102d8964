"""Daily evaluations: one worker does each, once a day, and what it writes late is refused."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.clock import ManualClock, SystemClock
from core.dependency import DependencyError
from core.principal import Principal, Role
from core.reach import HOME, Reach
from retrieval.errors import EvaluationNotFound, InputInvalid, LeaseLost
from retrieval.evaluation.daily import DailyEvaluations, Result, new_result
from retrieval.evaluation.evaluator import Evaluation, Judged, Progress, Score
from retrieval.evaluation.runner import Runner
from retrieval.evaluation.statistics import Mean
from retrieval.evaluation.turns import LEASE_S, SOON_S, Turn, Turns
from retrieval.life import DAY_S
from retrieval.sweep import Sweep
from storage.schema import collections, daily_evaluations, evaluations, tenants
from storage.sql import Database
from tests.integration.retrieval.conftest import House
from tests.support.catalog import NAME, Catalog, new_catalog
from tests.support.database import fresh_sqlite
from tests.support.process import ROOT

QUESTIONS = [Judged("1", "the fee at the pier", {"pier.md": 1}), Judged("2", "the tide", {"tide.md": 2, "fog.md": 0})]
START = 1_795_262_400.0


class Scripted:
    """An evaluator that says what it is told to.

    Attributes:
        during: called between two searches.
    """

    def __init__(self, ndcg: float = 0.8, degraded: int = 0, error: Exception | None = None) -> None:
        self.ndcg, self.degraded, self.error = ndcg, degraded, error
        self.asked: list[tuple[Any, ...]] = []
        self.during: Callable[[], Any] | None = None

    async def run(self, *asked: Any) -> AsyncIterator[Progress | Evaluation]:
        self.asked.append(asked)
        questions: Sequence[Judged] = asked[2]
        for done in range(1, 4):
            await asyncio.sleep(0)
            if self.during is not None:
                await self.during()
            yield Progress(done, 3)
        if self.error is not None:
            raise self.error
        mean = Mean(self.ndcg, self.ndcg - 0.1, self.ndcg + 0.1)
        score = Score("usual", {"ndcg@10": mean, "mrr": mean}, {}, 5.0, 9.0, self.degraded)
        yield Evaluation(questions, [score], [], (7, 7), 1, ["gone.md"])


class Days:
    """A catalog whose collection is evaluated, by a clock of the test."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.database = catalog.database
        self.clock = ManualClock(START)
        self.daily = DailyEvaluations(self.database, self.clock)
        self.principal = Principal(catalog.tenant_id, "key_1", Role.MANAGER)

    def turns(self, worker: str = "w") -> Turns:
        return Turns(self.database, self.clock, worker)

    def runner(self, evaluator: Scripted, worker: str = "w") -> Runner:
        return Runner(self.turns(worker), evaluator, self.clock)  # type: ignore[arg-type]

    async def put(self, principal: Principal | None = None) -> None:
        await self.daily.put(principal or self.principal, NAME, QUESTIONS, "filename")

    async def results(self) -> list[Result]:
        return list(await self.daily.results(self.principal, NAME, None, 100))[::-1]

    async def due(self) -> float:
        return (await self.daily.get(self.principal, NAME)).due_at

    async def write(self, statement: Any) -> None:
        await self.database.write(lambda connection: connection.execute(statement))


@pytest.fixture
async def days(catalog: Catalog) -> Days:
    for table in (daily_evaluations, evaluations):  # the database is shared, and a worker looks at all of it
        await catalog.database.write(lambda connection, table=table: connection.execute(table.delete()))
    return Days(catalog)


async def test_of_many_workers_one_evaluates_what_is_due(days: Days) -> None:
    await days.put()
    evaluator = Scripted()
    did = await asyncio.gather(*(days.runner(evaluator, f"w{n}").once() for n in range(6)))
    assert sorted(did) == [False] * 5 + [True]
    assert len(evaluator.asked) == len(await days.results()) == 1
    days.clock.advance(DAY_S - 1)
    assert not await days.runner(evaluator).once()
    days.clock.advance(1)
    assert await days.runner(evaluator).once()
    assert len(await days.results()) == 2


async def test_what_came_of_it_is_kept_and_told(days: Days) -> None:
    await days.put()
    await days.runner(Scripted(0.81)).once()
    setting = await days.daily.get(days.principal, NAME)
    assert (setting.questions, setting.judged_by, setting.created_by) == (2, "filename", "key:key_1")
    assert setting.last is not None
    assert setting.last.outcome == "whole"
    assert setting.last.figures == {
        "questions": 2,
        "collection_version": 7,
        "missing_documents": 1,
        "degraded_queries": 0,
        "measures": {name: {"mean": 0.81, "low": 0.71, "high": 0.91} for name in ("ndcg@10", "mrr")},
        "search_ms": {"p50": 5.0, "p99": 9.0},
    }
    assert [setting.last] == await days.results()


async def test_it_is_due_at_the_same_time_of_each_day_whatever_was_missed(days: Days) -> None:
    await days.put()
    for passed_s, due in ((100.0, 1), (DAY_S - 90, 2), (3.5 * DAY_S, 5)):
        days.clock.advance(passed_s)
        assert await days.runner(Scripted()).once()
        assert await days.due() == START + due * DAY_S


async def test_what_is_tried_again_soon_keeps_its_time_of_the_day(days: Days) -> None:
    """Regression: each evaluation for which a part was away moved the ones of all later days by an hour."""
    await days.put()
    for _ in range(3):  # in vain: at first, and each hour
        assert await days.runner(Scripted(degraded=1)).once()
        days.clock.advance(SOON_S)
    assert await days.runner(Scripted()).once()
    assert await days.due() == START + DAY_S
    days.clock.advance(DAY_S - 3 * SOON_S - 1 + 23 * SOON_S + SOON_S / 2)  # half an hour before the next one
    assert await days.runner(Scripted(degraded=1)).once()
    assert await days.due() == START + 2 * DAY_S, "one that is soon is no later than the day's own"


async def test_a_dead_workers_turn_is_anothers_once_its_lease_is_over_and_it_writes_no_more(days: Days) -> None:
    await days.put()
    dead = await days.turns("dead").take()
    assert dead is not None
    other = days.runner(Scripted(0.5), "other")
    assert not await other.once()
    days.clock.advance(LEASE_S - 1)
    assert not await other.once()
    days.clock.advance(1)
    assert await other.once()
    late = new_result("whole", None, {"measures": {}}, days.clock.time())
    for act in (days.turns("dead").renew(dead), days.turns("dead").release(dead)):
        with pytest.raises(LeaseLost):
            await act
    with pytest.raises(LeaseLost):
        await days.turns("dead").end(dead, late, soon=False)
    (kept,) = await days.results()
    assert kept.id != late.id


async def test_a_set_that_is_named_again_is_not_that_of_whoever_had_the_one_before(days: Days) -> None:
    await days.put()
    before = await days.turns("before").take()
    assert before is not None
    await days.daily.remove(days.principal, NAME)
    await days.put()
    now = await days.turns("now").take()
    assert now is not None
    assert now.fence == before.fence
    with pytest.raises(LeaseLost):
        await days.turns("before").end(before, new_result("whole", None, {}, days.clock.time()), soon=False)
    await days.turns("now").renew(now)


async def test_a_long_evaluation_stays_with_its_worker(days: Days) -> None:
    await days.put()
    evaluator = Scripted()
    other = days.turns("other")
    others: list[Turn | None] = []

    async def half_a_lease() -> None:
        days.clock.advance(LEASE_S / 2)
        others.append(await other.take())

    evaluator.during = half_a_lease
    assert await days.runner(evaluator).once()
    assert others == [None] * 3
    assert [one.outcome for one in await days.results()] == ["whole"]


@pytest.mark.parametrize(
    ("evaluator", "outcome", "reason", "soon"),
    [
        (Scripted(degraded=1), "degraded", None, True),
        (Scripted(error=DependencyError("milvus", "gone")), "failed", "gone", True),
        (Scripted(error=InputInvalid("judged_by", "None is there.")), "failed", "None is there.", False),
        (Scripted(error=KeyError("secret")), "failed", "the worker's log has the details", True),
    ],
    ids=["degraded", "away", "refused", "defect"],
)
async def test_what_is_not_whole_counts_not_and_is_tried_again(
    days: Days, evaluator: Scripted, outcome: str, reason: str | None, soon: bool
) -> None:
    await days.put()
    await days.runner(Scripted(0.9)).once()
    days.clock.advance(DAY_S)
    await days.runner(evaluator).once()
    whole, other = await days.results()
    assert (other.outcome, (other.figures or {}).get("degraded_queries")) == (outcome, evaluator.degraded or None)
    assert (reason or "") in (other.reason or "")
    assert "secret" not in (other.reason or "")
    setting = await days.daily.get(days.principal, NAME)
    assert setting.last == whole
    assert setting.due_at == START + DAY_S + (SOON_S if soon else DAY_S)


async def test_a_set_that_is_replaced_while_it_is_evaluated_has_no_result_and_is_due(days: Days) -> None:
    await days.put()
    evaluator = Scripted()
    evaluator.during = days.put
    assert await days.runner(evaluator).once()
    assert await days.results() == []
    evaluator.during = None
    assert await days.runner(evaluator).once()
    assert len(await days.results()) == 1


async def test_a_new_set_has_no_last_result(days: Days) -> None:
    await days.put()
    await days.runner(Scripted()).once()
    await days.put()
    setting = await days.daily.get(days.principal, NAME)
    assert (setting.last, setting.due_at) == (None, START)
    assert len(await days.results()) == 1


async def test_a_worker_that_ends_gives_its_turn_back(days: Days) -> None:
    await days.put()
    evaluator, begun = Scripted(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    evaluator.during = wait
    work = asyncio.create_task(days.runner(evaluator).run())
    await begun.wait()
    assert await days.turns("other").take() is None
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await days.turns("other").take() is not None


@pytest.mark.parametrize("gone", ["deleted", "expired", "disabled", "off"])
async def test_what_is_gone_or_switched_off_is_not_evaluated(days: Days, gone: str) -> None:
    await days.put()
    here = collections.c.id == days.catalog.collection_id
    if gone == "off":
        await days.daily.remove(days.principal, NAME)
        for act in (days.daily.get, days.daily.remove):
            with pytest.raises(EvaluationNotFound):
                await act(days.principal, NAME)
    elif gone == "disabled":
        await days.write(tenants.update().where(tenants.c.id == days.catalog.tenant_id).values(disabled_at=1.0))
    else:
        await days.write(collections.update().where(here).values(**{f"{gone}_at": 1.0}))
    assert not await days.runner(Scripted()).once()


async def test_it_searches_as_a_manager_whose_text_goes_no_further_than_the_tenants_and_the_makers(days: Days) -> None:
    azure, eu = Reach(providers=frozenset({"azure"})), Reach(regions=frozenset({"eu"}))
    await days.put(Principal(days.catalog.tenant_id, "key_1", Role.ADMIN, reach=azure))
    for row, expected in ((None, azure), (eu.row(), azure.narrowed(eu)), (HOME.row(), azure.narrowed(HOME))):
        await days.write(tenants.update().where(tenants.c.id == days.catalog.tenant_id).values(reach=row))
        turn = await days.turns().take()
        assert turn is not None
        assert turn.principal == Principal(days.catalog.tenant_id, None, Role.MANAGER, reach=expected)
        assert turn.questions == tuple(QUESTIONS)
        await days.turns().release(turn)


async def test_results_are_paged_and_old_ones_go(days: Days) -> None:
    await days.put()
    for _ in range(3):
        await days.runner(Scripted()).once()
        days.clock.advance(DAY_S)
    newest, middle, oldest = await days.daily.results(days.principal, NAME, None, 100)
    assert list(await days.daily.results(days.principal, NAME, None, 2)) == [newest, middle]
    assert list(await days.daily.results(days.principal, NAME, middle.id, 2)) == [oldest]
    days.clock.advance(397.5 * DAY_S)
    await days.runner(Scripted()).once()
    assert [one.id for one in await days.results()][:2] == [middle.id, newest.id]


async def test_another_tenants_collection_is_not_there(days: Days) -> None:
    await days.put()
    await days.runner(Scripted()).once()
    other = Principal((await new_catalog(days.database)).tenant_id, "key_2", Role.MANAGER)  # with one of the same name
    for act in (days.daily.get(other, NAME), days.daily.remove(other, NAME)):
        with pytest.raises(EvaluationNotFound):
            await act
    assert list(await days.daily.results(other, NAME, None, 10)) == []
    assert (await days.daily.get(days.principal, NAME)).last is not None


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [Judged("1", "a\0b", {"d": 1})],
        [Judged("1", "a", {"\ud800": 1})],
        [Judged("1", "a", {"d": 0})],
        [Judged("1", "a", {"d": 1}), Judged("1", "b", {"d": 1})],
    ],
    ids=["none", "zero byte", "half a sign", "nothing relevant", "one id twice"],
)
async def test_what_cannot_be_evaluated_is_refused_at_once(days: Days, bad: list[Judged]) -> None:
    with pytest.raises(InputInvalid):
        await days.daily.put(days.principal, NAME, bad, "filename")


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Database]:
    """A database that no other test knows."""
    opened = Database(fresh_sqlite(tmp_path / "stoker.db"), 30.0)
    yield opened
    await opened.close()


_TELL = """
import asyncio, sys
from monitoring.metrics import exposition
from retrieval.evaluation.telling import Telling
from storage.sql import Database

async def main():
    database = Database(sys.argv[1], 30.0)
    telling = Telling(database)
    for _ in sys.stdin:
        await telling.tell()
        print(exposition()[0].decode() + "# END", flush=True)
    await database.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("anew", [False, True], ids=["one keeper", "each time another"])
async def test_scores_are_told_of_what_is_switched_on_alone(tmp_path: Path, own: Database, anew: bool) -> None:
    """A keeper that is started again finds the series of the one before, and takes back what is off by now."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'stoker.db'}"
    days = Days(await new_catalog(own))
    (tmp_path / "metrics").mkdir()
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    keepers = ExitStack()

    def keeper() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _TELL, url]
        return keepers.enter_context(
            subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )

    def told() -> dict[str, float]:
        nonlocal process
        if anew:
            keepers.close()
            process = keeper()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("tell\n")
        process.stdin.flush()
        found = []
        while (line := process.stdout.readline()) != "# END\n":
            assert line, "the process has ended"
            found += [line] if line.startswith("stoker_evaluation_") else []
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in found)}

    with keepers:
        process = keeper()
        assert told() == {}
        await days.put()
        assert told() == {}
        at, id_ = START, days.catalog.collection_id
        for ndcg in (0.8, 0.6):
            await days.runner(Scripted(ndcg)).once()
            assert told() == {
                f'stoker_evaluation_timestamp_seconds{{collection="{id_}"}}': at,
                f'stoker_evaluation_score{{collection="{id_}",metric="ndcg@10"}}': ndcg,
                f'stoker_evaluation_score{{collection="{id_}",metric="mrr"}}': ndcg,
            }
            days.clock.advance(DAY_S)
            at += DAY_S
        assert any(id_.encode() in file.read_bytes() for file in (tmp_path / "metrics").iterdir())
        await days.daily.remove(days.principal, NAME)
        assert told() == {}
        assert not any(id_.encode() in file.read_bytes() for file in (tmp_path / "metrics").iterdir())
        await days.put()
        await days.runner(Scripted(0.7)).once()
        assert len(told()) == 3
        await days.write(collections.update().where(collections.c.id == id_).values(deleted_at=1.0))
        assert told() == {}
        assert not any(id_.encode() in file.read_bytes() for file in (tmp_path / "metrics").iterdir())


@pytest.mark.slow
async def test_nothing_of_it_is_left_of_a_collection_that_was_deleted(house: House) -> None:
    await house.retrieval.collections.create(house.principal, NAME)
    clock = ManualClock(START)
    await DailyEvaluations(house.database, clock).put(house.principal, NAME, QUESTIONS, "filename")
    evaluator: Any = Scripted()
    assert await Runner(Turns(house.database, clock, "w"), evaluator, clock).once()
    await house.retrieval.collections.delete(house.principal, NAME)
    await Sweep(house.database, house.retrieval.index, house.objects, SystemClock(), -1.0).run()
    for table in (daily_evaluations, evaluations):
        count = sa.select(sa.func.count()).select_from(table)
        assert await house.database.read(lambda connection, count=count: connection.scalar(count)) == 0, table.name


@pytest.mark.slow
async def test_a_real_search_is_evaluated_and_what_makes_it_worse_shows(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "port", expires_after_days=30)
    async with house.worker():
        await house.ingest("port", pier="Visitors moor at pier K for a fee.", tide="The tide rises in spring.")
    clock = ManualClock(START)
    daily = DailyEvaluations(house.database, clock)
    runner = Runner(Turns(house.database, clock, "w"), house.retrieval.evaluator, clock)

    async def evaluated() -> dict[str, Any]:
        assert await runner.once()
        last = (await daily.get(house.principal, "port")).last
        assert last is not None
        assert last.figures is not None
        return last.figures

    async def used_at() -> float:
        query = sa.select(collections.c.used_at)
        return float((await house.database.read(lambda connection: connection.execute(query))).scalar_one())

    await daily.put(house.principal, "port", QUESTIONS, "filename")
    await house.database.write(lambda connection: connection.execute(collections.update().values(used_at=START)))
    assert (await evaluated())["measures"]["ndcg@10"]["mean"] == 1.0
    assert await used_at() == START, "being looked at keeps it alive"
    ids = {one.filename: one.id for one in await house.retrieval.documents.list(house.principal, "port")}
    await house.retrieval.documents.delete(house.principal, "port", ids["pier.md"])
    clock.advance(DAY_S)
    worse = await evaluated()
    assert (worse["measures"]["ndcg@10"]["mean"], worse["missing_documents"]) == (0.5, 1)
