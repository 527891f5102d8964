"""GET /v1/models."""

from typing import Any

from fastapi import APIRouter

from api.auto.auto import AUTO
from api.identity import Caller
from api.state import AppState, State
from router.errors import ModelNotFound
from router.router import ModelInfo

routes = APIRouter(tags=["OpenAI"])


@routes.get("/v1/models")
async def list_models(state: State, _: Caller) -> dict[str, Any]:
    """The model groups that requests may name."""
    return {"object": "list", "data": [_shown(model) for model in _models(state)]}


@routes.get("/v1/models/{model_id:path}")
async def get_model(model_id: str, state: State, _: Caller) -> dict[str, Any]:
    """One model group."""
    models = {model.id: model for model in _models(state)}
    if model_id not in models:
        raise ModelNotFound(model_id, sorted(models))
    return _shown(models[model_id])


def _models(state: AppState) -> list[ModelInfo]:
    """The groups, and `auto` behind them, where it may choose among some."""
    models = state.router.models()
    return models if state.auto is None else [*models, ModelInfo(AUTO, "stoker", models[0].created, "chat")]


def _shown(model: ModelInfo) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "kind": model.kind,
    }
