"""Experiments: part of a group's calls goes to another group instead, or, as a shadow, there as well.

Who takes part is told by a hash of the experiment's name and of the caller, so that everybody stays where they are, in
every worker and after every restart. A variant that gives no answer costs the caller nothing but time: the group that
was asked for answers then.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from core.clock import Clock
from core.priority import Priority
from core.usage import Usage
from monitoring import metrics
from monitoring.logs import logger
from monitoring.tally import tally
from router.answer import Answer
from router.call import Call
from router.errors import LeavesTheHouse, Overloaded, RouterError, UpstreamRefused

_log = logger(__name__)

Arm = Literal["control", "variant", "shadow"]

GIVEN_UP_S = 10.0  # after which a call that its client leaves unanswered counts as failed
_SHADOWS = 8  # at once in one worker; what comes meanwhile casts none


@dataclass(frozen=True, slots=True)
class Stop:
    """When an experiment is stopped because its variant is worse.

    Attributes:
        after: calls that each side must have had.
        failures: by how much its share of failed calls may be higher, from 0 to 1.
        slower: how many times as long its first token may take on average.
    """

    after: int = 200
    failures: float = 0.02
    slower: float = 1.5


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is tried.

    Attributes:
        group: whose calls take part; empty where a way of answering is tried.
        to: the group that is tried.
        percent: of the callers; of a shadow: of the calls.
        shadow: calls go to both, and what `to` says is told to nobody.
        stop: None: it goes on until somebody ends it.
        stopped: it has ended: no call takes part.
        collection: whose answers take part, as requests name it; None: calls of a group do.
        tenant: whose collection that is, by its id; None: the first tenant's.
        answers: what is otherwise in the recipe that is tried.
    """

    name: str
    group: str
    to: str
    percent: float
    shadow: bool = False
    stop: Stop | None = Stop()
    stopped: bool = False
    collection: str | None = None
    tenant: str | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)

    def takes(self, who: str) -> bool:
        """Whether this caller, or this call, is among them."""
        digest = hashlib.blake2b(f"{self.name}\0{who}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64 * 100 < self.percent


class Trial:
    """One call of an experiment; told once how it ended."""

    def __init__(self, experiment: Experiment, arm: Arm, clock: Clock) -> None:
        self.labels = experiment.name, arm
        self._group = experiment.group if arm == "control" else experiment.to
        self._clock = clock
        self._began_s: float | None = clock.monotonic()

    def failed(self) -> None:
        """It gave no answer, or a broken one."""
        self._end("failed")

    def left(self) -> None:
        """Its client gave it up before anything came: after so long that is a failure."""
        if self._began_s is not None and self._clock.monotonic() - self._began_s > GIVEN_UP_S:
            self.failed()

    def ended(self, answer: Answer) -> None:
        """It is over, as its answer tells; one that its client left says nothing."""
        began_s = self._began_s
        if not answer.over or began_s is None:
            self._began_s = None
            return
        broken = answer.broken and answer.refused is None  # what a guard refuses was answered well
        if broken or answer.deployment.group != self._group:  # another group had to help
            self.failed()
            return
        first_s = answer.first_token_s
        taken_s = (self._clock.monotonic() if first_s is None else first_s) - began_s
        self._end("ok")
        tally.add(metrics.EXPERIMENT_SECONDS.labels(*self.labels), taken_s)
        tally.add(metrics.EXPERIMENT_SQUARES.labels(*self.labels), taken_s**2)
        spent = answer.deployment.price.nano_usd(answer.usage or Usage(0, answer.tokens))
        tally.add(metrics.EXPERIMENT_NANO_USD.labels(*self.labels), spent)

    def _end(self, outcome: str) -> None:
        began_s, self._began_s = self._began_s, None
        if began_s is not None:
            tally.add(metrics.EXPERIMENT_CALLS.labels(*self.labels, outcome))


class Experiments:
    """Those of one router.

    Args:
        open_: asks a group, as the router does without experiments.
    """

    def __init__(self, open_: Callable[[Call], Awaitable[Answer]], clock: Clock) -> None:
        self._open = open_
        self._clock = clock
        self._by_group: dict[str, Experiment] = {}
        self._shadows: dict[str, Experiment] = {}
        self._casting: set[asyncio.Task[None]] = set()

    def follow(self, experiments: "tuple[Experiment, ...]") -> None:
        """Have these from now on."""
        running = [one for one in experiments if not one.stopped]
        self._by_group = {one.group: one for one in running if not one.shadow}
        self._shadows = {one.group: one for one in running if one.shadow}

    def concern(self, group: str) -> bool:
        """Whether calls for this group take part in any."""
        return group in self._by_group or group in self._shadows

    def others(self, group: str) -> tuple[str, ...]:
        """Groups that may answer instead."""
        found = self._by_group.get(group)
        return () if found is None else (found.to,)

    def answers(self, group: str, who: str) -> str:
        """The group to which this caller's calls for a group go."""
        found = self._by_group.get(group)
        return found.to if found is not None and found.takes(who) else group

    async def open(self, call: Call) -> Answer:
        """Ask the group that this caller's calls go to. Raises: as the router does."""
        experiment, shadow = self._by_group.get(call.group), self._shadows.get(call.group)
        answer = await (self._open(call) if experiment is None else self._tried(call, experiment))
        if shadow is not None and shadow.takes(call.request_id):
            self._cast(call, shadow)
        return answer

    async def close(self) -> None:
        """End the shadows that are under way."""
        for task in self._casting:
            task.cancel()
        await asyncio.gather(*self._casting, return_exceptions=True)

    async def _tried(self, call: Call, experiment: Experiment) -> Answer:
        if experiment.takes(call.who):
            trial = Trial(experiment, "variant", self._clock)
            try:
                return _followed(await self._open(replace(call, group=experiment.to)), trial)
            except asyncio.CancelledError:
                trial.left()
                raise
            except LeavesTheHouse:
                return await self._open(call)  # the caller's text may not go there, which says nothing of it
            except RouterError as error:
                if not _is_callers(error):
                    trial.failed()
                _log.warning("a variant gave no answer", experiment=experiment.name, reason=str(error))
                return await self._open(call)
        trial = Trial(experiment, "control", self._clock)
        try:
            return _followed(await self._open(call), trial)
        except asyncio.CancelledError:
            trial.left()
            raise
        except RouterError as error:
            if not _is_callers(error):
                trial.failed()
            raise

    def _cast(self, call: Call, experiment: Experiment) -> None:
        if len(self._casting) >= _SHADOWS:
            tally.add(metrics.EXPERIMENT_CALLS.labels(experiment.name, "shadow", "left out"))
            return
        body = {key: value for key, value in call.body.items() if key not in ("stream", "stream_options")}
        shadow = replace(
            call,
            group=experiment.to,
            body=body,
            stream=False,
            request_id=f"{call.request_id}.shadow",
            priority=Priority.BATCH,
            rescue=False,
            shadow=True,
        )
        task = asyncio.create_task(self._observed(shadow, Trial(experiment, "shadow", self._clock)))
        self._casting.add(task)
        task.add_done_callback(self._casting.discard)

    async def _observed(self, call: Call, trial: Trial) -> None:
        try:
            answer = await self._open(call)
        except LeavesTheHouse:
            return
        except Overloaded:
            tally.add(metrics.EXPERIMENT_CALLS.labels(*trial.labels, "left out"))
            return
        except RouterError as error:
            if not _is_callers(error):
                trial.failed()
            _log.info("a shadow failed", group=call.group, request_id=call.request_id, reason=str(error))
            return
        except Exception:  # nobody waits for it who would hear of it
            _log.exception("a shadow broke", group=call.group, request_id=call.request_id)
            return
        trial.ended(answer)
        await answer.aclose()


def _is_callers(error: RouterError) -> bool:
    """The request is at fault, or nothing for this group: that says nothing of how well it answers."""
    return isinstance(error, UpstreamRefused) and error.status != 429


def _followed(answer: Answer, trial: Trial) -> Answer:
    """Have the trial told of the answer's end."""
    if answer.frames is None:
        trial.ended(answer)
    else:
        answer.on_close(lambda: trial.ended(answer))
    return answer
