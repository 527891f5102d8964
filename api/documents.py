"""/v1/collections/{name}/documents."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

from api.identity import Caller
from api.paging import After, Limit, page
from api.state import State
from retrieval.documents import Document

routes = APIRouter(prefix="/v1/collections/{name}/documents", tags=["Documents"])


@routes.get("")
async def list_documents(
    name: str, state: State, principal: Caller, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """The collection's documents, the failed ones too."""
    return page(await state.retrieval.documents.list(principal, name, after, limit + 1), limit, _shown)


@routes.get("/{document_id}")
async def get_document(name: str, document_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """One document."""
    return _shown(await state.retrieval.documents.get(principal, name, document_id))


@routes.delete("/{document_id}")
async def delete_document(name: str, document_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Delete a document, whatever its state; no later request sees any of it."""
    await state.retrieval.documents.delete(principal, name, document_id)
    return {"id": document_id, "object": "document.deleted", "deleted": True}


@routes.get("/{document_id}/content", response_class=PlainTextResponse)
async def get_content(
    name: str,
    document_id: str,
    state: State,
    principal: Caller,
    version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="The document's version; unset: the visible one.")
    ] = None,
) -> str:
    """The normalised text: `start` and `end` of passages and citations count its characters."""
    return await state.retrieval.documents.content(principal, name, document_id, version)


def _shown(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "object": "document",
        "filename": document.filename,
        "media_type": document.media_type,
        "status": document.status,
        "version": document.version,
        "sha256": document.sha256,
        "pages": document.pages,
        "characters": document.characters,
        "metadata": document.metadata,
        "error": document.error,
        "created_at": int(document.created_at),
    }
