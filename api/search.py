"""POST /v1/search: passages, without an answer."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from api.identity import Caller
from api.search_form import SearchRequest, shown
from api.state import AppState, State
from core.principal import Principal

routes = APIRouter(prefix="/v1/search", tags=["Documents"])


@routes.post("", response_model=None)
async def search(asked: SearchRequest, state: State, principal: Caller) -> Response:
    """Find the passages nearest to a question, best first."""

    async def look() -> dict[str, Any]:
        return await _searched(asked, state, principal)

    if not asked.use_cache:
        return JSONResponse(await look(), headers={"x-cache": "bypass"})
    fields = asked.model_dump(exclude={"collection", "use_cache"})
    found, use = await state.searched.find(principal, asked.collection, fields, look)
    return JSONResponse(found, headers={"x-cache": use})


async def _searched(asked: SearchRequest, state: AppState, principal: Principal) -> dict[str, Any]:
    return shown(await state.retrieval.searcher.search(principal, asked.asked()))
