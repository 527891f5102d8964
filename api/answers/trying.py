"""Experiments over ways of answering: part of a collection's callers is answered by another recipe.

Who takes part is told as for models (`router.experiments`), so that everybody stays where they are, and what a side's
answers came to is counted beside those. An answer out of the cache says nothing of how it was made, and is not counted;
lines of batches take no part.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from api.answers.events import Done, Event, Token
from api.answers.question import Question
from api.answers.recipe import read_changes
from api.errors import RequestInvalid
from api.first_key import DEFAULT_TENANT
from api.identities import Identity
from core.clock import Clock
from core.dependency import DependencyError
from core.principal import Principal
from monitoring import metrics
from monitoring.tally import tally
from router.config import RouterConfig
from router.errors import ConfigInvalid, NoDeployment, UpstreamError
from router.experiments import GIVEN_UP_S, Arm, Experiment

_AWAY = (NoDeployment, UpstreamError, DependencyError)


class Answers(Protocol):
    """Answers questions."""

    def answer(self, identity: Identity, question: Question) -> AsyncGenerator[Event, None]: ...


class TriedAnswerer:
    """Answers as another answerer does, some callers by the recipe that is tried.

    Args:
        experiments: all that the configuration has now.
    """

    def __init__(self, answerer: Answers, experiments: Callable[[], Sequence[Experiment]], clock: Clock) -> None:
        self._answerer = answerer
        self._experiments = experiments
        self._clock = clock

    async def answer(self, identity: Identity, question: Question) -> AsyncGenerator[Event, None]:
        """As the other answerer does."""
        experiment = self._of(identity.principal, question.collection)
        arm: Arm = "control"
        if experiment is not None and experiment.takes(identity.principal.who):
            question, arm = replace(question, recipe=experiment.answers), "variant"
        trial = None if experiment is None else _Trial(experiment.name, arm, self._clock)
        try:
            async with aclosing(self._answerer.answer(identity, question)) as events:
                async for event in events:
                    if trial is not None:
                        trial.told(event)
                    yield event
        except _AWAY:
            if trial is not None:
                trial.failed()
            raise
        finally:
            if trial is not None:
                trial.left()

    def _of(self, principal: Principal, collection: str) -> Experiment | None:
        return next(
            (
                one
                for one in self._experiments()
                if one.collection == collection
                and (one.tenant or DEFAULT_TENANT) == principal.tenant_id
                and not one.stopped
            ),
            None,
        )


class _Trial:
    """One question; counted once."""

    def __init__(self, name: str, arm: Arm, clock: Clock) -> None:
        self._labels = name, arm
        self._clock = clock
        self._began_s = clock.monotonic()
        self._open = True  # nothing was told yet, and nothing is counted

    def told(self, event: Event) -> None:
        """The client has heard something; with `Done` it has heard all."""
        if isinstance(event, Token):
            self._open = False
        if not isinstance(event, Done):
            return
        self._open = False
        if event.cache in ("exact", "semantic"):
            return
        if event.degraded_reason is not None:
            self._count("failed")
            return
        taken_s = self._clock.monotonic() - self._began_s
        self._count("ok")
        tally.add(metrics.EXPERIMENT_SECONDS.labels(*self._labels), taken_s)
        tally.add(metrics.EXPERIMENT_SQUARES.labels(*self._labels), taken_s**2)
        tally.add(metrics.EXPERIMENT_NANO_USD.labels(*self._labels), event.nano_usd)

    def failed(self) -> None:
        """A part was away, or no model answered."""
        self._open = False
        self._count("failed")

    def left(self) -> None:
        """It is over; where its client gave it up before anything came, after so long that is a failure."""
        if self._open and self._clock.monotonic() - self._began_s > GIVEN_UP_S:
            self.failed()
        self._open = False

    def _count(self, outcome: str) -> None:
        tally.add(metrics.EXPERIMENT_CALLS.labels(*self._labels, outcome))


def check(config: RouterConfig) -> None:
    """Raises: ConfigInvalid: one would answer by what is no recipe."""
    for one in config.experiments:
        try:
            read_changes(one.answers, f"stoker.experiments.{one.name}.answers")
        except RequestInvalid as error:
            raise ConfigInvalid(str(error)) from error
