"""A house of two gateway workers, their engines, store and clients: one random schedule, and what must hold in it.

The storm comes first: calls at random, and faults. Then all faults end, and a few calls go on until everything has
recovered, which it must within some virtual minutes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import lru_cache, partial
from math import inf
from random import Random
from typing import Any

import orjson

from api.admission.errors import Dimension, LimitReached
from api.admission.model import period_name
from api.admission.reservation import Reservation
from api.metering import Metered, Size
from core.breaker import BreakerPolicy
from core.dependency import DependencyError
from core.limits import Limits, Subject, SubjectKind
from core.money import Price
from core.priority import Priority
from core.reach import ANYWHERE
from core.usage import Usage
from router.answer import Answer
from router.call import Call
from router.config import RouterConfig
from router.deployment import Deadlines, Deployment, LaneName
from router.errors import NoDeployment, RouterError, UpstreamFailed, UpstreamRefused, UpstreamTimeout
from router.health import HealthPolicy
from tests.simulation.engines import MODEL, Engine, State, steps_of
from tests.simulation.loop import VirtualLoop
from tests.simulation.monitor import Monitor
from tests.simulation.store import TENANT, Lines, Store, call_of
from tests.simulation.trace import Trace
from tests.simulation.worker import LEASE_S, WORKERS, Worker
from tests.support.exact import model as exact
from tests.support.exact.check import examine_stream, examine_whole
from tests.support.exact.faults import Fault

DEADLINES = Deadlines(connect_s=1.0, first_token_s=6.0, between_tokens_s=6.0, total_s=20.0)
BREAKER = BreakerPolicy(failures_to_open=3, probe_after_s=1.0, successes_to_close=2, probe_lease_s=60.0)
WATCH = HealthPolicy(
    poll_s=1.0,
    idle_poll_s=4.0,
    standstill_s=2.5,
    cold_s=5.0,
    deadline_s=1.0,
    away_s=2.5,
    probe_every_s=1.0,
    probe_s=2.0,
)
PRICE = Price(prompt=1000, cached=1000, completion=2000)
STORM_S = 8.0
MOST_RESCUES = 3
_SLACK_S = 1.0
_RECOVERY_S = 600.0
_WORDS = "sing a song of sixpence and a pocket full of rye four and twenty blackbirds baked in a pie when".split()
_DOCUMENTED = (NoDeployment, UpstreamRefused, UpstreamTimeout, UpstreamFailed)
_FLAWS = (
    Fault.ERROR_500, Fault.BUSY_503, Fault.BUSY_529, Fault.LIMIT_429, Fault.LIMIT_429_BARE, Fault.CUT, Fault.END,
    Fault.ERROR_MID, Fault.GARBAGE_MID, Fault.STALL_MID, Fault.NO_DONE,
)  # fmt: skip
_STATES = (State.CRASHED, State.WEDGED, State.STOPPED, State.SLOW)


@dataclass(slots=True)
class Plan:
    """A client's call.

    Attributes:
        leaves_s: after which the client is gone; stops_at: pieces after which it closes the answer.
        leaves_with: it is gone in the moment in which another's call ends, as one that waits for its place may be.
        reads_s: what it takes over each piece.
        left: it has gone.
    """

    at_s: float
    worker: Worker
    call: Call
    subjects: tuple[Subject, ...]
    leaves_s: float | None = None
    stops_at: int | None = None
    leaves_with: bool = False
    reads_s: float = 0.0
    left: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A reservation that a client's call has; `share`: how often its worker's share had been closed before."""

    worker: Worker
    metered: Metered
    subjects: tuple[Subject, ...]
    share: int

    @property
    def reservation(self) -> Reservation:
        return self.metered._reservation

    @property
    def nano_usd(self) -> int:
        """What it may still cost; segments that have ended have their lines."""
        return self.reservation.nano_usd - self.metered._billed_nano_usd


@dataclass(slots=True)
class Seen:
    """What a client saw.

    Attributes:
        good: members whose engines could have answered it when it began.
        opened_s: when it had its first token.
        refused: it was not admitted.
    """

    began_s: float
    good: list[Monitor]
    answer: Answer | None = None
    error: RouterError | None = None
    body: bytes = b""
    opened_s: float = inf
    refused: bool = False


class House:
    """One schedule; made inside its loop."""

    def __init__(self, seed: int, loop: VirtualLoop, trace: Trace) -> None:
        self.random = Random(seed)
        self.loop = loop
        self.trace = trace
        self._live: list[Held] = []
        self._forgotten: set[str] = set()
        self._excused_nano_usd = 0
        self._served = 0
        self._leaving: dict[str, Callable[[], None]] = {}
        draw = self.random
        self.lines = Lines(Random(draw.random()))
        self.subjects = self._draw_subjects()
        named = {f"{one.kind}:{one.id}": one for each in self.subjects for one in each if one.limits.any}
        self.store = Store(loop, Random(draw.random()), trace, named)
        self.store.on_restart = self._forget_all
        self.store.on_overdue = self._overdue
        self.groups = self._draw_engines()
        self.engines = {engine.name: engine for group in self.groups.values() for engine in group}
        self._names = list(self.groups)
        self._retries = draw.choice((2, 3))
        self.workers = self._open_workers()
        self.members = {
            (worker.name, monitor.member.deployment.name): monitor
            for worker in self.workers
            for monitor in worker.monitors
        }
        self._reading: dict[str, tuple[Plan, Seen]] = {}
        for worker in self.workers:
            for monitor in worker.monitors:
                monitor.on_eject = partial(self._ejected, worker, monitor.member.deployment.name)

    async def run(self) -> None:
        """The whole schedule."""
        async with self.workers[0].admission, self.workers[1].admission:
            for worker in self.workers:
                worker.start()
            calls = [asyncio.create_task(self._client(plan)) for plan in self._draw_plans()]
            faults = [asyncio.create_task(fault) for fault in self._draw_faults()]
            await asyncio.gather(*faults)
            await asyncio.gather(*calls)
            self._end_faults()
            for monitor in self.members.values():
                self.trace.hold(not monitor.probing, f"{monitor.member.deployment.name}: nobody ended a probe")
            await asyncio.sleep(_SLACK_S)
            holds = [call_of(name) for name in self.store.book.holds]
            self.trace.hold(not holds, f"held for nobody, until the leases end: {holds}")
            await self._recover()
            await self._all_are_asked()
            await asyncio.sleep(LEASE_S + 1.0)
            await self._nothing_is_left()
            for worker in self.workers:
                await worker.stop()
        await asyncio.sleep(0.1)
        left = len(asyncio.all_tasks(self.loop)) - 1
        self.trace.hold(left == 0, f"{left} tasks are left")

    # what is drawn

    def _draw_subjects(self) -> list[tuple[Subject, ...]]:
        """A team's keys, each with the team; the last has no limits."""
        draw = self.random
        tight = draw.random() < 0.3
        team = Subject(
            SubjectKind.TEAM,
            "t",
            Limits(
                parallel=draw.choice((None, 12, 24)),
                nano_usd_per_day=draw.choice((None, 1_500 if tight else 20_000)),
            ),
        )
        keys = [
            Subject(
                SubjectKind.KEY,
                f"k{at}",
                Limits(
                    parallel=draw.choice((4, 10, 20)),
                    requests_per_minute=draw.choice((None, 12, 200)),
                    tokens_per_minute=draw.choice((None, 700, 20_000)),
                    nano_usd_per_day=draw.choice((None, 700 if tight else 9_000)),
                    strict=draw.random() < 0.3,
                ),
            )
            for at in range(draw.choice((1, 2)))
        ]
        free = Subject(SubjectKind.KEY, "free", Limits(parallel=1_000))
        return [*((key, team) for key in keys), (free,)]

    def _draw_engines(self) -> dict[str, list[Engine]]:
        draw = self.random
        sizes = {"g": draw.choice((1, 2, 2, 3, 3, 4))}
        if draw.random() < 0.35:
            sizes["f"] = draw.choice((1, 2))
        return {
            group: [
                Engine(f"{group}{at}", self.loop, Random(draw.random()), self.trace, draw.choice((3, 8, 16)))
                for at in range(size)
            ]
            for group, size in sizes.items()
        }

    def _open_workers(self) -> list[Worker]:
        draw = self.random
        bound = draw.choice((None, None, 4, 8))
        deployments = [
            Deployment(
                engine.name, group, MODEL, LaneName.NATIVE, False, api_base=engine.base_url, price=PRICE,
                max_parallel=bound, deadlines=DEADLINES, breaker=BREAKER,
            )
            for group, engines in self.groups.items()
            for engine in engines
        ]  # fmt: skip
        fallbacks = {"g": ["f"]} if "f" in self.groups else {}
        config = RouterConfig(deployments, fallbacks, num_retries=self._retries, health=WATCH)
        self._patience_s = draw.choice((0.5, 3.0))
        return [
            Worker(
                f"w{at}", config, self.engines, self.store, self.lines, self.loop, self.trace, self._patience_s,
                draw.uniform(-0.2, 0.2),
            )
            for at in range(WORKERS)
        ]  # fmt: skip

    def _draw_plans(self) -> list[Plan]:
        draw = self.random
        bursts = [draw.uniform(0, STORM_S) for _ in range(2)]
        plans = []
        for at in range(draw.randint(20, 45)):
            burst = draw.random() < 0.3
            at_s = draw.choice(bursts) + draw.uniform(0, 0.5) if burst else draw.uniform(0, STORM_S)
            group = "f" if "f" in self.groups and draw.random() < 0.15 else "g"
            plan = Plan(at_s, draw.choice(self.workers), self._draw_call(f"c{at}", group), draw.choice(self.subjects))
            left = draw.random()
            if left < 0.1:
                plan.leaves_s = draw.choice((draw.uniform(0, 0.02), draw.uniform(0, 1), draw.uniform(0, 8)))
            elif left < 0.15:
                plan.stops_at = draw.randrange(1, 6)
            elif left < 0.23:
                plan.leaves_with = True
            if draw.random() < 0.1:
                plan.reads_s = draw.uniform(0.01, 0.2)
            plans.append(plan)
        return plans

    def _draw_call(self, name: str, group: str) -> Call:
        draw = self.random
        text = " ".join(_WORDS[: draw.randrange(1, len(_WORDS))])
        stream = draw.random() < 0.75
        body: dict[str, object] = {
            "model": group,
            "max_tokens": draw.choice((1, 3, 6, 6, 12, 30)),
        }
        kind = draw.random()
        if kind < 0.25:
            body["prompt"] = text
        else:
            body["messages"] = [{"role": "user", "content": text}]
        if stream:
            body["stream"] = True
            if draw.random() < 0.5:
                body["stream_options"] = {"include_usage": True}
            if draw.random() < 0.15:
                body["return_token_ids"] = True
        if draw.random() < 0.1:
            body |= {"stop": [" be", " the"], "temperature": 0}
        if kind > 0.93:
            body["tools"] = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
            body["max_tokens"] = 100
        return Call(
            "completions" if kind < 0.25 else "chat.completions", group, body, stream, ANYWHERE, name,
            draw.choice(list(Priority)), draw.random() < 0.95, tenant="t",
        )  # fmt: skip

    def _draw_faults(self) -> list[Coroutine[Any, Any, None]]:
        """Lives of engines and of the store; often one engine stays well."""
        draw = self.random
        spared = draw.choice(self.groups["g"]) if draw.random() < 0.6 else None
        faults: list[Coroutine[Any, Any, None]] = []
        for engine in self.engines.values():
            if engine is not spared:
                faults += [self._engine_fault(engine) for _ in range(draw.choice((0, 1, 2, 3)))]
        if draw.random() < 0.5:
            faults += [self._store_fault() for _ in range(draw.choice((1, 1, 2, 3)))]
        return faults

    def _engine_fault(self, engine: Engine) -> Coroutine[Any, Any, None]:
        draw = self.random
        what = draw.choice((*_STATES, "flaws", "flaws", "flaws", "cut off"))
        at_s, for_s = draw.uniform(0.2, STORM_S), draw.choice((draw.uniform(0.05, 2), draw.uniform(2, 8)))
        share, flaws = draw.choice((0.3, 1.0)), tuple(draw.sample(_FLAWS, 3))
        worker = draw.choice(self.workers)

        async def live() -> None:
            await asyncio.sleep(at_s)
            if isinstance(what, State):
                if engine.state is not State.WELL:
                    return
                engine.become(what)
                await asyncio.sleep(for_s)
                engine.become(State.WELL)
            elif what == "flaws":
                engine.flaws, engine.flaw_share = flaws, share
                await asyncio.sleep(for_s)
                engine.flaw_share = 0.0
                engine.bad_s = self.loop.time()
            else:
                self.trace.say(f"{worker.name} cannot reach {engine.name}", "cut off")
                worker.client.cut_off[engine.name] = None
                await asyncio.sleep(for_s)
                worker.client.cut_off.pop(engine.name, None)
                worker.client.bad_s[engine.name] = self.loop.time()

        return live()

    def _store_fault(self) -> Coroutine[Any, Any, None]:
        draw = self.random
        what = draw.choice(("silent", "cut", "restart", "slow", "ledger"))
        at_s, for_s = draw.uniform(1.0, STORM_S), draw.choice((draw.uniform(0.05, 1), draw.uniform(1, 10)))
        if draw.random() < 0.05:
            for_s = LEASE_S * 1.5
        slow_s = draw.uniform(0.02, 0.2)
        store = self.store

        async def live() -> None:
            await asyncio.sleep(at_s)
            if what == "cut":
                store.drop()
            elif what == "slow":
                store.slow_s = slow_s
                await asyncio.sleep(for_s)
                store.slow_s, store.away_s = 0.0, self.loop.time()
            elif what == "ledger":
                self.lines.away = True
                self.trace.say("ledger is away", "ledger outages")
                await asyncio.sleep(for_s)
                self.lines.away = False
            elif store.up and what == "silent":
                store.freeze()
                await asyncio.sleep(for_s)
                store.thaw()
            elif store.up:
                store.stop()
                await asyncio.sleep(for_s)
                store.come()

        return live()

    # a client

    async def _client(self, plan: Plan) -> None:
        """One call of a client, judged at its end."""
        await asyncio.sleep(plan.at_s)
        task = asyncio.current_task()
        assert task is not None
        timer = None

        def leave() -> None:
            plan.left = True
            task.cancel()

        if plan.leaves_s is not None:
            timer = self.loop.call_later(plan.leaves_s, leave)
        if plan.leaves_with:
            self._leaving[plan.call.request_id] = leave
        seen = Seen(self.loop.time(), self._good(plan))
        try:
            await self._ask(plan, seen)
        except asyncio.CancelledError:
            if not plan.left:
                raise
        finally:
            if timer is not None:
                timer.cancel()
            self._leaving.pop(plan.call.request_id, None)
        if self._leaving:
            self._leaving.popitem()[1]()
        self._judge(plan, seen)

    async def _ask(self, plan: Plan, seen: Seen) -> None:
        """As `api/hot/door.py` does it."""
        call, worker = plan.call, plan.worker
        name = call.request_id
        size = self._size(call)
        self.trace.say(f"{worker.name} {name} asks {call.group} for {call.body['max_tokens']} tokens", "calls")
        try:
            metered = await worker.admit(call, plan.subjects, size)
        except LimitReached as error:
            self.trace.say(f"{worker.name} {name} is not admitted: {error.dimension}", f"refused: {error.dimension}")
            seen.refused = True
            return
        except DependencyError as error:
            self.trace.say(f"{worker.name} {name} is not admitted: {error}", "not admitted")
            away = self.lines.away or self.store.away_s or not self.store.up
            self.trace.hold(bool(away), f"{name} was not admitted, and nothing was away: {error}")
            seen.refused = True
            return
        self._admitted(plan, metered)
        answer = None
        try:
            answer = seen.answer = await worker.router.open(call)
            seen.opened_s = self.loop.time()
            self.trace.say(f"{worker.name} {name} is answered by {answer.deployment.name}")
            metered.opened(answer.deployment)
            answer.on_switch = metered.switched
            self._reading[name] = plan, seen
            await self._read(plan, seen, answer, metered)
        except RouterError as error:
            seen.error = error
        finally:
            self._reading.pop(name, None)
            usage = Usage()
            if answer is not None:
                await answer.aclose()
                usage = answer.usage or Usage(0, answer.tokens)
            metered.close(usage, left=plan.left)

    async def _read(self, plan: Plan, seen: Seen, answer: Answer, metered: Metered) -> None:
        if answer.frames is None:
            seen.body = answer.body
            metered.finish(answer.usage or Usage(), "ok")
            return
        pieces = 0
        async for piece in answer.frames:
            metered.count(answer.tokens)
            if answer.over:
                metered.finish(answer.usage or Usage(0, answer.tokens), "failed" if answer.broken else "ok")
            seen.body += piece
            pieces += 1
            if pieces == plan.stops_at:
                plan.left = True
                return
            if plan.reads_s:
                await asyncio.sleep(plan.reads_s)

    def _ejected(self, worker: Worker, name: str) -> None:
        """Streams of an ejected engine go on elsewhere at once, where all the others can take them."""
        for plan, seen in self._reading.values():
            answer = seen.answer
            assert answer is not None
            others = [
                monitor
                for monitor in worker.monitors
                if monitor.member.deployment.group == plan.call.group and monitor.member.deployment.name != name
            ]
            steady = plan.worker is worker and plan.call.rescue and not plan.reads_s and not answer.over
            if steady and answer.deployment.name == name and others and self._good(plan) == others:
                self.trace.counts["streams ejected"] += 1
                self.loop.call_later(_SLACK_S, self._has_moved, plan, seen, name, others, self.loop.time())

    def _has_moved(self, plan: Plan, seen: Seen, name: str, others: list[Monitor], ejected_s: float) -> None:
        asked = plan.call.request_id
        answer = seen.answer
        assert answer is not None
        stayed = all(self.engines[other.member.deployment.name].good_since_s < ejected_s for other in others)
        if asked in self._reading and stayed and self._good(plan) == others:
            self.trace.hold(answer.deployment.name != name, f"{asked} stays with {name}, which was ejected")

    def _size(self, call: Call) -> Size:
        told = _told(call)
        return Size(len(told.prompt), int(call.body["max_tokens"]))

    def _good(self, plan: Plan) -> list[Monitor]:
        """The members of the call's group that can answer it now."""
        return [
            monitor
            for monitor in plan.worker.monitors
            if monitor.member.deployment.group == plan.call.group
            and monitor.fine
            and self.engines[monitor.member.deployment.name].good_since_s < self.loop.time()
            and monitor.member.deployment.name not in plan.worker.client.cut_off
        ]

    def _stayed_good(self, plan: Plan, seen: Seen) -> list[str]:
        """Those of them that could at every moment since."""
        client = plan.worker.client
        found = []
        for monitor in seen.good:
            name = monitor.member.deployment.name
            troubled_s = max(self.engines[name].good_since_s, monitor.trouble_s, client.bad_s.get(name, 0.0))
            if troubled_s < seen.began_s and monitor.fine and name not in client.cut_off:
                found.append(name)
        return found

    # what must hold of a call

    def _judge(self, plan: Plan, seen: Seen) -> None:
        call, name, trace = plan.call, plan.call.request_id, self.trace
        self._served += 1
        took_s = self.loop.time() - seen.began_s
        for engine in self.engines.values():
            trace.hold(engine.opened_by(name) == 0, f"{name} is over, and {engine.name} still computes it")
        limit_s = self._limit_s(plan)
        trace.hold(took_s <= limit_s, f"{name} took {took_s:.1f} s of at most {limit_s:.1f} s")
        told = _told(call)
        wrong, text, rescues = [], "", 0
        if seen.answer is not None and seen.answer.frames is None and seen.body:
            wrong = examine_whole(seen.body, told).wrong
        elif seen.body:
            got = examine_stream(seen.body, call.body, told)
            wrong, text, rescues = got.wrong, got.text, len(got.rescued)
            trace.hold(told.text.startswith(text), f"{name} was told {text!r}, which does not begin {told.text!r}")
        trace.counts["rescues"] += rescues
        broken_off = any(engine.bad_s >= seen.began_s for engine in self.engines.values())
        no_usage = seen.answer is not None and seen.answer.usage is None and broken_off
        if no_usage and seen.body:  # it broke between its last token and its usage
            wrong = examine_stream(seen.body, call.body, told, usage_told=False).wrong
        if plan.left:
            trace.say(f"{plan.worker.name} {name} has left", "departures")
        if plan.left or seen.refused:
            return
        failed = seen.error is not None or (seen.answer is not None and seen.answer.broken)
        if not failed:
            trace.say(f"{plan.worker.name} {name} is whole, {rescues} rescues", "whole")
            trace.hold(not wrong, f"{name} is wrong: {wrong}")
            trace.counts["ended without usage"] += no_usage
            if not wrong and not no_usage:
                self._billed_right(name, told)
            return
        trace.say(f"{plan.worker.name} {name} fails: {seen.error!r}", "failed")
        if seen.error is not None:
            trace.hold(isinstance(seen.error, _DOCUMENTED), f"{name} ended in {seen.error!r}")
        elif len(wrong) > 0:
            trace.hold(b'data: {"error"' in seen.body[-600:], f"{name} broke, and nobody was told")
        self._judge_failure(plan, seen)

    def _judge_failure(self, plan: Plan, seen: Seen) -> None:
        """A call that met a good engine fails only for a reason that the design names."""
        good = self._stayed_good(plan, seen)
        if not good:
            return
        call, worker = plan.call, plan.worker
        members = len(self.groups[call.group])
        excuse = None
        if worker.no_retry_s >= seen.began_s:
            excuse = "no retry was left"
        elif worker.full_s.get(call.group, 0.0) >= seen.began_s:
            excuse = "the gate was full"
        elif members > self._retries + 1:
            excuse = "more engines than tries"
        elif seen.answer is not None and not call.rescue:
            excuse = "its client wants no rescue"
        elif seen.answer is not None and self.loop.time() - seen.opened_s > DEADLINES.total_s - DEADLINES.first_token_s:
            excuse = "no time was left"
        elif seen.answer is not None and self._rescues_of(call) >= MOST_RESCUES:
            excuse = "it broke too often"
        if excuse is not None:
            self.trace.say(f"{call.request_id} met {good}, but {excuse}", f"excused: {excuse}")
            return
        self.trace.hold(False, f"{call.request_id} failed, though {good} could have answered: {seen.error!r}")

    def _rescues_of(self, call: Call) -> int:
        """Lines beyond the first that were written for it."""
        return max(
            (line.segment for line in self.lines.written if line.request_id.endswith(f".{call.request_id}")), default=0
        )

    def _billed_right(self, name: str, told: exact.Told) -> None:
        lines = [line for line in self.lines.written if line.request_id.endswith(f".{name}")]
        counted = sum(line.tokens_in for line in lines), sum(line.tokens_out for line in lines)
        right = len(told.prompt), len(told.tokens)
        self.trace.hold(counted == right, f"{name} is billed {counted} tokens, not {right}")

    def _limit_s(self, plan: Plan) -> float:
        """The longest that a call may take, by its deadlines."""
        groups = [plan.call.group, *(["f"] if plan.call.group == "g" and "f" in self.groups else [])]
        one_s = DEADLINES.first_token_s if plan.call.stream else DEADLINES.total_s
        tries = sum(min(len(self.groups[group]), self._retries + 1) for group in groups)
        once_s = len(groups) * self._patience_s + tries * one_s
        reading_s = plan.reads_s * 100
        return 2 * once_s + 2 * DEADLINES.first_token_s + DEADLINES.total_s + reading_s + _SLACK_S

    # what must hold of reservations

    def _admitted(self, plan: Plan, metered: Metered) -> None:
        """A client's call has its reservation."""
        self._live = [each for each in self._live if not each.reservation.ended]
        held = Held(plan.worker, metered, plan.subjects, plan.worker.shares)
        self._live.append(held)
        if held.reservation.local:
            self._excused_nano_usd += held.nano_usd
            self.trace.say(f"{plan.worker.name} {plan.call.request_id} is admitted alone", "admitted alone")
        for subject in plan.subjects:
            self._within_places(subject, held)
            self._within_budget(subject)

    def _within_places(self, subject: Subject, new: Held) -> None:
        limit = subject.limits.parallel
        if limit is None:
            return
        own = [each for each in self._live if subject in each.subjects]
        if new.reservation.local:
            share = -(-limit // WORKERS)
            same = [each for each in own if each.worker is new.worker and each.share == new.share]
            taken = sum(each.reservation.local for each in same)
            self.trace.hold(taken <= share, f"{new.worker.name} gave {taken} places of {subject.id}, of {share}")
        else:
            taken = sum(self._known(each) for each in own)
            self.trace.hold(taken <= limit, f"{taken} places of {subject.id} are taken, of {limit}")

    def _within_budget(self, subject: Subject) -> None:
        limit = subject.limits.nano_usd_per_day
        if limit is None:
            return
        held = sum(each.nano_usd for each in self._live if subject in each.subjects and self._known(each))
        spent = self.lines.of(subject, self._today)
        most = limit + self._excused_nano_usd
        self.trace.hold(spent + held <= most, f"{subject.id} has spent {spent} and holds {held}, of {most} nano-USD")

    def _known(self, held: Held) -> bool:
        """The store has granted it, and has not lost it since."""
        return not held.reservation.local and held.reservation.id not in self._forgotten

    def _forget_all(self) -> None:
        """The store has lost what it held."""
        for held in self._live:
            if not held.reservation.ended:
                self._forget(held)

    def _forget(self, held: Held) -> None:
        if self._known(held):
            self._forgotten.add(held.reservation.id)
            self._excused_nano_usd += held.nano_usd

    def _overdue(self, name: str) -> None:
        self.trace.say(f"the lease of {call_of(name)} ends", "leases ended")
        for held in self._live:
            if held.reservation.id == name and not held.reservation.ended:
                self._forget(held)
                away = self.loop.time() - self.store.away_s <= LEASE_S or not self.store.up
                self.trace.hold(away, f"nobody renewed the lease of {call_of(name)}")

    @property
    def _today(self) -> str:
        return period_name(Dimension.USD_DAY, self.store.now_ms // 86_400_000)

    # the quiet afterwards

    def _end_faults(self) -> None:
        self.trace.say("all faults have ended")
        for engine in self.engines.values():
            engine.become(State.WELL)
            engine.flaw_share = 0.0
        for worker in self.workers:
            worker.client.cut_off.clear()

    def _troubled(self) -> list[str]:
        return [f"{worker}/{name}" for (worker, name), monitor in self.members.items() if not monitor.fine]

    async def _recover(self) -> None:
        """Call now and then until nothing is held against anybody."""
        until_s = self.loop.time() + _RECOVERY_S
        while (troubled := self._troubled()) and self.loop.time() < until_s:
            await self._quiet_calls(1, must=False)
            await asyncio.sleep(1.0)
        self.trace.hold(not troubled, f"not recovered: {troubled}")

    async def _all_are_asked(self) -> None:
        """Every engine is called again, by each worker."""
        for worker in self.workers:
            before = {name: engine.asked for name, engine in self.engines.items()}
            for group in self.groups:
                await self._quiet_calls(len(self.groups[group]), must=True, only=worker, group=group)
            for name, engine in self.engines.items():
                self.trace.hold(engine.asked > before[name], f"{worker.name} calls {name} no more")

    async def _quiet_calls(
        self, count: int, *, must: bool, only: Worker | None = None, group: str | None = None
    ) -> None:
        for worker in self.workers if only is None else [only]:
            for name in self.groups if group is None else [group]:
                for _ in range(count):
                    self._served += 1
                    body = {"model": name, "max_tokens": 2, "stream": True, "prompt": "sing a song"}
                    call = Call("completions", name, body, True, ANYWHERE, f"q{self._served}", tenant="t")
                    seen = Seen(self.loop.time(), [])
                    plan = Plan(0.0, worker, call, self.subjects[-1])
                    await self._ask(plan, seen)
                    whole = bool(seen.body) and not examine_stream(seen.body, body, _told(call)).wrong
                    self.trace.hold(whole or not must, f"{call.request_id} fails in the quiet: {seen.error!r}")

    async def _nothing_is_left(self) -> None:
        hold = self.trace.hold
        for worker in self.workers:
            hold(worker.admission.unsettled == 0, f"{worker.name} has {worker.admission.unsettled} unsettled")
            for monitor in worker.monitors:
                flying = monitor.member.health.in_flight
                hold(flying == 0, f"{worker.name}/{monitor.member.deployment.name} has {flying} in flight")
            for name, group in worker.router._groups.items():
                gate = group.gate
                hold(gate.running == gate.waiting == 0, f"{worker.name}: {gate.running} are in the gate of {name}")
            hold(not worker.admission._live, f"{worker.name} holds {list(worker.admission._live)}")
        for engine in self.engines.values():
            hold(engine.open == 0, f"{engine.name} has {engine.open} requests")
        hold(self._troubled() == [], f"in trouble again: {self._troubled()}")
        while await self.workers[0].admission.sweep(TENANT):
            pass
        self._books_balance()

    def _books_balance(self) -> None:
        """Nothing is held, and what was spent is what the lines say."""
        book, hold = self.store.book, self.trace.hold
        hold(not book.holds, f"reservations are left: {list(book.holds)}")
        hold(not any(book.parallel.values()), f"places are held: {book.parallel}")
        for subjects in self.subjects:
            for subject in subjects:
                key = f"stoker:{{{TENANT}}}:{subject.kind}:{subject.id}"
                purse = book.purses.get((key, Dimension.USD_DAY))
                if purse is None or purse.spent is None:
                    continue
                lines = self.lines.of(subject, self._today)
                hold(purse.held == 0, f"{subject.id} holds {purse.held} nano-USD")
                right = purse.spent >= lines if purse.doubt else purse.spent == lines
                hold(right, f"{subject.id} has spent {purse.spent} by the store, {lines} by its lines")


def _told(call: Call) -> exact.Told:
    """The right answer to a call."""
    return _answer(call.kind, orjson.dumps(call.body))


@lru_cache(maxsize=20_000)
def _answer(kind: str, raw: bytes) -> exact.Told:
    read = exact.read_completion if kind == "completions" else exact.read_chat
    asked = read(orjson.loads(raw))
    steps = steps_of(asked)
    text = "".join(step.text for step in steps)
    return exact.Told(asked.prompt, [step.token for step in steps], text, steps[-1].reason or "", asked.tool)
