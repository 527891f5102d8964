"""/v1/admin/engines."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from api.identity import Caller
from api.state import State
from router.deployment import Deployment, LaneName

routes = APIRouter(prefix="/v1/admin/engines", tags=["Administration"])


@routes.get("")
async def list_engines(state: State, _: Caller) -> dict[str, Any]:
    """What one's own engines say of now: running, waiting, KV cache; and their GPUs, by model."""
    known = {shown.name: shown.deployment for shown in await state.deployments.all()}
    engines = {name: _metrics(one) for name, one in known.items() if one is not None and _is_own(one)}
    seen = await state.engines.look(engines)
    return {
        "object": "list",
        "data": [asdict(engine) for engine in seen.engines],
        "gpus": [asdict(gpu) for gpu in seen.gpus],
    }


def _is_own(deployment: Deployment) -> bool:
    return deployment.lane is LaneName.NATIVE and not deployment.hosted and deployment.api_base is not None


def _metrics(deployment: Deployment) -> str:
    return f"{(deployment.api_base or '').rstrip('/').removesuffix('/v1')}/metrics"
