"""/v1/admin/deployments."""

import re
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.deployments.deployments import Deployments, Shown
from api.exact import ExactRoute
from api.identity import Acting, Caller
from api.paging import whole_page
from api.state import State
from router.litellm_form import ModelEntry

routes = APIRouter(prefix="/v1/admin/deployments", tags=["Administration"], route_class=ExactRoute)

_PICO_PER_USD = 10**12
_USER = re.compile(r"(?<=//)[^/@]*@")


class DeploymentChange(BaseModel):
    """What is to change."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["active", "draining"] = Field(
        description="draining: it is given no new calls, and those that it has go on. active: it is given them again, "
        "also after it was removed."
    )


@routes.post("", status_code=201)
async def add_deployment(asked: ModelEntry, state: State, by: Acting) -> dict[str, Any]:
    """Add a deployment, as `model_list` would have it; secrets are named as `os.environ/NAME`."""
    return _shown(await state.deployments.add(by, asked))


@routes.get("")
async def list_deployments(state: State, _: Caller) -> dict[str, Any]:
    """All deployments, and whether the configuration's file is in use as it stands."""
    shown = await state.deployments.all()
    return {**whole_page(shown, _shown, has_more=False), "configuration": _configuration(state.deployments)}


@routes.post("/reload")
async def reload_configuration(state: State, _: Caller) -> dict[str, Any]:
    """Read the configuration's file now, rather than within a second or two of its change."""
    await state.deployments.reload()
    return _configuration(state.deployments)


@routes.get("/{name:path}")
async def get_deployment(name: str, state: State, _: Caller) -> dict[str, Any]:
    """One deployment; `drained` is one that no worker gives calls to, and that has none left."""
    return _shown(await state.deployments.get(name))


@routes.patch("/{name:path}")
async def change_deployment(name: str, asked: DeploymentChange, state: State, by: Acting) -> dict[str, Any]:
    """Drain a deployment, or have it be active again."""
    shown = await state.deployments.put(by, name, asked.state)
    assert shown is not None  # only who is removed is forgotten
    return _shown(shown)


@routes.delete("/{name:path}")
async def remove_deployment(name: str, state: State, by: Acting) -> dict[str, Any]:
    """Remove a deployment; calls that it has go on. One of the file's stays removed until it is made active."""
    await state.deployments.put(by, name, "removed")
    return {"id": name, "object": "deployment.deleted", "deleted": True}


def _configuration(deployments: Deployments) -> dict[str, Any]:
    following = deployments.following
    return {
        "object": "configuration",
        "read_at": int(following.read_at),
        "error": following.error,
        "unsupported": list(following.config.unsupported),
        "routing_strategy": following.config.strategy,
        "fallbacks": {group: list(others) for group, others in following.config.fallbacks.items() if others},
    }


def _shown(shown: Shown) -> dict[str, Any]:
    deployment, health = shown.deployment, shown.health
    said: dict[str, Any] = {
        "id": shown.name,
        "object": "deployment",
        "state": shown.condition,
        "source": shown.source,
        "reason": shown.reason,
        "running": shown.running,
    }
    if deployment is not None:
        said |= {
            "model_group": deployment.group,
            "model": deployment.model,
            "kind": deployment.kind,
            "lane": deployment.lane,
            "provider": deployment.provider,
            "hosted": deployment.hosted,
            "api_base": _USER.sub("", deployment.api_base or "") or None,
            "weight": deployment.weight,
            "max_parallel_requests": deployment.max_parallel,
            "input_cost_per_token": deployment.price.prompt / _PICO_PER_USD,
            "output_cost_per_token": deployment.price.completion / _PICO_PER_USD,
        }
    if health is not None:
        said |= {"breaker": health.state, "ejected": health.ejected}
    return said
