"""/v1/responses/{response_id}: answers that were kept. They are made behind the hot path's door (`serving`)."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.conversations import items as forms
from api.conversations.routes import Include, Wanted
from api.errors import NotSupportedYet, RequestInvalid
from api.identity import Caller
from api.paging import After, Limit, page
from api.responses.shape import shown
from api.state import State

routes = APIRouter(prefix="/v1/responses", tags=["OpenAI"])

_NOTHING: list[str] = []


@routes.get("/{response_id}")
async def get_response(
    response_id: str,
    state: State,
    principal: Caller,
    include: Include = _NOTHING,
    stream: Annotated[bool, Query(description="Not supported.")] = False,
) -> dict[str, Any]:
    """An answer as it was given."""
    if stream:
        raise NotSupportedYet("an answer is streamed only while it is made: leave stream out", "stream")
    return shown((await state.responses.get(principal, response_id)).response, include)


@routes.delete("/{response_id}")
async def delete_response(response_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Delete it; no later request sees it, or goes on from it."""
    await state.responses.delete(principal, response_id)
    return {"id": response_id, "object": "response.deleted", "deleted": True}


@routes.post("/{response_id}/cancel")
async def cancel_response(response_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Refused: only what runs in the background can be cancelled by its id, and nothing does."""
    await state.responses.get(principal, response_id)
    raise RequestInvalid("only a background response can be cancelled; close the connection of a stream to end it")


@routes.get("/{response_id}/input_items")
async def list_input_items(
    response_id: str,
    state: State,
    principal: Caller,
    after: After = None,
    limit: Limit = 20,
    order: Wanted = "desc",
    include: Include = _NOTHING,
) -> dict[str, Any]:
    """The items that were sent with it, the last first unless asked otherwise."""
    items = (await state.responses.get(principal, response_id)).input
    items = items if order == "asc" else items[::-1]
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise RequestInvalid("after names one of these items", "after")
        items = items[ids.index(after) + 1 :]
    return page(items[: limit + 1], limit, lambda item: forms.shown(item, include))
