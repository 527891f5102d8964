"""An experiment that was started again, left the configuration and came back to it."""

from types import SimpleNamespace
from typing import Any

import pytest

from api.deployments.book import Kept, Stopped
from api.experiments import judging
from api.experiments.judging import Judging, Side
from router.experiments import Experiment


async def test_one_that_comes_back_is_not_held_against_counts_that_went_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = Experiment("trial", "a", "b", 50)
    kept = Kept(stopped=[Stopped("trial", "", 1.0, again_at=2.0)])
    following: Any = SimpleNamespace(config=SimpleNamespace(experiments=[experiment]), kept=kept)
    counted = {"trial": {"control": Side(calls=900)}}

    async def told() -> Any:
        return counted

    monkeypatch.setattr(judging, "_counted", told)
    judge = Judging(following, None)  # type: ignore[arg-type]  # nothing is ended
    await judge.look()
    counted["trial"] = {"control": Side(calls=950)}
    assert (await judge.sides(experiment))["control"].calls == 50
    following.config.experiments = []
    await judge.look()
    following.config.experiments = [experiment]
    del counted["trial"]
    await judge.look()
    counted["trial"] = {"control": Side(calls=7)}
    assert (await judge.sides(experiment))["control"].calls == 7
