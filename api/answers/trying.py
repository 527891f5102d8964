"""Experiments over ways of answering: part of a collection's callers is answered by another recipe.

Who takes part is told as for models (`router.experiments`), so that everybody stays where they are, and what a side's
answers came to is counted beside those. An answer out of the cache says nothing of how it was made, and is not counted;
lines of batches take no part.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from api.answers.events import Done, Event
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
from router.experiments import Arm, Experiment

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
        experiment, began_s = self._of(identity.principal, question.collection), self._clock.monotonic()
        arm: Arm = "control"
        if experiment is not None and experiment.takes(identity.principal.who):
            question, arm = replace(question, recipe=experiment.answers), "variant"
        try:
            async with aclosing(self._answerer.answer(identity, question)) as events:
                async for event in events:
                    if experiment is not None and isinstance(event, Done):
                        _count(experiment.name, arm, event, self._clock.monotonic() - began_s)
                    yield event
        except _AWAY:
            if experiment is not None:
                tally.add(metrics.EXPERIMENT_CALLS.labels(experiment.name, arm, "failed"))
            raise

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


def _count(name: str, arm: Arm, done: Done, taken_s: float) -> None:
    if done.cache in ("exact", "semantic"):
        return
    outcome = "ok" if done.degraded_reason is None else "failed"
    tally.add(metrics.EXPERIMENT_CALLS.labels(name, arm, outcome))
    if outcome == "ok":
        tally.add(metrics.EXPERIMENT_SECONDS.labels(name, arm), taken_s)
        tally.add(metrics.EXPERIMENT_SQUARES.labels(name, arm), taken_s**2)
        tally.add(metrics.EXPERIMENT_NANO_USD.labels(name, arm), done.nano_usd)


def check(config: RouterConfig) -> None:
    """Raises: ConfigInvalid: one would answer by what is no recipe."""
    for one in config.experiments:
        try:
            read_changes(one.answers, f"stoker.experiments.{one.name}.answers")
        except RequestInvalid as error:
            raise ConfigInvalid(str(error)) from error
