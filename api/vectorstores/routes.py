"""/v1/vector_stores."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query

from api.identity import Caller
from api.paging import After, Limit, checked_cursor, whole_page
from api.roles import require
from api.state import AppState, State
from api.vectorstores import requests, shown
from api.vectorstores.turning import Turn
from core.principal import Principal
from retrieval.called import CollectionId
from retrieval.collections import Collection, is_name

routes = APIRouter(prefix="/v1/vector_stores", tags=["Vector stores"])

Order = Annotated[Literal["asc", "desc"], Query(description="By the time at which they were made.")]
Before = Annotated[str | None, Query(description="Id of the first item of the page behind.")]


async def _turn(after: After = None, before: Before = None, limit: Limit = 20, order: Order = "desc") -> Turn:
    return Turn(limit, order == "desc", checked_cursor(after, "col"), checked_cursor(before, "col", "before"))


@routes.post("")
async def create_store(asked: requests.NewStore, state: State, principal: Caller) -> dict[str, Any]:
    """Make a vector store, and attach files to it."""
    wanted = asked.attachments()
    if wanted:  # a scope that makes stores puts nothing in
        require(principal, "POST", "/v1/vector_stores/{store_id}/files")
    metadata = requests.check_store_metadata(asked.metadata)
    await state.attaching.check(principal, wanted)  # before there is a store that would be left empty
    made = await _make(state, principal, asked, metadata)
    if wanted:
        await state.attaching.attach(principal, CollectionId(made.id), wanted)
    return shown.store(await state.vector_stores.get(principal, made.id))


@routes.get("")
async def list_stores(state: State, principal: Caller, turn: Annotated[Turn, Depends(_turn)]) -> dict[str, Any]:
    """The tenant's vector stores: all of its collections."""
    page = await state.vector_stores.list(principal, turn)
    return whole_page(page.items, shown.store, has_more=page.has_more)


@routes.get("/{store_id}")
async def get_store(store_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """One vector store; what the caller may not read of it is not counted."""
    return shown.store(await state.vector_stores.get(principal, store_id))


@routes.post("/{store_id}")
async def change_store(store_id: str, asked: requests.StoreChange, state: State, principal: Caller) -> dict[str, Any]:
    """Change what a store is called, its metadata, or how long it lasts; its collection's name stays."""
    known = await state.vector_stores.get(principal, store_id)
    metadata = None if asked.metadata is None else requests.check_store_metadata(asked.metadata)
    await state.retrieval.collections.change(
        principal, CollectionId(known.id), metadata=metadata, title=asked.name, life=asked.life()
    )
    return shown.store(await state.vector_stores.get(principal, store_id))


@routes.delete("/{store_id}")
async def delete_store(store_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Delete a store and its documents; the files that were attached stay."""
    known = await state.vector_stores.get(principal, store_id)
    await state.retrieval.collections.delete(principal, CollectionId(known.id))
    return {"id": store_id, "object": "vector_store.deleted", "deleted": True}


@routes.post("/{store_id}/search")
async def search_store(store_id: str, asked: requests.StoreSearch, state: State, principal: Caller) -> dict[str, Any]:
    """Find the passages nearest to a question, best first; of several questions, what is near to any."""
    query = asked.as_query(store_id)
    await state.vector_stores.named(principal, store_id)
    result = await state.retrieval.searcher.search(principal, query)
    return shown.found(asked.texts, result.passages, asked.max_num_results)


async def _make(
    state: AppState, principal: Principal, asked: requests.NewStore, metadata: dict[str, Any]
) -> Collection:
    """Name the collection as the store where that is a free name for one; else by its id."""
    title = "" if asked.name is None else asked.name
    about: dict[str, Any] = {
        "description": requests.check_text(asked.description or "", "description"),
        "metadata": metadata,
        "expires_after_days": None if asked.expires_after is None else asked.expires_after.days,
    }
    collections = state.retrieval.collections
    made = await collections.create_if_free(principal, title, **about) if is_name(title) else None
    return made or await collections.create(principal, None, title=title, **about)
