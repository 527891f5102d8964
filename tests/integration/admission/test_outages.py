"""Redis frozen, restarted empty, or a cluster: no ghost reserves anything, and budgets hold."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from api.admission import settlements
from api.admission.admission import Admission, Ask, Reservation
from api.admission.errors import LimitReached
from core.clock import SystemClock
from core.dependency import DependencyError
from core.limits import Limits, Subject, SubjectKind
from storage.redis import RedisClient
from tests.integration.admission.conftest import LedgerBook, Opener
from tests.integration.admission.servers import dump, flushed
from tests.support.network import free_port
from tests.support.valkey import frozen, valkey_server

BUDGET = Limits(nano_usd_per_day=1_000)


def ask(limits: Limits, nano_usd: int = 0, tenant: str = "acme", name: str = "k") -> Ask:
    return Ask(tenant, "req", (Subject(SubjectKind.KEY, name, limits),), 10, nano_usd)


async def many(admission: Admission, wanted: Ask, count: int) -> list[Reservation]:
    """Ask so many times at once. Returns: those that were admitted."""
    results = await asyncio.gather(*(admission.admit(wanted) for _ in range(count)), return_exceptions=True)
    for result in results:
        assert isinstance(result, Reservation | LimitReached | DependencyError), repr(result)
    return [result for result in results if isinstance(result, Reservation)]


async def answers(redis: "Redis") -> None:
    """Wait until Redis has run what lay in its sockets."""
    for _ in range(3):
        await asyncio.to_thread(redis.ping)
        await asyncio.sleep(0.1)


def scripts_run(redis: "Redis") -> int:
    return int(redis.info("commandstats")["cmdstat_evalsha"]["calls"])


async def test_calls_in_flight_when_redis_froze_reserve_nothing_later(
    url: str, redis: "Redis", ledger: LedgerBook, figure: Callable[[str], None]
) -> None:
    clients = [RedisClient(url, 1.0) for _ in range(8)]
    # Nothing is sent afterwards: these have no task that gives back what may have been taken.
    workers = [Admission(client, ledger, SystemClock(), deadline_s=0.2) for client in clients]
    for worker in workers:
        await worker.admit(ask(BUDGET))
    ledger.away = True
    before, run_before = dump(redis), scripts_run(redis)
    with frozen(redis):
        await asyncio.gather(*(many(worker, ask(Limits(parallel=100), name="new"), 5) for worker in workers))
        await asyncio.sleep(0.3)
    await answers(redis)
    in_flight = scripts_run(redis) - run_before
    figure(f"{in_flight} of 40 calls ran after SIGCONT, and reserved nothing")
    assert in_flight > 0, "no call was in flight: this run shows nothing"
    assert dump(redis) == before
    for worker, client in zip(workers, clients, strict=True):
        await worker._line.close()
        await client.close()


async def test_a_silent_redis_is_replaced_by_the_workers_share(opened: Opener, redis: "Redis") -> None:
    limits = Limits(parallel=40, nano_usd_per_day=1_000)
    async with opened(workers=4, deadline_s=0.5) as admission:
        first = await admission.admit(ask(limits, 100))
        assert not first.local
        with frozen(redis):
            start_s = time.monotonic()
            held = await many(admission, ask(limits, 25), 60)
            slow_s = time.monotonic() - start_s
            assert len(held) == 9  # a quarter of 900 left by 25; a quarter of 39 places, rounded up, is one more
            assert all(one.local for one in held)
            admission.settle(held[0], 0, 5)
            assert len(await many(admission, ask(limits, 5), 10)) <= 4
            assert slow_s < 5
        await flushed(admission)
        state = redis.hgetall("stoker:{acme}:key:k")
        live = [one for one in held[1:] if not one.ended]
        assert "dq" in state, "the ledger was asked a moment before: what was admitted alone may be in its answer"
        assert int(state["dl"]) == 5
        assert 100 + 25 * len(live) <= int(state["dh"]) <= 1_000 - 5
        admission.settle(first, 0, 100)
        async with asyncio.timeout(5):  # a busy machine answers late once more, perhaps
            while (await admission.admit(ask(limits, 1))).local:  # noqa: ASYNC110  # Redis sets no event
                await asyncio.sleep(0.2)


async def test_settlements_wait_for_redis_and_count_once(opened: Opener, redis: "Redis") -> None:
    async with opened(deadline_s=1.0) as admission:
        held = await many(admission, ask(BUDGET, 10), 50)
        with frozen(redis):
            for one in held:
                admission.settle(one, 0, 7)
            await asyncio.sleep(1.5)
            assert admission.unsettled == 50
        await flushed(admission)
        assert redis.hmget("stoker:{acme}:key:k", "ds", "dh") == ["350", "0"]


async def test_what_ended_while_redis_was_slow_refuses_nobody(
    opened: Opener, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlements, "_PAUSE_S", 0.3)  # else Redis hears of it before the next request does
    limits = Limits(nano_usd_per_day=1_000)
    async with opened(deadline_s=1.0) as admission:
        held = await admission.admit(ask(limits, 900))
        with frozen(redis):
            admission.settle(held, 0, 5)
            async with asyncio.timeout(10):
                while not admission._settlements.late:  # noqa: ASYNC110  # nothing tells when a batch has failed
                    await asyncio.sleep(0.01)
        assert not (await admission.admit(ask(limits, 900))).local


async def test_more_settlements_than_are_held_have_the_ledger_asked(
    opened: Opener, redis: "Redis", ledger: LedgerBook
) -> None:
    async with opened(deadline_s=0.1, max_unsettled=10) as admission:
        held = await many(admission, ask(BUDGET, 10), 50)
        with frozen(redis):
            for one in held:
                admission.settle(one, 0, 7)
            await asyncio.sleep(0.5)
        await flushed(admission)
        asked = ledger.asked
        await admission.admit(ask(BUDGET))
        assert ledger.asked == asked + 1


async def test_a_budget_holds_when_redis_comes_back_empty(tmp_path: Path, ledger: LedgerBook) -> None:
    port = free_port()
    client = RedisClient(f"redis://127.0.0.1:{port}/0", 1.0)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    async with Admission(client, ledger, SystemClock(), deadline_s=0.5) as admission:
        with valkey_server(tmp_path, port=port):
            held = await many(admission, ask(BUDGET, 100), 7)
            for one in held[:4]:
                admission.settle(one, 0, 100)
            await flushed(admission)
            ledger.spent["k", today] = 400
        with valkey_server(tmp_path, port=port) as url, Redis.from_url(url) as redis:
            assert redis.dbsize() == 0
            await asyncio.sleep(2)  # the breaker may have opened; three go on, and Redis learns of them again
            await flushed(admission)
            assert redis.zcard("stoker:{acme}:leases") == 3
            assert not await many(admission, ask(BUDGET, 301), 5)
            more = await many(admission, ask(BUDGET, 100), 20)
            assert len(more) == 3
            for one in [*held[4:], *more]:
                ledger.spent["k", today] += 100
                admission.settle(one, 0, 100)
            await flushed(admission)
            assert not await many(admission, ask(BUDGET, 1), 5)
    await client.close()


async def test_a_request_that_ends_after_redis_came_back_empty_is_billed(url: str, redis: "Redis") -> None:
    spent: dict[str, int] = {"k": 0}

    async def asked(tenant_id: str, subject: Subject, period: str) -> int:
        return spent[subject.id]

    client = RedisClient(url, 1.0)
    async with Admission(client, asked, SystemClock(), deadline_s=0.5) as admission:
        held = await admission.admit(ask(BUDGET, 900))
        redis.flushall()
        await admission.admit(ask(BUDGET, 1))
        spent["k"] = 900
        admission.settle(held, 0, 900)
        await flushed(admission)
        with pytest.raises(LimitReached):
            await admission.admit(ask(BUDGET, 100))
    await client.close()


async def test_the_scripts_run_in_cluster_mode(tmp_path: Path, ledger: LedgerBook) -> None:
    port = free_port()
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with valkey_server(tmp_path, *options, port=port) as url, Redis.from_url(url, decode_responses=True) as redis:
        redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        for _ in range(100):
            if "cluster_state:ok" in str(redis.execute_command("CLUSTER", "INFO")):
                break
            await asyncio.sleep(0.1)
        client = RedisClient(url, 1.0)
        async with Admission(client, ledger, SystemClock()) as admission:
            for tenant in ("acme", "other"):
                limits = Limits(requests_per_minute=5, tokens_per_minute=10**6, parallel=4, nano_usd_per_month=10_000)
                strict = Limits(requests_per_minute=5, tokens_per_minute=10**6, strict=True)
                subjects = (Subject(SubjectKind.KEY, "k", limits), Subject(SubjectKind.USER, "u{1}", strict))
                await admission.bump_generation(tenant, "k", 1)
                held = await many(admission, Ask(tenant, "req", subjects, 10, 5, "k", 1), 9)
                assert len(held) == 4
                assert not any(one.local for one in held)
                await admission.renew()
                admission.settle(held[0], 5, 2)
                admission.release(held[1])
                await flushed(admission)
                await admission.forget_spent(tenant, subjects)
                await admission.sweep(tenant)
                slots = {redis.cluster("KEYSLOT", name) for name in redis.keys(f"*{tenant}*")}
                assert len(slots) == 1
                assert redis.hget(f"stoker:{{{tenant}}}:key:k", "p") == "2"
        await client.close()
