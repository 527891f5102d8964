"""Experiments over ways of answering: what is refused when the configuration is read, and what counts as worse."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.answers.events import Event, Token
from api.answers.question import Question
from api.answers.trying import TriedAnswerer, check
from api.first_key import DEFAULT_TENANT
from api.identities import Identity
from core.clock import ManualClock
from core.principal import Principal, Role
from monitoring import metrics
from monitoring.tally import tally
from router.config import RouterConfig
from router.errors import ConfigInvalid
from router.experiments import GIVEN_UP_S, Experiment


def test_what_is_no_recipe_is_refused_with_its_place() -> None:
    def config(**answers: object) -> RouterConfig:
        return RouterConfig(experiments=[Experiment("other", "", "", 5, collection="c", answers=answers)])

    check(config(mode="lexical", passages=3))
    for answers, says in (
        ({"mode": "sideways"}, r"stoker\.experiments\.other\.answers\.mode is one of"),
        ({"speed": 3}, "not speed"),
        ({"passages": 0}, "whole number from 1 to 20"),
    ):
        with pytest.raises(ConfigInvalid, match=says):
            check(config(**answers))


@pytest.mark.parametrize(
    ("after_s", "told", "failed"), [(GIVEN_UP_S + 1, False, 1), (GIVEN_UP_S - 1, False, 0), (GIVEN_UP_S + 1, True, 0)]
)
async def test_a_way_that_hangs_until_its_caller_gives_up_has_failed(after_s: float, told: bool, failed: int) -> None:
    clock = ManualClock()

    class Hanging:
        async def answer(self, _: Identity, __: Question) -> AsyncGenerator[Event, None]:
            if told:
                yield Token("The", None)
            clock.advance(after_s)
            raise asyncio.CancelledError

    experiment = Experiment(f"hangs{after_s}{told}", "", "", 100, collection="c", answers={"mode": "lexical"})
    tried = TriedAnswerer(cast(Any, Hanging()), lambda: [experiment], clock)
    caller = SimpleNamespace(principal=Principal(DEFAULT_TENANT, "key_1", Role.MEMBER))
    question = Question("When?", "c", request_id="r", route="/v1/query")
    with pytest.raises(asyncio.CancelledError):
        async for _ in tried.answer(cast(Any, caller), question):
            pass
    tally.flush()
    counted = metrics.EXPERIMENT_CALLS.labels(experiment.name, "variant", "failed")._value.get()
    assert counted == failed
