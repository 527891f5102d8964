"""/v1/admin/experiments."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.errors import ExperimentNotFound
from api.experiments.judging import Side
from api.identity import Acting, Caller
from api.paging import whole_page
from api.state import AppState, State
from core.money import NANO_PER_USD
from router.experiments import Experiment

routes = APIRouter(prefix="/v1/admin/experiments", tags=["Administration"])


class ExperimentChange(BaseModel):
    """What is to change."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["running", "stopped"]
    reason: str = Field("", max_length=500, description="Why it is stopped, for whoever reads it later.")


@routes.get("")
async def list_experiments(state: State, _: Caller) -> dict[str, Any]:
    """All experiments of the configuration, and what each side has shown since it, or the gateway, was started."""
    found = [await _shown(state, experiment) for experiment in state.deployments.following.config.experiments]
    return whole_page(found, lambda one: one, has_more=False)


@routes.get("/{name}")
async def get_experiment(name: str, state: State, _: Caller) -> dict[str, Any]:
    """One experiment; intervals are of 95 %."""
    return await _shown(state, _find(state, name))


@routes.patch("/{name}")
async def change_experiment(name: str, asked: ExperimentChange, state: State, by: Acting) -> dict[str, Any]:
    """End an experiment, or have one go on that has ended; all workers follow within two seconds."""
    _find(state, name)
    await state.deployments.try_experiment(by, name, None if asked.state == "running" else asked.reason)
    return await _shown(state, _find(state, name))


def _find(state: AppState, name: str) -> Experiment:
    for experiment in state.deployments.following.config.experiments:
        if experiment.name == name:
            return experiment
    raise ExperimentNotFound(f"there is no experiment {name} in the configuration", "name")


async def _shown(state: AppState, experiment: Experiment) -> dict[str, Any]:
    kept = state.deployments.following.kept.stopped
    ended = next((one for one in kept if one.name == experiment.name and one.again_at is None), None)
    found = await state.judging.sides(experiment)
    return {
        "id": experiment.name,
        "object": "experiment",
        "state": "stopped" if experiment.stopped else "running",
        "reason": None if ended is None else ended.reason,
        "stopped_at": None if ended is None else int(ended.stopped_at),
        "group": experiment.group or None,
        "to": experiment.to or None,
        "collection": experiment.collection,
        "tenant": experiment.tenant,
        "answers": dict(experiment.answers) or None,
        "percent": experiment.percent,
        "shadow": experiment.shadow,
        "sides": {arm: _side(side) for arm, side in sorted(found.items())},
    }


def _side(side: Side) -> dict[str, Any]:
    error_s, mean_s = side.error_s(), side.mean_s
    around = None if mean_s is None or error_s is None else [mean_s - 1.96 * error_s, mean_s + 1.96 * error_s]
    return {
        "calls": side.calls,
        "failed": side.failed,
        "left_out": side.left_out,
        "share_failed": side.share_failed,
        "share_failed_interval": side.failed_interval(),
        "mean_s": mean_s,
        "mean_s_interval": around,
        "usd_per_call": side.nano_usd / NANO_PER_USD / side.answered if side.answered else None,
    }
