"""/v1/collections/{name}/documents."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from api.identity import Caller
from api.paging import After, Limit, page
from api.state import State
from retrieval.documents import Document
from retrieval.status import Status

routes = APIRouter(prefix="/v1/collections/{name}/documents", tags=["Documents"])

InState = Annotated[Status | None, Query(description="Only documents whose latest ingestion is in this state.")]
Named = Annotated[str, Query(max_length=1000, description="Only documents in whose name this stands.")]


@routes.get("")
async def list_documents(
    name: str,
    state: State,
    principal: Caller,
    after: After = None,
    limit: Limit = 20,
    status: InState = None,
    filename: Named = "",
) -> dict[str, Any]:
    """The collection's documents, the failed ones too."""
    found = await state.retrieval.documents.list(principal, name, after, limit + 1, status=status, filename=filename)
    return page(found, limit, _shown)


@routes.get("/{document_id}")
async def get_document(name: str, document_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """One document, with the job of its newest upload."""
    found = await state.retrieval.documents.get(principal, name, document_id)
    return {**_shown(found), "job_id": await state.retrieval.documents.job_of(found.id)}


class DocumentChange(BaseModel):
    """What to change; a field that is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    metadata: dict[str, Any] = Field(default_factory=dict, description="Takes the place of what there was.")
    acl: dict[str, list[str]] | None = Field(None, description="null opens it to everyone in the tenant.")


@routes.patch("/{document_id}")
async def change_document(
    name: str, document_id: str, asked: DocumentChange, state: State, principal: Caller
) -> dict[str, Any]:
    """Change a document's metadata, or who may read it; the next request goes by it."""
    changes = {field: getattr(asked, field) for field in asked.model_fields_set}
    return _shown(await state.retrieval.documents.change(principal, name, document_id, **changes))


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


@routes.get("/{document_id}/source", response_class=Response)
async def get_source(name: str, document_id: str, state: State, principal: Caller) -> Response:
    """The document's bytes as they were last sent; for keeping, not for showing."""
    data = await state.retrieval.documents.source(principal, name, document_id)
    headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
    return Response(data, media_type="application/octet-stream", headers=headers)


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
        "acl": document.acl,
        "error": document.error,
        "created_at": int(document.created_at),
        "expires_at": None if document.expires_at is None else int(document.expires_at),
        "file_id": document.file_id,
        "source": document.source,
        "chunking": document.chunking,
    }
