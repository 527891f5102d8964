"""/health, /status and /metrics."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from api.identity import Caller
from api.state import AppState, State
from core.dependency import DependencyError
from core.version import VERSION
from monitoring.metrics import exposition
from monitoring.tally import tally

routes = APIRouter(tags=["Operations"])


@routes.get("/health/live")
@routes.get("/health")
async def live() -> dict[str, str]:
    """The process runs, and of which version; nothing else is asked."""
    return {"status": "ok", "version": VERSION}


@routes.get("/health/ready")
async def ready(state: State) -> JSONResponse:
    """Whether the parts answer: 200 once all do, else 503 with the names of those that don't."""
    parts = await _ask_parts(state)
    ok = all(word == "ok" for word in parts.values())
    return JSONResponse({"status": "ok" if ok else "degraded", "parts": parts}, 200 if ok else 503)


@routes.get("/status")
async def status(state: State, _: Caller) -> dict[str, Any]:
    """The version, parts, breakers and deployments, for operators."""
    dependencies = (state.database.dependency, state.redis.dependency, *state.retrieval.dependencies())
    return {
        "version": VERSION,
        "parts": await _ask_parts(state),
        "breakers": {dependency.name: dependency.state.value for dependency in dependencies},
        "deployments": [
            {
                "name": deployment.name,
                "model_group": deployment.group,
                "lane": deployment.lane,
                "hosted": deployment.hosted,
                "state": deployment.state,
                "ejected": deployment.ejected,
                "draining": deployment.draining,
            }
            for deployment in state.router.status()
        ],
    }


@routes.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """All metrics of all processes of this host's API side, for Prometheus."""
    tally.flush()
    text, media_type = await asyncio.to_thread(exposition)
    return Response(text, headers={"content-type": media_type})


async def _ask_parts(state: AppState) -> dict[str, str]:
    checks: dict[str, Callable[[], Awaitable[None]]] = {
        "sql": state.database.check,
        "redis": state.redis.check,
        **state.retrieval.checks(),
    }
    answers = await asyncio.gather(*(_ask(check) for check in checks.values()))
    return dict(zip(checks, answers, strict=True))


async def _ask(check: Callable[[], Awaitable[None]]) -> str:
    try:
        await check()
    except DependencyError as error:
        return str(error)
    return "ok"
