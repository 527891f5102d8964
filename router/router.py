"""The router: a call in, an opened answer out, from the first deployment that can give one.

A call's way: the group, then its fallback groups; in each the deployments in turn (`router/choice.py`), each opened
over its lane up to its first token. What fails before that falls to the next; what the caller must mend is raised at
once; with what breaks after it another deployment goes on (`router/rescue.py`), or it ends in an error event.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

from core.breaker import BreakerState, Permit
from core.clock import Clock, SystemClock
from core.money import Price
from core.reach import ANYWHERE, Reach
from monitoring import tracing
from router import guards
from router.answer import Answer
from router.attempt import Attempt
from router.call import Call, Operation
from router.choice import Group, Member, RetryBudget
from router.config import RouterConfig
from router.counting import Counted, Messages, TokenCounter, Tokenizes
from router.deployment import Deployment, Kind, LaneName
from router.errors import (
    LeavesTheHouse,
    ModelNotFound,
    NoDeployment,
    Overloaded,
    RouterError,
    UpstreamCut,
    UpstreamEjected,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from router.experiments import Experiments
from router.gate import Place
from router.lane import Lane
from router.media import check_media
from router.native_lane import NativeLane
from router.probes import Probes
from router.rescue import Rescuer
from router.strategy import Strategy
from router.waking import Hold, back_in_s, note_wanted
from router.watch import Watches
from storage.redis import RedisClient

_LOOK_S = 0.1
_LOOK = "It may just be starting again: try again in a minute, and look at `./stoker status` if that does not help."

__all__ = ["Answer", "Bound", "Call", "Counted", "DeploymentStatus", "ModelInfo", "Outlook", "Router", "open_router"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model group as `/v1/models` lists it."""

    id: str
    owned_by: str
    created: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """A deployment as `/status` shows it.

    Attributes:
        state: of its breaker: closed (healthy), open (resting) or half_open.
        ejected: why it gets no calls while another of its group can take them: wedged, away, asleep or outlier.
        draining: it is given no new calls.
    """

    name: str
    group: str
    lane: str
    hosted: bool
    state: str
    ejected: str | None = None
    draining: bool = False


class Native(Lane, Tokenizes, Protocol):
    """The way to engines of ours."""


Outlook = Literal["good", "probe", "none"]
"""Nothing is known against a deployment; or one has failed and is to be tried again; or all are known to fail now."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a call to a group can cost at most.

    Attributes:
        price: the highest of each kind among the group's deployments and those of its fallbacks.
        default_max_tokens: completion tokens, where a request names no bound.
    """

    price: Price
    default_max_tokens: int


@asynccontextmanager
async def open_router(
    config: RouterConfig,
    clock: Clock | None = None,
    *,
    workers: int = 1,
    patience_s: float = 20.0,
    redis: RedisClient | None = None,
) -> AsyncIterator["Router"]:
    """Open a router, and close it with the block.

    Args:
        workers: processes that route to these deployments, this one among them.
        patience_s: how long a call may wait while its group has more to do than it can.
        redis: where workers agree on who probes a deployment; None: each does so by itself.
    """
    router = Router(config, NativeLane(), clock or SystemClock(), workers, patience_s, Probes(redis))
    try:
        await router.follow(config)
        yield router
    finally:
        await router.close()


def _litellm_lane() -> Lane:
    from router.litellm_lane import LitellmLane

    return LitellmLane()


class Router:
    """Made by `open_router`; one for each worker process."""

    def __init__(
        self,
        config: RouterConfig,
        native: Native,
        clock: Clock,
        workers: int = 1,
        patience_s: float = 20.0,
        probes: Probes | None = None,
    ) -> None:
        self._clock = clock
        self._workers = workers
        self._patience_s = patience_s
        self._budget = RetryBudget()
        self._created = int(time.time())
        self._bounds: dict[str, Bound] = {}
        self._groups: dict[str, Group] = {}
        self._leaving: list[Member] = []
        self._probes = probes or Probes(None)
        self._watches = Watches(clock)
        self._experiments = Experiments(self._open, clock)
        self._guarded: dict[str, guards.Guarded] = {}
        self._counter = TokenCounter(native, clock)
        self._lanes: dict[LaneName, Lane] = {LaneName.NATIVE: native}
        self._take(config)

    async def follow(self, config: RouterConfig) -> None:
        """Work by another configuration from now on; calls under way keep what they have, and end as they would.

        LiteLLM's lane, whose import takes seconds, is opened for the first hosted deployment.
        """
        hosted = any(deployment.lane is LaneName.LITELLM for deployment in config.deployments)
        if hosted and LaneName.LITELLM not in self._lanes:
            self._lanes[LaneName.LITELLM] = await asyncio.to_thread(_litellm_lane)
        self._take(config)
        self._watches.follow(self.members(), config.health)

    def _take(self, config: RouterConfig) -> None:
        by_group: dict[str, list[Deployment]] = {}
        for deployment in config.deployments:
            by_group.setdefault(deployment.group, []).append(deployment)
        before = self.members()
        groups: dict[str, Group] = {}
        for name, members in by_group.items():
            group = self._groups.get(name)
            if group is None:
                strategy = Strategy(config.strategy, self._workers)
                group = Group(name, members, self._clock, self._workers, self._patience_s, strategy)
            else:
                group.follow(members, config.strategy)
            groups[name] = group
        self._config, self._groups, self._bounds = config, groups, {}
        known = {member.health for member in self.members()}
        left = [member for member in before if member.health not in known]
        self._leaving = [*(member for member in self._leaving if member.health.in_flight), *left]
        self._probes.listen(self.members())
        self._guarded = guards.of_groups(config.guards, config.others, groups)
        self._experiments.follow(tuple(one for one in config.experiments if one.group in groups and one.to in groups))

    async def close(self) -> None:
        """End the watches, and close the lanes."""
        await self._experiments.close()
        await self._watches.close()
        await self._probes.close()
        for lane in self._lanes.values():
            await lane.aclose()

    def guards_of(self, group: str) -> str | None:
        """A name of what looks at the group's texts, the same for as long as it is configured so; None: nothing."""
        guarded = self._guarded.get(group)
        return None if guarded is None else guarded.name

    def models(self) -> list[ModelInfo]:
        """The groups with at least one deployment enabled."""
        return [_info(group, self._created) for group in self._groups.values()]

    def require(self, group: str) -> None:
        """Raises: ModelNotFound: there is no such group."""
        if group not in self._groups:
            raise ModelNotFound(group, list(self._groups))

    def answers(self, group: str, who: str) -> str:
        """The group that answers this caller's calls for a group: another one where an experiment has it so."""
        return self._experiments.answers(group, who)

    def chat_outlook(self, group: str, operation: Operation = "chat.completions", *, reach: Reach) -> Outlook:
        """What awaits a chat with the group or its fallbacks. Raises: ModelNotFound: there is no such group."""
        self.require(group)
        guarded = self._guarded.get(group)
        looked = () if guarded is None else guarded.guards
        reach = self._within(group, reach)
        call = Call(operation, group, {}, stream=False, reach=reach, request_id="", tenant="", guards=looked)
        members = [member for member in self._members_for(call) if member.health.ejected in (None, "asleep")]
        if any(member.breaker.state is BreakerState.CLOSED for member in members):
            return "good"
        return "probe" if any(member.breaker.retry_after_s() == 0 for member in members) else "none"

    def bound(self, group: str) -> Bound:
        """The dearest that an answer of the group can be, and how long one may be that names no bound.

        Raises: ModelNotFound: there is no such group.
        """
        self.require(group)
        found = self._bounds.get(group)
        if found is None:
            named = (group, *self._experiments.others(group))
            stand_ins = (self._config.fallbacks, self._config.context_fallbacks)
            able = [name for one in named for name in (one, *(to for some in stand_ins for to in some.get(one, ())))]
            groups = [self._groups[name] for name in able if name in self._groups]
            prices = [member.deployment.price for each in groups for member in each.members]
            found = self._bounds[group] = Bound(
                Price(
                    prompt=max(price.prompt for price in prices),
                    cached=max(max(price.cached, price.prompt) for price in prices),
                    completion=max(price.completion for price in prices),
                ),
                groups[0].members[0].deployment.default_max_tokens,
            )
        return found

    async def count_tokens(self, group: str, messages: Messages, *, reach: Reach) -> Counted | None:
        """The size of a chat as an engine of the group counts it, within about a second.

        Returns: None: no engine of ours is there that can say.
        Raises: ModelNotFound: there is no such group.
        """
        self.require(group)
        engines = self._groups[group].eligible(reach=self._within(group, reach), native_only=True)
        return await self._counter.count(engines, messages)

    def members(self) -> list[Member]:
        """Every deployment with its health."""
        return [member for group in self._groups.values() for member in group.members]

    def running(self) -> dict[str, int]:
        """How many calls each deployment has in this process, also those that were removed and still have some."""
        self._leaving = [member for member in self._leaving if member.health.in_flight]
        counts: dict[str, int] = {}
        for member in (*self.members(), *self._leaving):
            name = member.deployment.name
            counts[name] = counts.get(name, 0) + member.health.in_flight
        return counts

    def present(self) -> tuple[set[str], set[str]]:
        """The names of deployments and of groups: those that there are, and of those removed, who still have calls."""
        there = [*self.members(), *(member for member in self._leaving if member.health.in_flight)]
        return {each.deployment.name for each in there}, {each.deployment.group for each in there}

    def status(self) -> list[DeploymentStatus]:
        """Every deployment, as this process sees it."""
        return [_status(member) for member in self.members()]

    async def open(self, call: Call) -> Answer:
        """Get an answer, or a stream with its first token at hand. Cancelling it cancels the upstream.

        An experiment may have another group answer than the one that was asked for.

        Raises:
            ModelNotFound: no such group.
            UpstreamRefused: the request is at fault, or every deployment that could be asked is busy (429).
            NoDeployment: none is there; Overloaded: they have more to do than they can.
            UpstreamTimeout, UpstreamFailed: the last one that was asked failed so.
            MediaRefused: a medium in it comes by an address that is not opened.
            GuardRefused, GuardFailed: a guard of the group lets the text go no further; an answer in one piece that it
                lets nobody have says so itself, as `refused`.
        """
        self.require(call.group)
        check_media(call.body, self._config.media_hosts)
        return await (self._open_guarded(call) if call.group in self._guarded else self._open_tried(call))

    async def _open_guarded(self, call: Call) -> Answer:
        """Ask when the guards that the group has then have looked. Raises: as `open`."""
        while guarded := self._guarded.get(call.group):
            looked = await guarded.asked(call)
            if self._guarded.get(call.group) is guarded:
                return await guarded.hear(looked, await self._open_tried(looked))
        return await self._open_tried(call)

    async def _open_tried(self, call: Call) -> Answer:
        """Ask the group that is named, or that an experiment has answer. Raises: as `open`."""
        if not self._experiments.concern(call.group):
            return await self._open(call)
        return await self._experiments.open(replace(call, reach=self._within(call.group, call.reach)))

    async def _open(self, call: Call) -> Answer:
        """Ask the group that is named. Raises: as `open`."""
        self.require(call.group)
        if call.group in self._config.policies:
            call = replace(call, reach=self._within(call.group, call.reach))
        asked = self._groups[call.group]
        if asked.kind != call.needs:
            raise _wrong_kind(call, asked.kind)
        if not call.shadow:
            self._budget.earn()
        patience, hold = self._patience(call), Hold(lambda: self._members_for(call), self._config.hold_s, self._clock)
        while True:
            found = await self._ask_all(call)
            if not isinstance(found, Answer) or found.fallback is not None:
                note_wanted(asked.members)
            if isinstance(found, Answer):
                return found
            if call.shadow or not (await patience() or (_is_gone(found) and await hold.wait())):
                raise self._verdict(call, asked, found)

    async def _ask_all(self, call: Call) -> Answer | RouterError | None:
        """Ask every group that may answer. Returns: the answer, or why the last one that was asked gave none."""
        last: RouterError | None = None
        too_long: UpstreamRefused | None = None
        asked: set[str] = set()
        groups = deque(self._groups_for(call))
        while groups:
            group = groups.popleft()
            if call.shadow and not group.gate.has_room:
                raise Overloaded(group.name, call.priority, 1.0)
            try:
                place = await _entered(group, call)
            except Overloaded as error:
                last = error
                continue
            if self._groups.get(group.name) is not group:  # it was taken away while the call waited
                place.leave()
                continue
            try:
                answer = await self._open_in(group, call, asked)
            except UpstreamRefused as error:
                place.leave()
                if too_long is not None or not error.too_long:
                    raise
                too_long, groups = error, deque(self._larger(call))
                continue
            except BaseException:
                place.leave()
                raise
            if isinstance(answer, Answer):
                if answer.frames is None:
                    place.leave()
                else:
                    answer.on_close(place.leave)
                    if call.rescue:
                        candidates = partial(self._candidates, call)
                        answer.rescue = Rescuer(
                            call, candidates, self._probes.clear, self._attempt, lambda: self._patience(call)
                        )
                return answer
            place.leave()
            last = answer or last
        if too_long is not None:
            raise too_long
        return last

    def _within(self, group: str, reach: Reach) -> Reach:
        """How far text may go that is for this group."""
        return reach.narrowed(self._config.policies.get(group, ANYWHERE))

    def _patience(self, call: Call) -> Callable[[], Awaitable[bool]]:
        """What waits a moment while a deployment is being probed, and says whether to ask again.

        It does so for as long as the probe may take to its first token: a verdict is on its way, and an engine that is
        back can take all who wait.
        """
        until_s: float | None = None

        async def wait() -> bool:
            nonlocal until_s
            probed = [member for group in self._groups_for(call) for member in group.members if member.breaker.probing]
            now_s = self._clock.monotonic()
            if until_s is None and probed:
                until_s = now_s + max(member.deployment.deadlines.first_token_s for member in probed)
            if until_s is None or not probed or now_s >= until_s:
                return False
            await asyncio.sleep(random.uniform(0, _LOOK_S))  # noqa: S311 - so that they don't all come at once
            return True

        return wait

    async def _open_in(
        self, group: Group, call: Call, asked: set[str]
    ) -> Answer | UpstreamError | UpstreamRefused | None:
        """Try a group's deployments in turn, and add their names to `asked`.

        Returns: the answer, or why the last one that was asked gave none.
        """
        last: UpstreamError | UpstreamRefused | None = None
        trail = group.trail(call)
        candidates = group.in_turn(reach=call.reach, native_only=call.native_only, trail=trail)
        tries = 0
        for member, offered in candidates:
            if call.shadow and (offered.probe or tries):
                member.breaker.withdraw(offered)
                continue
            permit = await self._probes.clear(member, offered) if offered.probe else offered
            if permit is None:
                continue
            if tries and (tries > self._config.num_retries or not (_moves(last) or self._budget.spend())):
                member.breaker.withdraw(permit)
                break
            tries += 1
            try:
                answer = await self._attempt(member, permit, call, asked).open()
                group.strategy.sent(member.deployment.name, trail, member.health.holds.kv_tokens)
                return answer
            except UpstreamError as error:
                last = error
            except UpstreamRefused as error:
                if error.status != 429:
                    raise
                last = error
        return last

    def _attempt(self, member: Member, permit: Permit, call: Call, asked: set[str]) -> Attempt:
        asked.add(member.deployment.name)
        lane, elsewhere = self._lanes[member.deployment.lane], partial(self._could_answer, call)
        return Attempt(lane, member, permit, call, self._clock, asked, elsewhere)

    def _could_answer(self, call: Call, asked: Collection[str]) -> bool:
        """Whether nothing is known against some deployment besides those that were `asked`."""
        return any(
            group.could_answer(asked, reach=call.reach, native_only=call.native_only)
            for group in self._groups_for(call)
        )

    def _candidates(self, call: Call) -> Iterator[tuple[Member, Permit]]:
        """All that might answer the call, in turn."""
        for group in self._groups_for(call):
            yield from group.in_turn(reach=call.reach, native_only=call.native_only, trail=group.trail(call))

    def _members_for(self, call: Call) -> list[Member]:
        return [
            member
            for group in self._groups_for(call)
            for member in group.eligible(reach=call.reach, native_only=call.native_only)
        ]

    def _groups_for(self, call: Call) -> list[Group]:
        """The group that was asked for and its fallbacks; those whose engines all stand still come last.

        A fallback is left out where all its deployments are disabled, or none can answer such a call.
        """
        others = () if call.shadow else self._config.fallbacks.get(call.group, ())
        fitting = self._fitting(call, (call.group, *others))
        if len(fitting) == 1:
            return fitting
        return sorted(
            fitting,
            key=lambda group: not group.has_upright(reach=call.reach, native_only=call.native_only),
        )

    def _larger(self, call: Call) -> list[Group]:
        """Where a prompt may go that does not fit into the window of the group that was asked for."""
        return self._fitting(call, self._config.context_fallbacks.get(call.group, ()))

    def _fitting(self, call: Call, names: Iterable[str]) -> list[Group]:
        groups = [self._groups[name] for name in names if name in self._groups]
        if self._config.guards:
            groups = [group for group in groups if self._have_looked(call, group.name)]
        return [group for group in groups if group.kind == call.needs]

    def _have_looked(self, call: Call, group: str) -> bool:
        """Whether a call may go there: one that was under way when the configuration changed keeps its guards."""
        posted = self._config.guards.get(group, ())
        return group == call.group or all(any(one.guard is guard for guard in call.guards) for one in posted)

    def _verdict(self, call: Call, asked: Group, last: RouterError | None) -> RouterError:
        """What to raise when nobody answered."""
        back_s = back_in_s(self._members_for(call), self._clock.monotonic()) if _is_gone(last) else None
        if back_s is not None:
            why = f"it is asleep or scaled to zero, and back in about {back_s:.0f} s"
            return NoDeployment(call.group, why, back_s)
        if last is not None and not isinstance(last, UpstreamUnavailable):
            return last
        wait_s = asked.retry_after_s(reach=call.reach)
        if isinstance(last, UpstreamUnavailable):
            wait_s = max(wait_s, last.retry_after_s or 0)
            return NoDeployment(call.group, f"{last.deployment} {last.reason}", wait_s, _LOOK)
        if call.native_only and all(member.deployment.lane is not LaneName.NATIVE for member in asked.members):
            return _wrong_kind(call, "hosted")
        if not asked.may_have(call.reach):
            return LeavesTheHouse(call.group, [member.deployment for member in asked.members], call.reach)
        if all(member.deployment.draining for member in asked.members):
            return NoDeployment(call.group, "it is being drained", wait_s)
        if {member.health.ejected for member in self._members_for(call)} == {"asleep"}:
            return NoDeployment(call.group, "it is asleep", wait_s)
        return NoDeployment(call.group, "all of them have been failing and are being rested", wait_s, _LOOK)


async def _entered(group: Group, call: Call) -> Place:
    """A place in the group's gate; waiting for one is a stage of its own. Raises: Overloaded."""
    if group.gate.has_room:
        return await group.gate.enter(call.priority)
    with tracing.stage("wait"):
        return await group.gate.enter(call.priority)


def _is_gone(found: Answer | RouterError | None) -> bool:
    """Nobody was there, so that one may have to be waited for."""
    return found is None or isinstance(found, UpstreamUnavailable | UpstreamEjected)


def _moves(error: UpstreamError | UpstreamRefused | None) -> bool:
    """The call only moves away from a deployment that is gone: that is no load upon load, so no budget is spent."""
    return isinstance(error, UpstreamUnavailable | UpstreamEjected | UpstreamCut)


def _status(member: Member) -> DeploymentStatus:
    deployment = member.deployment
    return DeploymentStatus(
        deployment.name,
        deployment.group,
        deployment.lane,
        deployment.hosted,
        member.breaker.state.value,
        member.health.ejected,
        deployment.draining,
    )


def _wrong_kind(call: Call, kind: str) -> UpstreamRefused:
    route = {"embedding": "/v1/embeddings", "rerank": "/v1/rerank"}.get(kind, "/v1/chat/completions")
    error = {
        "message": f"The model {call.group!r} is for {route}.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_for_this_route",
    }
    return UpstreamRefused(400, error)


def _info(group: Group, created: int) -> ModelInfo:
    return ModelInfo(group.name, group.members[0].deployment.provider, created, group.kind)
