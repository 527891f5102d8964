"""Limits that all tenants share, through admission on a real Valkey."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis

from api.admission.admission import Admission, Ask, Reservation
from api.admission.errors import BudgetReached, Dimension, LimitReached
from api.admission.holdings import Holding
from api.admission.leases import Leases
from core.limits import EVERYONE, Limits, Subject, SubjectKind
from tests.integration.admission.conftest import LedgerBook, Opener
from tests.support.valkey import frozen

pytestmark = pytest.mark.usefixtures("redis")  # emptied for each
WHOLE = "stoker:{*model:m}:whole"


def today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def of_all(limits: Limits) -> Subject:
    return Subject(SubjectKind.MODEL, "m", limits, common=True)


def model_n(limits: Limits) -> Subject:
    return Subject(SubjectKind.MODEL, "n", limits, common=True)


def ask(tenant: str, *subjects: Subject, tokens: int = 0, nano_usd: int = 0) -> Ask:
    return Ask(tenant, "req", subjects, tokens, nano_usd)


async def admitted(admission: Admission, tenant: str, subject: Subject, most: int = 100) -> list[Reservation]:
    """Ask until it is refused."""
    found: list[Reservation] = []
    while len(found) < most:
        try:
            found.append(await admission.admit(ask(tenant, subject)))
        except LimitReached:
            break
    return found


async def turns(count: int) -> None:
    """Let the event loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_tenants_share_one_limit(opened: Opener) -> None:
    places = of_all(Limits(parallel=10))
    async with opened() as first, opened() as second:
        held = await admitted(first, "acme", places, 6)
        rest = await admitted(second, "globex", places)
        assert len(held) + len(rest) <= 10
        await first._leases.beat()  # what the first one has in hand without need goes back
        await first._leases.beat()
        rest += await admitted(second, "globex", places)
        assert len(held) + len(rest) == 10
        first.settle(held.pop(), 0, 0)
        await first._leases.beat()
        await first._leases.beat()
        assert len(await admitted(second, "initech", places)) == 1


async def test_a_refusal_says_that_all_tenants_share_the_limit(opened: Opener) -> None:
    everyone = Subject(SubjectKind.TENANT, EVERYONE, Limits(requests_per_minute=60, burst=1), common=True)
    async with opened() as admission:
        await admission.admit(ask("acme", everyone))
        with pytest.raises(LimitReached, match="all tenants together of requests per minute is reached") as caught:
            await admission.admit(ask("globex", everyone))
        assert caught.value.retry_after_s == pytest.approx(1, abs=0.3)
        with pytest.raises(LimitReached, match="model m for all tenants of requests at the same time"):
            await admission.admit(ask("acme", of_all(Limits(parallel=0))))


async def test_what_the_tenants_own_limit_refuses_burns_nothing_of_the_shared_one(
    opened: Opener, redis: "Redis"
) -> None:
    shared, own = of_all(Limits(requests_per_minute=10)), Subject(SubjectKind.TENANT, "acme", Limits(parallel=0))
    async with opened() as admission:
        for _ in range(50):
            with pytest.raises(LimitReached, match="tenant acme"):
                await admission.admit(ask("acme", own, shared))
        assert len(await admitted(admission, "globex", shared)) == 10


async def test_what_the_shared_limit_refuses_burns_nothing_of_the_tenants_own(opened: Opener) -> None:
    shared, own = of_all(Limits(parallel=1)), Subject(SubjectKind.TENANT, "acme", Limits(requests_per_minute=2))
    async with opened() as admission:
        held = await admission.admit(ask("globex", shared))
        for _ in range(20):
            with pytest.raises(LimitReached, match="model m"):
                await admission.admit(ask("acme", own, shared))
        admission.settle(held, 0, 0)
        admission.settle(await admission.admit(ask("acme", own, shared)), 0, 0)
        admission.settle(await admission.admit(ask("acme", own, shared)), 0, 0)


async def test_a_request_larger_than_the_limit_is_refused_for_good_and_takes_nothing_from_others(
    opened: Opener, redis: "Redis"
) -> None:
    shared = of_all(Limits(tokens_per_minute=100))
    async with opened() as admission:
        with pytest.raises(LimitReached, match="larger than that") as caught:
            await admission.admit(ask("acme", shared, tokens=101))
        assert caught.value.retry_after_s is None
        assert not redis.exists(WHOLE)


async def test_a_large_request_that_does_not_fit_now_leaves_what_there_is_to_others(opened: Opener) -> None:
    shared = of_all(Limits(tokens_per_minute=100))
    async with opened() as first, opened() as second:
        await first.admit(ask("acme", shared, tokens=60))
        with pytest.raises(LimitReached) as caught:
            await second.admit(ask("globex", shared, tokens=90))
        assert caught.value.retry_after_s == pytest.approx(30, abs=1)
        await second.admit(ask("globex", shared, tokens=20))
        await first.admit(ask("acme", shared, tokens=20))


async def test_unused_tokens_and_money_come_back(opened: Opener, ledger: LedgerBook) -> None:
    shared = of_all(Limits(tokens_per_minute=100, nano_usd_per_day=100))
    async with opened() as admission:
        for _ in range(10):
            held = await admission.admit(ask("acme", shared, tokens=90, nano_usd=90))
            admission.settle(held, 1, 1)
            ledger.spent["m", today()] = ledger.spent.get(("m", today()), 0) + 1
        with pytest.raises(BudgetReached) as caught:
            await admission.admit(ask("acme", shared, tokens=1, nano_usd=91))
        assert caught.value.dimension is Dimension.USD_DAY


async def test_money_is_loaded_from_the_ledger_of_all_tenants(opened: Opener, ledger: LedgerBook) -> None:
    ledger.spent["m", today()] = 95
    shared = of_all(Limits(nano_usd_per_day=100))
    async with opened() as admission:
        with pytest.raises(BudgetReached):
            await admission.admit(ask("acme", shared, nano_usd=6))
        await admission.admit(ask("acme", shared, nano_usd=5))


async def test_whoever_leaves_while_more_is_asked_for_keeps_nothing(opened: Opener, redis: "Redis") -> None:
    shared = of_all(Limits(parallel=10))
    async with opened() as admission:
        for _ in range(20):
            waiting = [asyncio.create_task(admission.admit(ask("acme", shared))) for _ in range(5)]
            await asyncio.sleep(0.0005)
            for task in waiting:
                task.cancel()
            for task in await asyncio.gather(*waiting, return_exceptions=True):
                if isinstance(task, Reservation):
                    admission.release(task)
    assert redis.hget(WHOLE, "ph") == "0"


async def test_what_a_dead_worker_held_comes_back_with_its_lease(opened: Opener, redis: "Redis") -> None:
    shared = of_all(Limits(parallel=4))
    async with opened(lease_s=1.5) as dead, opened() as other:
        await admitted(dead, "acme", shared)
        dead._leases._held.clear()  # as if it had been killed: it reports nothing any more
        assert await admitted(other, "globex", shared) == []
        await asyncio.sleep(1.6)
        assert len(await admitted(other, "globex", shared)) == 4


async def test_while_redis_is_silent_a_worker_goes_on_with_its_share(opened: Opener, redis: "Redis") -> None:
    shared = of_all(Limits(parallel=20))
    async with opened(workers=4) as admission:
        held = await admitted(admission, "acme", shared, 4)
        with frozen(redis):
            alone = await admitted(admission, "globex", shared)
            assert 1 <= len(alone) <= 8  # a fourth of what was left, and what was in hand
        for one in alone + held:
            admission.settle(one, 0, 0)
        for _ in range(200):
            again = await admitted(admission, "acme", shared, 20)
            for one in again:
                admission.settle(one, 0, 0)
            if len(again) == 20:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("after the outage not all places could be had")
    assert redis.hget(WHOLE, "ph") == "0"


async def test_an_empty_redis_learns_what_is_held(opened: Opener, redis: "Redis") -> None:
    shared = of_all(Limits(parallel=4))
    async with opened() as first, opened() as second:
        held = await admitted(first, "acme", shared, 3)
        redis.flushall()
        await first._leases.beat()
        assert len(held) + len(await admitted(second, "globex", shared)) <= 4


async def test_whoever_leaves_in_the_moment_in_which_it_is_served_keeps_nothing(
    opened: Opener, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = Leases._serve

    def serve_and_leave(self: Leases, holding: Holding, waiting: Sequence[Any]) -> list[Any]:
        left = serve(self, holding, waiting)
        task.cancel()
        return left

    monkeypatch.setattr(Leases, "_serve", serve_and_leave)
    async with opened() as admission:
        task = asyncio.create_task(admission.admit(ask("acme", of_all(Limits(parallel=10)))))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert redis.hget(WHOLE, "ph") == "1"
    assert redis.hget(WHOLE, "ph") == "0"


async def test_a_tenant_that_asks_for_too_much_again_and_again_has_nobody_refused(opened: Opener) -> None:
    shared = of_all(Limits(tokens_per_minute=100_000))
    async with opened() as first, opened() as second:
        await first.admit(ask("acme", shared, tokens=40_000))
        ended = asyncio.Event()

        async def ask_for_too_much() -> int:
            refused = 0
            while not ended.is_set():
                with pytest.raises(LimitReached):
                    await first.admit(ask("acme", shared, tokens=99_000))
                refused += 1
            return refused

        attacks = [asyncio.create_task(ask_for_too_much()) for _ in range(3)]
        for _ in range(150):
            second.release(await second.admit(ask("globex", shared, tokens=10)))
            await second._leases.beat()
        ended.set()
        assert min(await asyncio.gather(*attacks)) > 0


async def test_limits_that_change_while_a_request_waits_refuse_nobody_who_fits(opened: Opener) -> None:
    before, after = of_all(Limits(requests_per_minute=100)), of_all(Limits(requests_per_minute=100, nano_usd_per_day=9))
    async with opened() as admission:
        waits = asyncio.create_task(admission.admit(ask("acme", before, nano_usd=5)))
        await turns(3)
        await admission.admit(ask("globex", after, nano_usd=1))
        await waits


async def test_an_outage_after_limits_have_changed_goes_by_the_new_ones(opened: Opener, redis: "Redis") -> None:
    before, after = of_all(Limits(requests_per_minute=100)), of_all(Limits(parallel=4))
    async with opened(workers=4) as admission:
        await admission.admit(ask("acme", before))
        (held,) = admission._leases._held.values()
        beat = asyncio.create_task(admission._leases.beat())
        await turns(3)
        held.holding.adapt(after)  # while the call is under way
        await beat
        with frozen(redis):
            assert len(await admitted(admission, "globex", after)) <= 4


async def test_a_request_that_goes_on_alone_after_beats_is_reported(
    opened: Opener, redis: "Redis", ledger: LedgerBook
) -> None:
    shared = of_all(Limits(nano_usd_per_day=100))
    async with opened() as admission:
        with frozen(redis):
            ledger.gate = asyncio.Event()
            alone = asyncio.create_task(admission.admit(ask("acme", shared, nano_usd=40)))
            await asyncio.sleep(2)  # a beat comes by while the ledger is asked
            assert ledger.asked
            ledger.gate.set()
            await alone
        for _ in range(100):
            await admission._leases.beat()
            if redis.hget(WHOLE, "dh") == "40":
                break
            await asyncio.sleep(0.1)
        assert redis.hget(WHOLE, "dh") == "40"


async def test_a_worker_that_was_cut_off_for_longer_than_its_lease_uses_nothing_of_what_it_had(opened: Opener) -> None:
    shared = of_all(Limits(parallel=20))
    async with opened(lease_s=1.5) as first, opened() as second:
        held = await admitted(first, "acme", shared, 8)
        (own,) = first._leases._held.values()
        async with own.calling:  # nothing of it is heard any more
            await asyncio.sleep(1.7)
            others = await admitted(second, "globex", shared)
            assert len(others) > 10
            beat = asyncio.create_task(first._leases.beat())
            await asyncio.sleep(0.01)
            assert not own.holding.fits(first._leases._time_ms(), (0, 0))
        await beat
        assert len(held) == 8


async def test_while_one_limit_waits_for_the_ledger_the_others_are_reported(opened: Opener, ledger: LedgerBook) -> None:
    places, budget = of_all(Limits(parallel=4)), model_n(Limits(nano_usd_per_day=100))
    async with opened() as first, opened() as second:
        for one in await admitted(first, "acme", places):
            first.settle(one, 0, 0)
        ledger.gate = asyncio.Event()
        waits = asyncio.create_task(first.admit(ask("acme", budget, nano_usd=1)))
        await asyncio.sleep(0.1)
        assert ledger.asked
        try:
            async with asyncio.timeout(0.9):  # beats that go by themselves don't count
                for _ in range(5):
                    await first._leases.beat()
            assert len(await admitted(second, "globex", places)) == 4
        finally:
            ledger.gate.set()  # closing waits for it, too
        await waits


async def test_after_redis_was_lost_nothing_of_what_was_in_hand_is_used(opened: Opener, redis: "Redis") -> None:
    shared = of_all(Limits(tokens_per_minute=1_000))
    async with opened() as first, opened() as second:
        for _ in range(5):
            first.release(await first.admit(ask("acme", shared, tokens=100)))
        (own,) = first._leases._held.values()
        assert own.holding.fits(first._leases._time_ms(), (50, 0))
        async with own.calling:  # it is not heard until the other one has taken everything
            redis.flushall()
            redis.client_kill_filter(_type="normal", skipme=True)
            for _ in range(100):
                if not own.holding.fits(first._leases._time_ms(), (1, 0)):
                    break
                await asyncio.sleep(0.02)
            assert not own.holding.fits(first._leases._time_ms(), (1, 0))
        await second.admit(ask("globex", shared, tokens=900))


async def test_the_share_of_one_limit_does_not_begin_anew_when_redis_answers_for_another(
    opened: Opener, redis: "Redis"
) -> None:
    places, other = of_all(Limits(parallel=20)), model_n(Limits(parallel=20))
    async with opened(workers=4) as admission:
        await admission.admit(ask("acme", other))
        with frozen(redis):
            alone = await admitted(admission, "acme", places)
            assert len(alone) == 5
        one, another = admission._leases._held.values()
        (one, another) = (another, one) if one.holding.subject is other else (one, another)
        async with one.calling:
            while another.holding.heard_ms is None or another.share.used:
                await admission._leases.beat()
            with frozen(redis), pytest.raises(LimitReached):
                await admission._leases._take_alone(one, (0, 0))


async def test_a_holding_does_not_end_while_somebody_is_about_to_ask(opened: Opener) -> None:
    async with opened() as admission:
        asks = asyncio.create_task(admission.admit(ask("acme", of_all(Limits(parallel=4)))))
        await turns(1)  # it waits, and the call is not yet written
        (held,) = admission._leases._held.values()
        await admission._leases.beat()
        await asks
        assert list(admission._leases._held.values()) == [held]
