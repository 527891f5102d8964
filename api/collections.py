"""/v1/collections."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.answers.recipes import PromptVersion, keeping
from api.errors import RequestInvalid
from api.identity import Caller
from api.paging import After, Limit, page
from api.reach_form import ReachForm, shown_reach
from api.state import State
from retrieval.collections import Collection

routes = APIRouter(prefix="/v1/collections", tags=["Documents"])


class CollectionRequest(ReachForm):
    """A collection to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = Field("", max_length=10_000)
    metadata: dict[str, Any] = Field(default_factory=dict)
    chunking: dict[str, Any] | None = None
    placement: str | None = None
    language: str | None = None
    search: dict[str, Any] | None = None
    answers: dict[str, Any] | None = None
    embedding_model: str | None = Field(None, description="The first that the embedding server serves where unset.")


class ReindexRequest(BaseModel):
    """What a collection is to be indexed with; `chunking` takes the place of what there was."""

    model_config = ConfigDict(extra="forbid")

    embedding_model: str
    chunking: dict[str, Any] | None = None


class CollectionChange(BaseModel):
    """What is to change of a collection."""

    model_config = ConfigDict(extra="forbid")

    description: str | None = Field(None, max_length=10_000)
    metadata: dict[str, Any] | None = None
    search: dict[str, Any] | None = None
    answers: dict[str, Any] | None = None


@routes.post("", status_code=201)
async def create_collection(asked: CollectionRequest, state: State, principal: Caller) -> dict[str, Any]:
    """Make an empty collection; its name is unique within the tenant."""
    made = await state.retrieval.collections.create(
        principal,
        asked.name,
        asked.description,
        asked.metadata,
        asked.chunking,
        asked.placement,
        asked.language,
        asked.search,
        asked.embedding_model,
        asked.reach(),
        also=None if asked.answers is None else keeping(asked.answers, principal, state.clock),
    )
    return shown(made)


@routes.get("")
async def list_collections(state: State, principal: Caller, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """The tenant's collections."""
    return page(await state.retrieval.collections.list(principal, after, limit + 1), limit, shown)


@routes.get("/{name}")
async def get_collection(name: str, state: State, principal: Caller) -> dict[str, Any]:
    """One collection."""
    return shown(await state.retrieval.collections.get(principal, name))


@routes.patch("/{name}")
async def change_collection(name: str, asked: CollectionChange, state: State, principal: Caller) -> dict[str, Any]:
    """Change a collection's description, metadata, how it is searched or answered from; what is left out stays."""
    changed = await state.retrieval.collections.change(
        principal,
        name,
        description=asked.description,
        metadata=asked.metadata,
        search=asked.search,
        also=None if asked.answers is None else keeping(asked.answers, principal, state.clock),
    )
    return shown(changed)


@routes.get("/{name}/prompts")
async def list_prompts(
    name: str, state: State, principal: Caller, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """Every version of what a model is told in answers from a collection, the newest first."""
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 10):
        raise RequestInvalid("after is the id of an item of this list", "after")
    before = None if after is None else int(after)
    return page(await state.recipes.prompts(principal, name, before, limit + 1), limit, _shown_prompt)


@routes.delete("/{name}")
async def delete_collection(name: str, state: State, principal: Caller) -> dict[str, Any]:
    """Delete a collection and its documents; no later request sees any of it."""
    collection = await state.retrieval.collections.get(principal, name)
    await state.retrieval.collections.delete(principal, name)
    return {"id": collection.id, "object": "collection.deleted", "name": name, "deleted": True}


@routes.post("/{name}/reindex", status_code=202)
async def reindex_collection(name: str, asked: ReindexRequest, state: State, principal: Caller) -> dict[str, Any]:
    """Index a collection anew, in another embedding model or with other chunks; the old index answers meanwhile."""
    return shown(await state.retrieval.reindexes.begin(principal, name, asked.embedding_model, asked.chunking))


@routes.post("/{name}/reindex/retry")
async def retry_reindex(name: str, state: State, principal: Caller) -> dict[str, Any]:
    """Try documents again that could not be indexed anew."""
    return shown(await state.retrieval.reindexes.retry(principal, name))


@routes.delete("/{name}/reindex")
async def cancel_reindex(name: str, state: State, principal: Caller) -> dict[str, Any]:
    """Give up indexing a collection anew; it stays as it was."""
    return shown(await state.retrieval.reindexes.cancel(principal, name))


def shown(collection: Collection) -> dict[str, Any]:
    """The collection as clients see it; `reindex` only while there is one."""
    reindex = {} if collection.reindex is None else {"reindex": asdict(collection.reindex)}
    return {
        "id": collection.id,
        "object": "collection",
        "name": collection.name,
        "description": collection.description,
        "metadata": collection.metadata,
        "chunking": collection.chunking,
        "language": collection.language,
        "search": collection.search.as_json(),
        "answers": collection.answers,
        "prompt_version": collection.prompt_version,
        "placement": collection.placement,
        "version": collection.version,
        "documents": collection.documents,
        "chunks": collection.chunks,
        "embedding_model": collection.embedding_space,
        **shown_reach(collection.reach),
        "title": collection.title,
        "expires_at": None if collection.life.ends_at is None else int(collection.life.ends_at),
        **reindex,
        "created_at": int(collection.created_at),
    }


def _shown_prompt(prompt: PromptVersion) -> dict[str, Any]:
    return {
        "id": str(prompt.version),
        "object": "collection.prompt",
        "version": prompt.version,
        "prompt": prompt.template,
        "in_use": prompt.in_use,
        "created_at": int(prompt.created_at),
        "created_by": prompt.created_by,
    }
