"""Admission on a real Valkey: what is taken, what comes back, and when a refused caller may return."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest
from redis import Redis

from api.admission.admission import Admission, Ask, Reservation
from api.admission.errors import BudgetReached, Dimension, KeyStale, LimitReached
from api.admission.meters import metered
from api.admission.scripts import LATE, Scripts
from api.admission.settlements import Adopted, Ended, calls_of
from core.dependency import DependencyError
from core.limits import Limits, Subject, SubjectKind
from storage.redis import RedisClient
from storage.scripts import ScriptLine
from tests.integration.admission.conftest import VIRTUAL, LedgerBook, Opener, Timeline
from tests.integration.admission.servers import dump, flushed
from tests.support.valkey import frozen

BUDGET = Limits(nano_usd_per_day=1_000, nano_usd_per_month=5_000)


def key(limits: Limits, name: str = "k") -> tuple[Subject, ...]:
    return (Subject(SubjectKind.KEY, name, limits),)


def ask(subjects: tuple[Subject, ...], tokens: int = 0, nano_usd: int = 0, **more: object) -> Ask:
    return Ask("acme", "req", subjects, tokens, nano_usd, **more)  # type: ignore[arg-type]


async def admitted(admission: Admission, wanted: Ask, most: int = 1_000) -> list[Reservation]:
    """Ask until it is refused."""
    found = []
    for _ in range(most):
        try:
            found.append(await admission.admit(wanted))
        except LimitReached:
            break
    return found


async def refused(admission: Admission, wanted: Ask) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await admission.admit(wanted)
    return caught.value


async def test_a_reservation_holds_money_and_settling_bills_what_was_used(opened: Opener) -> None:
    async with opened() as admission:
        held = await admission.admit(ask(key(BUDGET), nano_usd=900))
        assert (await refused(admission, ask(key(BUDGET), nano_usd=101))).dimension is Dimension.USD_DAY
        admission.settle(held, 0, 300)
        await flushed(admission)
        await admission.admit(ask(key(BUDGET), nano_usd=700))
        assert isinstance(await refused(admission, ask(key(BUDGET), nano_usd=1)), BudgetReached)


async def test_ending_a_reservation_twice_counts_once(opened: Opener, redis: "Redis") -> None:
    async with opened() as admission:
        held = await admission.admit(ask(key(BUDGET), nano_usd=900))
        admission.settle(held, 0, 300)
        admission.settle(held, 0, 300)
        admission.release(held)
        await flushed(admission)
        assert redis.hmget("stoker:{acme}:key:k", "ds", "dh") == ["300", "0"]


async def test_releasing_gives_everything_back(opened: Opener, timeline: Timeline) -> None:
    limits = Limits(requests_per_minute=1, tokens_per_minute=50, parallel=1, nano_usd_per_day=10)
    for strict in (False, True):
        wanted = ask(key(Limits(**{**_fields(limits), "strict": strict}), f"k{strict}"), 50, 10)
        async with opened(timeline) as admission:
            for _ in range(3):
                admission.release(await admission.admit(wanted))
                await flushed(admission)


def _fields(limits: Limits) -> dict[str, int | bool | None]:
    return {name: getattr(limits, name) for name in Limits.__slots__}


async def test_a_subject_without_limits_costs_nothing(opened: Opener, redis: "Redis") -> None:
    async with opened() as admission:
        before = redis.info("stats")["total_commands_processed"]
        held = await admission.admit(ask(key(Limits()), tokens=10**6, nano_usd=10**12))
        admission.settle(held, 5, 5)
        assert redis.info("stats")["total_commands_processed"] - before == 1  # the question itself
        assert held.rate is None


async def test_a_keys_generation_is_checked_in_one_call_and_leaves_nothing(opened: Opener, redis: "Redis") -> None:
    async with opened() as admission:
        wanted = ask((), key_id="key_1", generation=3)
        await admission.admit(wanted)
        await admission.bump_generation("acme", "key_1", 4)
        await admission.bump_generation("acme", "key_1", 2)
        with pytest.raises(KeyStale):
            await admission.admit(wanted)
        with pytest.raises(KeyStale):
            await admission.admit(ask(key(BUDGET), nano_usd=1, key_id="key_1", generation=3))
        before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        await admission.admit(ask((), key_id="key_1", generation=4))
        assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 1
        assert redis.keys("*") == ["stoker:{acme}:generations"]


async def test_a_refused_request_burns_nothing(opened: Opener, redis: "Redis", timeline: Timeline) -> None:
    subjects = (
        *key(Limits(requests_per_minute=5, tokens_per_minute=100, parallel=3)),
        Subject(SubjectKind.TEAM, "t", Limits(requests_per_minute=9, strict=True)),
        Subject(SubjectKind.TENANT, "acme", Limits(nano_usd_per_day=100)),
    )
    async with opened(timeline) as admission:
        await admission.admit(ask(subjects, 10, 40))
        before = dump(redis)
        for tokens, nano_usd in ((101, 1), (95, 1), (1, 61), (1, 500)):
            await refused(admission, ask(subjects, tokens, nano_usd))
        assert dump(redis) == before


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("unit", ["requests", "tokens"])
async def test_a_rate_reopens_when_it_says(
    opened: Opener, redis: "Redis", timeline: Timeline, strict: bool, unit: str
) -> None:
    limits = Limits(**{f"{unit}_per_minute": 7, "strict": strict})
    wanted = ask(key(limits), tokens=3 if unit == "tokens" else 0)
    async with opened(timeline) as admission:
        for _ in range(20):
            await admitted(admission, wanted)
            wait_s = (await refused(admission, wanted)).retry_after_s
            assert wait_s is not None
            assert 0 < wait_s <= 61
            timeline.advance(wait_s - 0.001)
            await refused(admission, wanted)
            timeline.advance(0.001)
            await admission.admit(wanted)
            assert strict or int(redis.hget("stoker:{acme}:key:k", unit[0]) or 0) >= 0, "more was given than there was"
            timeline.advance(1.237)


@pytest.mark.parametrize(
    ("limits", "start", "reopens"),
    [
        (Limits(nano_usd_per_day=100), "2026-09-21T23:59:56.750", "2026-09-22"),
        (Limits(nano_usd_per_month=100), "2026-09-21T23:59:56.750", "2026-10-01"),
        (Limits(nano_usd_per_month=100), "2026-12-31T23:59:59.500", "2027-01-01"),
        (Limits(nano_usd_per_month=100), "2028-02-28T12:00", "2028-03-01"),
        (Limits(nano_usd_per_month=100), "2100-02-01", "2100-03-01"),
    ],
)
async def test_a_budget_reopens_with_its_period(
    opened: Opener, redis: "Redis", limits: Limits, start: str, reopens: str
) -> None:
    start_s, reopens_s = (datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() for at in (start, reopens))
    timeline = Timeline(redis, start_s)
    async with opened(timeline) as admission:
        admission.settle(await admission.admit(ask(key(limits), nano_usd=60)), 0, 60)
        await flushed(admission)
        wait_s = (await refused(admission, ask(key(limits), nano_usd=60))).retry_after_s
        assert wait_s == pytest.approx(reopens_s - start_s, abs=0.001)
        timeline.advance(wait_s - 0.001)
        await refused(admission, ask(key(limits), nano_usd=60))
        timeline.advance(0.001)
        await admission.admit(ask(key(limits), nano_usd=60))


async def test_of_several_limits_the_one_that_opens_last_is_named(opened: Opener, timeline: Timeline) -> None:
    fast = Subject(SubjectKind.KEY, "k", Limits(requests_per_minute=60, burst=1))
    slow = Subject(SubjectKind.TEAM, "t", Limits(requests_per_minute=2, burst=1))
    async with opened(timeline) as admission:
        await admission.admit(ask((fast, slow)))
        error = await refused(admission, ask((fast, slow)))
        assert (error.subject, error.limit, error.retry_after_s) == (slow, 1, 30)


async def test_what_can_never_fit_names_no_time(opened: Opener) -> None:
    async with opened() as admission:
        error = await refused(admission, ask(key(Limits(tokens_per_minute=100)), tokens=101))
        assert error.retry_after_s is None
        assert "larger" in str(error)


async def test_a_silent_workers_reservation_goes_back_after_its_lease(opened: Opener, timeline: Timeline) -> None:
    wanted = ask(key(Limits(parallel=2, nano_usd_per_day=100)), nano_usd=50)
    async with opened(timeline, lease_s=30) as admission:
        await admitted(admission, wanted)
        timeline.advance(29.9)
        await refused(admission, wanted)
        timeline.advance(0.1)
        assert len(await admitted(admission, wanted)) == 2
        timeline.advance(30)
        assert await admission.sweep("acme") == 2
        assert await admission.sweep("acme") == 0


@pytest.mark.parametrize("strict", [False, True])
async def test_an_overdue_reservation_gives_back_place_and_money_but_not_what_may_have_been_used(
    opened: Opener, redis: "Redis", timeline: Timeline, strict: bool
) -> None:
    limits = Limits(requests_per_minute=60, tokens_per_minute=600, parallel=1, nano_usd_per_day=100, strict=strict)
    async with opened(timeline, lease_s=30) as admission:
        await admission.admit(ask(key(limits), tokens=100, nano_usd=60))
        timeline.advance(30)
        assert await admission.sweep("acme") == 1
        assert redis.hmget("stoker:{acme}:key:k", "p", "dh") == ["0", "0"]
        if strict:
            assert [redis.hvals(f"stoker:{{acme}}:key:k:{unit}") for unit in "rt"] == [["1"], ["100"]]
        else:
            assert redis.hmget("stoker:{acme}:key:k", "r", "t") == [str(59 * 60_000), str(500 * 60_000)]


async def test_what_was_adopted_and_has_ended_is_not_adopted_again(
    opened: Opener, redis: "Redis", timeline: Timeline
) -> None:
    """The answer to the first call was lost, so it is sent once more."""
    async with opened(timeline) as admission:
        local = await admission.admit(ask(key(Limits(parallel=9)), not_after_s=timeline.clock.time() - 0.001))
        await flushed(admission)
        assert redis.hget("stoker:{acme}:key:k", "p") == "1"
        admission.settle(local, 0, 0)
        await flushed(admission)
        admission._adopt(local)
        await flushed(admission)
        assert redis.hget("stoker:{acme}:key:k", "p") == "0"


async def test_renewed_leases_hold(opened: Opener, timeline: Timeline) -> None:
    wanted = ask(key(Limits(parallel=1)))
    async with opened(timeline, lease_s=30) as admission:
        await admission.admit(wanted)
        for _ in range(4):
            timeline.advance(29)
            await admission.renew()
        await refused(admission, wanted)


async def test_the_worker_renews_by_itself(opened: Opener) -> None:
    async with opened(lease_s=0.6) as admission:
        await admission.admit(ask(key(Limits(parallel=1))))
        for _ in range(15):
            await asyncio.sleep(0.1)
            await refused(admission, ask(key(Limits(parallel=1))))


async def test_a_reservation_that_redis_lost_is_put_there_again(opened: Opener, redis: "Redis") -> None:
    wanted = ask(key(Limits(parallel=1, nano_usd_per_day=100)), nano_usd=80)
    async with opened() as admission:
        held = await admission.admit(wanted)
        redis.flushall()
        await admission.renew()
        await flushed(admission)
        assert (await refused(admission, wanted)).dimension is Dimension.USD_DAY
        admission.settle(held, 0, 30)
        await flushed(admission)
        await admission.admit(ask(key(Limits(parallel=1, nano_usd_per_day=100)), nano_usd=70))


async def test_a_call_after_its_not_after_takes_nothing(opened: Opener, redis: "Redis", timeline: Timeline) -> None:
    async with opened(timeline) as admission:
        await admission.admit(ask(key(Limits(parallel=9))))
        before = dump(redis)
        late = ask(key(Limits(parallel=9), "other"), not_after_s=timeline.clock.time() - 0.001)
        local = await admission.admit(late)
        assert local.local
        assert dump(redis) == before


async def test_an_end_after_its_not_after_changes_nothing(opened: Opener, redis: "Redis", timeline: Timeline) -> None:
    """A call that timed out may still be run; what it says has been said again since."""
    async with opened(timeline) as admission:
        held = await admission.admit(ask(key(BUDGET), nano_usd=900))
        before = dump(redis)
        late_ms = round(timeline.clock.time() * 1000) - 1
        end = [held.id, "s", 0, 900, held.metered.record]
        assert redis.eval(VIRTUAL.settle.text, 1, held.metered.prefix, late_ms, *end)[0] == LATE
        assert redis.eval(VIRTUAL.renew.text, 1, held.metered.prefix, late_ms, 90_000, held.id)[0] == LATE
        assert dump(redis) == before


async def test_a_worker_whose_clock_is_wrong_is_served(opened: Opener, redis: "Redis", timeline: Timeline) -> None:
    redis.set("clock_ms", round(timeline.clock.time() * 1000) + 3_600_000)
    async with opened(timeline) as admission:
        for _ in range(3):
            assert not (await admission.admit(ask(key(Limits(parallel=9))))).local


async def test_money_that_redis_does_not_hold_is_asked_of_the_ledger_once(
    opened: Opener, ledger: LedgerBook, timeline: Timeline
) -> None:
    ledger.spent = {("k", "2026-09-21"): 990, ("k", "2026-09"): 1_500}
    async with opened(timeline) as admission:
        results = await asyncio.gather(
            *(admission.admit(ask(key(BUDGET), nano_usd=1)) for _ in range(40)), return_exceptions=True
        )
        assert sum(isinstance(result, Reservation) for result in results) == 10
        assert ledger.asked <= 8  # of 80 questions; some came when the first answer was there


async def test_without_the_ledger_an_unknown_budget_admits_nobody(opened: Opener, ledger: LedgerBook) -> None:
    ledger.away = True
    async with opened() as admission:
        with pytest.raises(DependencyError):
            await admission.admit(ask(key(BUDGET), nano_usd=1))


async def test_a_settlement_whose_reservation_is_gone_has_the_ledger_asked(
    opened: Opener, redis: "Redis", ledger: LedgerBook, timeline: Timeline
) -> None:
    async with opened(timeline) as admission:
        held = await admission.admit(ask(key(BUDGET), nano_usd=900))
        redis.delete("stoker:{acme}:records")
        ledger.spent = {("k", "2026-09-21"): 800, ("k", "2026-09"): 800}
        admission.settle(held, 0, 800)
        await flushed(admission)
        asked = ledger.asked
        await admission.admit(ask(key(Limits(nano_usd_per_month=10_000)), nano_usd=201))
        assert ledger.asked == asked, "what is in doubt is asked for only where it would refuse"
        await refused(admission, ask(key(BUDGET), nano_usd=201))
        assert ledger.asked == asked + 1


async def test_money_that_is_settled_while_the_ledger_is_asked_is_not_lost(
    opened: Opener, ledger: LedgerBook, timeline: Timeline
) -> None:
    async with opened(timeline) as admission:
        held = await admission.admit(ask(key(BUDGET), nano_usd=400))
        await admission.forget_spent("acme", key(BUDGET))
        ledger.gate, asked = asyncio.Event(), ledger.asked
        asking = asyncio.create_task(admission.admit(ask(key(BUDGET), nano_usd=700)))
        while ledger.asked == asked:  # noqa: ASYNC110  # it sets no event
            await asyncio.sleep(0.001)
        admission.settle(held, 0, 400)
        await flushed(admission)
        ledger.gate.set()
        with pytest.raises(BudgetReached):
            await asking


async def test_forgotten_money_is_asked_of_the_ledger_again(
    opened: Opener, ledger: LedgerBook, timeline: Timeline
) -> None:
    async with opened(timeline) as admission:
        await admission.admit(ask(key(BUDGET)))
        ledger.spent = {("k", "2026-09-21"): 1_000}
        await admission.admit(ask(key(BUDGET), nano_usd=1))
        await admission.forget_spent("acme", key(BUDGET))
        await refused(admission, ask(key(BUDGET), nano_usd=1))


async def test_settlements_of_one_turn_travel_in_one_call(opened: Opener, redis: "Redis") -> None:
    async with opened() as admission:
        held = [await admission.admit(ask(key(Limits(parallel=100)))) for _ in range(50)]
        before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        for one in held:
            admission.settle(one, 0, 0)
        await flushed(admission)
        assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 1
        assert redis.hget("stoker:{acme}:key:k", "p") == "0"


@pytest.mark.parametrize("turns", range(6))
async def test_closing_sends_what_is_queued_once(opened: Opener, redis: "Redis", turns: int) -> None:
    async with opened() as admission:
        for one in [await admission.admit(ask(key(BUDGET), nano_usd=10)) for _ in range(20)]:
            admission.settle(one, 0, 7)
        for _ in range(turns):
            await asyncio.sleep(0)
    assert redis.hmget("stoker:{acme}:key:k", "ds", "dh") == ["140", "0"]


async def test_closing_waits_for_the_batch_under_way_and_sends_the_rest(opened: Opener, redis: "Redis") -> None:
    async with AsyncExitStack() as stack:
        admission = await stack.enter_async_context(opened(deadline_s=5))
        first, second = [await admission.admit(ask(key(BUDGET), nano_usd=10)) for _ in range(2)]
        with frozen(redis):
            admission.settle(first, 0, 7)
            await asyncio.sleep(0.05)  # it has left, and has no answer
            admission.settle(second, 0, 8)
            closing = asyncio.create_task(stack.aclose())
            await asyncio.sleep(0.1)
            assert not closing.done()
        await closing
    assert redis.hmget("stoker:{acme}:key:k", "ds", "dh") == ["15", "0"]


async def test_scripts_are_loaded_again_when_the_server_lost_them(opened: Opener, redis: "Redis") -> None:
    async with opened() as admission:
        for _ in range(2):
            redis.script_flush()
            held = await admission.admit(ask(key(Limits(parallel=1))))
            redis.script_flush()
            admission.release(held)
            await flushed(admission)


async def test_what_travels_together_keeps_its_order_where_the_server_knows_some_of_the_scripts(
    url: str, redis: "Redis"
) -> None:
    """As after a restart: another worker was the first to end something."""
    scripts, wanted = Scripts.load(), metered("acme", key(Limits(parallel=1)))
    now_ms, client = int(time.time() * 1000), RedisClient(url, 1.0)
    line = ScriptLine(client)
    adopted, ended = Adopted("one", wanted, 1, 1, now_ms), Ended("one", wanted, 1, 1, released=False)
    redis.script_flush()
    redis.script_load(scripts.settle.text)
    await line.run_all(calls_of([adopted, ended], {}, scripts, now_ms + 60_000, 60_000), 1.0)
    await line.close()
    await client.close()
    assert redis.hget("stoker:{acme}:key:k", "p") == "0"


async def test_a_cancelled_request_leaves_nothing_behind(opened: Opener, redis: "Redis") -> None:
    async with opened() as admission:
        await admission.admit(ask(key(Limits(parallel=1_000))))
        tasks = [asyncio.create_task(admission.admit(ask(key(Limits(parallel=1_000))))) for _ in range(100)]
        for turn, task in enumerate(tasks):
            if turn % 3 == 0:
                await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        kept = sum(isinstance(result, Reservation) for result in results)
        await flushed(admission)
        assert redis.hget("stoker:{acme}:key:k", "p") == str(kept + 1)
        assert redis.zcard("stoker:{acme}:leases") == kept + 1


async def test_rates_say_what_is_left_and_when_all_of_it_is_back(opened: Opener, timeline: Timeline) -> None:
    tight = Subject(SubjectKind.USER, "u", Limits(requests_per_minute=30, tokens_per_minute=600))
    wide = Subject(SubjectKind.KEY, "k", Limits(requests_per_minute=60, burst=100, strict=False))
    async with opened(timeline) as admission:
        rate = (await admission.admit(ask((wide, tight), tokens=100))).rate
        assert rate is not None
        assert (rate.limit_requests, rate.remaining_requests, rate.reset_requests_s) == (30, 29, 2.0)
        assert (rate.limit_tokens, rate.remaining_tokens, rate.reset_tokens_s) == (600, 500, 10.0)
        timeline.advance(10)
        rate = (await admission.admit(ask((wide, tight), tokens=1))).rate
        assert rate is not None
        assert (rate.remaining_tokens, rate.reset_tokens_s) == (599, 0.1)


async def test_tenants_do_not_share_counters(opened: Opener) -> None:
    limits = key(Limits(requests_per_minute=1))
    async with opened() as admission:
        for tenant in ("acme", "acme}", "{x}", "a:b", "ünï"):
            await admission.admit(Ask(tenant, "req", limits, 0, 0))


def test_only_tests_have_another_clock() -> None:
    """What the gateway loads takes the time from the server, and nothing that it sends could change that."""
    text = Scripts.load().admit.text
    assert text.count("clock_ms()") == 2
    assert text.count("redis.call('TIME')") == 1


@pytest.mark.slow
async def test_cpu_of_admission(opened: Opener, redis: "Redis", url: str, figure: Callable[[str], None]) -> None:
    """Measured, not judged: processor time of this process."""
    wide = Limits(requests_per_minute=10**8, tokens_per_minute=10**9, parallel=10**6, nano_usd_per_day=10**15)
    subjects = (*key(wide), Subject(SubjectKind.USER, "u", Limits(tokens_per_minute=10**9)))
    client = RedisClient(url, 1.0)
    async with opened() as admission:
        held = [await admission.admit(ask(subjects, 1_000, 5_000)) for _ in range(200)]
        sha = redis.script_load("return {0}")
        start_s = time.process_time()
        for _ in range(1_000):
            await client.call(lambda connected: connected.execute_command("EVALSHA", sha, 1, "x"))
        bare_s = time.process_time() - start_s
        start_s = time.process_time()
        held += [await admission.admit(ask(subjects, 1_000, 5_000)) for _ in range(1_000)]
        alone_s = time.process_time() - start_s
        start_s = time.process_time()
        for _ in range(40):
            held += await asyncio.gather(*(admission.admit(ask(subjects, 1_000, 5_000)) for _ in range(25)))
        among_s = time.process_time() - start_s
        start_s = time.process_time()
        for at in range(0, len(held), 20):
            for one in held[at : at + 20]:
                admission.settle(one, 900, 4_000)
            await asyncio.sleep(0)
        await flushed(admission)
        settle_s = time.process_time() - start_s
        shared = (*subjects, Subject(SubjectKind.MODEL, "m", wide, common=True))
        start_s = time.process_time()
        for _ in range(40):
            both = await asyncio.gather(*(admission.admit(ask(shared, 1_000, 5_000)) for _ in range(25)))
            for one in both:
                admission.settle(one, 900, 4_000)
        shared_s = time.process_time() - start_s
        start_s = time.process_time()
        for _ in range(40):
            own = await asyncio.gather(*(admission.admit(ask(subjects, 1_000, 5_000)) for _ in range(25)))
            for one in own:
                admission.settle(one, 900, 4_000)
        own_s = time.process_time() - start_s
    await client.close()
    figure(
        f"EVALSHA of nothing by redis-py {bare_s * 1e3:.0f} us; "
        f"admit {alone_s * 1e3:.0f} us alone, {among_s * 1e3:.0f} us among 25; "
        f"settle {settle_s / len(held) * 1e6:.1f} us, twenty a turn; "
        f"admit and settle {own_s * 1e3:.0f} us, with four limits that tenants share {shared_s * 1e3:.0f} us"
    )


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_is_lost_while_the_worker_ends_does_not_keep_it(
    opened: Opener, redis: "Redis", turns: int
) -> None:
    async with asyncio.timeout(10):
        async with opened() as admission:
            await admission.admit(ask(key(BUDGET), nano_usd=1))
            admission._line.lost.set()
            for _ in range(turns):
                await asyncio.sleep(0)
