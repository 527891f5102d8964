"""One probe of a resting deployment among all workers, agreed upon in a real Valkey."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis

from core.breaker import Breaker, BreakerPolicy, BreakerState, Permit
from core.clock import ManualClock, SystemClock
from core.reach import ANYWHERE
from router.choice import Member
from router.deployment import Deadlines
from router.errors import RouterError
from router.health import Health
from router.probes import Probes
from router.router import Call, Router, open_router
from storage.redis import RedisClient
from tests.integration.router.calls import config, native
from tests.support.exact.faults import Failure, Fault
from tests.support.exact.server import ExactServer, exact_server
from tests.support.valkey import frozen, valkey_server

WORKERS = 4
POLICY = BreakerPolicy(failures_to_open=1, probe_after_s=0.3, successes_to_close=1, probe_lease_s=20)
VIRTUAL = str(Path(__file__).parents[1] / "admission" / "virtual_clock")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey_server(tmp_path_factory.mktemp("valkey")) as address:
        yield address


@pytest.fixture
def redis(url: str) -> Iterator["Redis"]:
    with Redis.from_url(url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
async def server() -> AsyncIterator[ExactServer]:
    async with exact_server("m") as server:
        yield server


@asynccontextmanager
async def workers(server: ExactServer, url: str, redis_s: float = 0.1) -> AsyncIterator[list[Router]]:
    """Routers with clients of their own; each rests their only deployment."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(WORKERS):
            client = RedisClient(url, redis_s)
            stack.push_async_callback(client.close)
            only = native(server, breaker=POLICY, deadlines=Deadlines())
            found.append(await stack.enter_async_context(open_router(config(only), workers=WORKERS, redis=client)))
        async with server.failing(Failure(Fault.ERROR_500)):
            for router in found:
                with pytest.raises(RouterError):
                    await router.open(one_token())
                assert router.members()[0].breaker.state is BreakerState.OPEN
        server.log.clear()
        await asyncio.sleep(POLICY.probe_after_s)
        yield found


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds for an answer of Redis; with fewer, workers of a busy machine would each go on alone."""
    monkeypatch.setattr("router.probes._DEADLINE_S", 5.0)
    return 5.0


def one_token() -> Call:
    body = {"model": "g", "messages": [{"role": "user", "content": "a word"}], "max_tokens": 1}
    return Call("chat.completions", "g", body, False, ANYWHERE, "req_1", tenant="t")


async def outcomes(routers: list[Router], each: int) -> list[str]:
    async def one(router: Router) -> str:
        try:
            await (await router.open(one_token())).aclose()
        except RouterError as error:
            return type(error).__name__
        return "ok"

    return await asyncio.gather(*(one(router) for router in routers for _ in range(each)))


async def test_of_a_hundred_calls_in_four_workers_one_is_the_probe_and_all_are_answered(
    server: ExactServer, url: str, redis: "Redis", figure: Callable[[str], None], patience: float
) -> None:
    async with workers(server, url, patience) as routers:
        server.pause_s = 1.5  # the one token takes so long
        asking = asyncio.create_task(outcomes(routers, 25))
        async with asyncio.timeout(10):
            while not server.log:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        under_way = len(server.log)
        assert set(await asking) == {"ok"}
        figure(f"{under_way} probe under way for {25 * WORKERS} calls in {WORKERS} workers, all answered")
        assert under_way == 1


async def test_a_probe_that_fails_is_enough_for_all(
    server: ExactServer, url: str, redis: "Redis", patience: float
) -> None:
    async with workers(server, url, patience) as routers:
        async with server.failing(Failure(Fault.ERROR_500)):
            assert "ok" not in await outcomes(routers, 10)
        assert len(server.log) == 1
        assert [router.members()[0].breaker.state for router in routers] == [BreakerState.OPEN] * WORKERS


async def test_with_a_frozen_redis_each_worker_probes_by_itself(server: ExactServer, url: str, redis: "Redis") -> None:
    async with workers(server, url) as routers:
        with frozen(redis):
            assert set(await outcomes(routers, 10)) == {"ok"}
        assert [router.members()[0].breaker.state for router in routers] == [BreakerState.CLOSED] * WORKERS


async def test_who_asks_for_nothing_more_leaves_the_probe_to_the_others(
    server: ExactServer, url: str, redis: "Redis"
) -> None:
    """The client of the one probe leaves: nothing was learnt, and the next may try at once."""
    async with workers(server, url) as routers:
        server.pause_s = 5
        leaving = asyncio.create_task(routers[0].open(one_token()))
        await asyncio.sleep(0.2)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        server.pause_s = 0
        assert set(await outcomes(routers, 5)) == {"ok"}


class Agreement(RuleBasedStateMachine):
    """Workers with real breakers on a real Valkey, whose clock and theirs stand still unless told."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.redis: Redis = Redis.from_url(self.url, decode_responses=True)
        self.redis.flushall()
        self.tick(0)
        self.clients = [RedisClient(self.url, 5) for _ in range(3)]
        self.probes = [Probes(client, VIRTUAL) for client in self.clients]
        deployment = native(ExactServer("m"))
        self.members = [
            Member(deployment, Breaker(POLICY, self.clock), Health("one", SystemClock())) for _ in self.probes
        ]
        for probes, member in zip(self.probes, self.members, strict=True):
            probes.listen([member])
        self.out: dict[int, tuple[Permit, float]] = {}

    def teardown(self) -> None:
        for probes, client in zip(self.probes, self.clients, strict=True):
            self.loop.run_until_complete(probes.close())
            self.loop.run_until_complete(client.close())
        self.loop.close()
        self.redis.close()

    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.redis.set("clock_ms", 1_790_000_000_000 + round(self.clock.monotonic() * 1000))

    @rule(seconds=st.sampled_from([0.05, 0.35, 1.0, 21.0]))
    def wait(self, seconds: float) -> None:
        self.tick(seconds)

    @rule(worker=st.integers(0, 2))
    def fail(self, worker: int) -> None:
        permit = self.members[worker].breaker.acquire() if worker not in self.out else None
        if permit is not None and not permit.probe:
            self.members[worker].breaker.report(permit, ok=False)
        elif permit is not None:
            self.out[worker] = (permit, self.clock.monotonic())
            self.loop.run_until_complete(self.tell(worker, None))

    @rule(worker=st.integers(0, 2))
    def ask(self, worker: int) -> None:
        member = self.members[worker]
        permit = member.breaker.acquire()
        if permit is None or not permit.probe:
            return
        cleared = self.loop.run_until_complete(self.probes[worker].clear(member, permit))
        if cleared is not None and cleared.probe:
            self.out[worker] = (cleared, self.clock.monotonic())

    @precondition(lambda self: self.out)
    @rule(data=st.data(), ok=st.sampled_from([True, False, None]))
    def end(self, data: st.DataObject, ok: bool | None) -> None:
        worker = data.draw(st.sampled_from(sorted(self.out)))
        self.loop.run_until_complete(self.tell(worker, ok))

    async def tell(self, worker: int, ok: bool | None) -> None:
        permit, _ = self.out.pop(worker)
        if ok is None:
            self.members[worker].breaker.withdraw(permit)
        else:
            self.members[worker].breaker.report(permit, ok=ok)
        await self.probes[worker].told()

    @invariant()
    def one_probe_at_most_is_out_within_its_lease(self) -> None:
        now_s = self.clock.monotonic()
        assert sum(now_s - began_s < POLICY.probe_lease_s for _, began_s in self.out.values()) <= 1


@pytest.mark.usefixtures("patience")
def test_workers_agree_whatever_happens(url: str) -> None:
    machine = type("At", (Agreement,), {"url": url})
    run_state_machine_as_test(machine, settings=settings(stateful_step_count=40, deadline=None))


@pytest.mark.usefixtures("patience")
def test_a_probe_lasts_as_long_as_its_lease_and_who_reports_later_ends_no_other(url: str) -> None:
    machine: Agreement = type("At", (Agreement,), {"url": url})()
    try:
        for worker in range(3):
            machine.fail(worker)
        machine.wait(1)
        machine.ask(0)
        machine.wait(POLICY.probe_lease_s - 1)
        machine.ask(1)
        assert list(machine.out) == [0]
        machine.wait(2)
        machine.ask(1)
        assert list(machine.out) == [0, 1]
        machine.loop.run_until_complete(machine.tell(0, None))
        machine.ask(2)
        assert list(machine.out) == [1]
    finally:
        machine.teardown()


async def test_when_it_works_in_one_worker_the_others_call_it_at_once(
    server: ExactServer, url: str, redis: "Redis"
) -> None:
    async with workers(server, url) as routers:
        assert set(await outcomes(routers[:1], 1)) == {"ok"}
        assert set(await outcomes(routers[1:], 1)) == {"ok"}
        assert [router.members()[0].breaker.state for router in routers] == [BreakerState.CLOSED] * WORKERS
