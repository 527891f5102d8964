"""POST /v1/ingest: files, texts, or where they are, in; a job out."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile

from api.errors import RequestInvalid
from api.fields import read_json_object
from api.identity import Caller
from api.ingest_form import SCHEMA, Ingest, expires_after, metadata, read_documents, read_ingest
from api.multipart import from_text, is_form, media_type_of, only_text, read_form
from api.state import State
from retrieval.intake import NewFile

routes = APIRouter(prefix="/v1/ingest", tags=["Documents"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "collection"],
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "collection": {"type": "string"},
                        "metadata": {"type": "string", "description": "A JSON object, for every file of the request."},
                        "acl": {"type": "string", "description": 'JSON: {"users": [...], "groups": [...]}.'},
                        "expires_after": {"type": "string", "description": 'JSON: {"seconds": 3600}.'},
                    },
                }
            },
            "application/json": {"schema": SCHEMA},
        },
    }
}
_BATCH: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["collection", "items"],
                    "properties": {
                        "collection": {"type": "string"},
                        "items": SCHEMA["properties"]["documents"],
                    },
                }
            }
        },
    }
}


@routes.post("", status_code=202, openapi_extra=_BODY)
async def ingest(request: Request, state: State, principal: Caller) -> dict[str, Any]:
    """Take documents in; they are searchable once their job has succeeded.

    A file whose name the collection knows becomes that document's next version.
    """
    if is_form(request):
        collection, files = await _from_form(request)
        asked = Ingest(collection, tuple(files))
    elif media_type_of(request) == "application/json":
        asked = await read_ingest(read_json_object(await request.body()), principal, state.retrieval.origins)
    else:
        raise RequestInvalid("send multipart/form-data with files, or application/json with documents or a url")
    return await asked.accept(principal, state.retrieval.intake, state.retrieval.origins)


@routes.post("/batch", status_code=202, openapi_extra=_BATCH)
async def ingest_batch(request: Request, state: State, principal: Caller) -> dict[str, Any]:
    """Take many documents in as one job, each with its text or its address; all of them, or none."""
    body = read_json_object(await request.body())
    collection = body.get("collection")
    if not isinstance(collection, str) or not collection:
        raise RequestInvalid("collection is missing", "collection")
    files = read_documents(body.get("items"), state.retrieval.origins, "items")
    return await Ingest(collection, tuple(files)).accept(principal, state.retrieval.intake, state.retrieval.origins)


async def _from_form(request: Request) -> tuple[str, list[NewFile]]:
    async with read_form(request, max_files=1000) as form:
        collection = only_text(form, "collection")
        if not collection:
            raise RequestInvalid("the form field collection is missing", "collection")
        said = metadata(form.get("metadata"))
        acl = from_text(form.get("acl"), "acl")
        expires = expires_after(from_text(form.get("expires_after"), "expires_after"), "expires_after")
        uploads = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
        if not uploads:
            raise RequestInvalid("the form holds no file: send each in a field named file", "file")
        return collection, [
            NewFile(part.filename or "unnamed", part.content_type, await part.read(), said, acl, expires)
            for part in uploads
        ]
