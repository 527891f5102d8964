"""/v1/conversations. Listing them, titles and the export are our own; the rest is OpenAI's."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from api.conversations import items as forms
from api.conversations.items import Item, read_items
from api.conversations.metadata import is_text, read_metadata
from api.conversations.rows import Conversation, Order
from api.conversations.store import UNSET, Conversations
from api.errors import RequestInvalid
from api.identity import Caller
from api.paging import After, Limit, checked_cursor, page
from api.reach_form import shown_reach
from api.state import State
from core.principal import Principal

routes = APIRouter(prefix="/v1/conversations", tags=["Conversations"])

MAX_ADDED = 20  # items in one request, as OpenAI has it
_EXPORTED = 100  # items read at once

_ONE = "/{conversation_id}"
_ITEMS = "/{conversation_id}/items"

Wanted = Annotated[Order, Query(description="By when it was made.")]
Include = Annotated[list[str], Query(alias="include[]", description="file_search_call.results: what was found.")]
_NOTHING: list[str] = []


class ConversationRequest(BaseModel):
    """A conversation to be begun."""

    model_config = ConfigDict(extra="forbid")

    items: list[Any] | None = None
    metadata: dict[str, Any] | None = None
    title: str | None = Field(None, max_length=200)


class ConversationChange(BaseModel):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    metadata: dict[str, Any] | None = None
    title: str | None = Field(None, max_length=200)


class ItemsRequest(BaseModel):
    """Items to be added."""

    model_config = ConfigDict(extra="forbid")

    items: list[Any]


@routes.post("")
async def create_conversation(asked: ConversationRequest, state: State, principal: Caller) -> dict[str, Any]:
    """Begin a conversation."""
    items = read_items(asked.items or [], "items", MAX_ADDED)
    metadata, title = read_metadata(asked.metadata), _title(asked.title)
    return shown(await state.conversations.create(principal, items, metadata, title))


@routes.get("")
async def list_conversations(
    state: State, principal: Caller, after: After = None, limit: Limit = 20, order: Wanted = "desc"
) -> dict[str, Any]:
    """The caller's own conversations."""
    return page(
        await state.conversations.list(principal, checked_cursor(after, "conv"), limit + 1, order), limit, shown
    )


@routes.get(_ONE)
async def get_conversation(conversation_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """One conversation, without its items."""
    return shown(await state.conversations.get(principal, conversation_id))


@routes.post(_ONE)
async def change_conversation(
    conversation_id: str, asked: ConversationChange, state: State, principal: Caller
) -> dict[str, Any]:
    """Change its metadata or its title."""
    given = asked.model_fields_set
    changed = await state.conversations.change(
        principal,
        conversation_id,
        metadata=read_metadata(asked.metadata) if "metadata" in given else UNSET,
        title=_title(asked.title) if "title" in given else UNSET,
    )
    return shown(changed)


@routes.delete(_ONE)
async def delete_conversation(conversation_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Delete it; no later request sees any of it."""
    await state.conversations.delete(principal, conversation_id)
    return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}


@routes.get("/{conversation_id}/export")
async def export_conversation(conversation_id: str, state: State, principal: Caller) -> StreamingResponse:
    """All of it as one JSON object."""
    conversation = await state.conversations.get(principal, conversation_id)
    headers = {"content-disposition": f'attachment; filename="{conversation.id}.json"'}
    pieces = _exported(state.conversations, principal, conversation)
    return StreamingResponse(pieces, headers=headers, media_type="application/json")


@routes.post(_ITEMS)
async def add_items(
    conversation_id: str, asked: ItemsRequest, state: State, principal: Caller, include: Include = _NOTHING
) -> dict[str, Any]:
    """Add items at its end, all or none."""
    items = read_items(asked.items, "items", MAX_ADDED)
    if not items:
        raise RequestInvalid("items must hold at least one item", "items")
    await state.conversations.add(principal, conversation_id, items)
    return page(items, len(items), lambda item: forms.shown(item, include))


@routes.get(_ITEMS)
async def list_items(
    conversation_id: str,
    state: State,
    principal: Caller,
    after: After = None,
    limit: Limit = 20,
    order: Wanted = "desc",
    include: Include = _NOTHING,
) -> dict[str, Any]:
    """Its items, the newest first unless asked otherwise."""
    found = await state.conversations.items(principal, conversation_id, after, limit + 1, order)
    return page(found, limit, lambda item: forms.shown(item, include))


@routes.get(_ITEMS + "/{item_id}")
async def get_item(
    conversation_id: str, item_id: str, state: State, principal: Caller, include: Include = _NOTHING
) -> Item:
    """One item."""
    return forms.shown(await state.conversations.item(principal, conversation_id, item_id), include)


@routes.delete(_ITEMS + "/{item_id}")
async def delete_item(conversation_id: str, item_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Take an item out, and see the conversation."""
    return shown(await state.conversations.remove(principal, conversation_id, item_id))


def shown(conversation: Conversation) -> dict[str, Any]:
    """The conversation as clients see it."""
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": int(conversation.created_at),
        "metadata": conversation.metadata,
        "title": conversation.title,
        "updated_at": int(conversation.updated_at),
        **shown_reach(conversation.reach),
    }


def _title(title: str | None) -> str | None:
    if title is not None and not is_text(title):
        raise RequestInvalid("title must be a text without control characters", "title")
    return title


async def _exported(store: Conversations, principal: Principal, conversation: Conversation) -> AsyncIterator[bytes]:
    """Read page by page: a conversation may be larger than what one worker should hold."""
    yield orjson.dumps(shown(conversation))[:-1] + b',"items":['
    after: str | None = None
    while found := await store.items(principal, conversation.id, after, _EXPORTED, "asc"):
        yield (b"," if after is not None else b"") + orjson.dumps(found)[1:-1]
        after = found[-1]["id"]
    yield b"]}"
