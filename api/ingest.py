"""POST /v1/ingest: files or texts in, a job out."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile

from api.errors import NotSupportedYet, RequestInvalid
from api.fields import read_json_object
from api.identity import Caller
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
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["collection", "documents"],
                    "properties": {
                        "collection": {"type": "string"},
                        "documents": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "type": "object",
                                "required": ["content"],
                                "properties": {
                                    "title": {"type": "string"},
                                    "content": {"type": "string"},
                                    "metadata": {"type": "object"},
                                    "acl": {
                                        "type": "object",
                                        "properties": {
                                            "users": {"type": "array", "items": {"type": "string"}},
                                            "groups": {"type": "array", "items": {"type": "string"}},
                                        },
                                    },
                                    "expires_after": {
                                        "type": "object",
                                        "properties": {
                                            "anchor": {"type": "string", "enum": ["created_at"]},
                                            "seconds": {"type": "integer", "minimum": 1},
                                        },
                                    },
                                },
                            },
                        },
                    },
                }
            },
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
    elif media_type_of(request) == "application/json":
        collection, files = _from_json(read_json_object(await request.body()))
    else:
        raise RequestInvalid("send multipart/form-data with files, or application/json with documents")
    accepted = await state.retrieval.intake.accept(principal, collection, files)
    return {"job_id": accepted.job_id, "document_ids": list(accepted.document_ids), "status": "queued"}


async def _from_form(request: Request) -> tuple[str, list[NewFile]]:
    async with read_form(request, max_files=1000) as form:
        collection = only_text(form, "collection")
        if not collection:
            raise RequestInvalid("the form field collection is missing", "collection")
        metadata = _metadata(form.get("metadata"))
        acl = from_text(form.get("acl"), "acl")
        expires = _expires_after(from_text(form.get("expires_after"), "expires_after"), "expires_after")
        uploads = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
        if not uploads:
            raise RequestInvalid("the form holds no file: send each in a field named file", "file")
        return collection, [
            NewFile(part.filename or "unnamed", part.content_type, await part.read(), metadata, acl, expires)
            for part in uploads
        ]


def _from_json(body: dict[str, Any]) -> tuple[str, list[NewFile]]:
    if "url" in body:
        raise NotSupportedYet("ingestion by url is not supported yet; send the document itself", "url")
    collection, documents = body.get("collection"), body.get("documents")
    if not isinstance(collection, str) or not collection:
        raise RequestInvalid("collection is missing", "collection")
    if not isinstance(documents, list) or not documents:
        raise RequestInvalid("documents must be a list with at least one document", "documents")
    return collection, [_text_file(document, f"documents.{i}") for i, document in enumerate(documents)]


def _text_file(document: object, param: str) -> NewFile:
    if not isinstance(document, dict) or not isinstance(document.get("content"), str):
        raise RequestInvalid(f"{param} must be an object with a text named content", param)
    title = document.get("title") or "untitled"
    if not isinstance(title, str):
        raise RequestInvalid(f"{param}.title must be a text", f"{param}.title")
    name = title if title.endswith((".md", ".txt")) else f"{title}.txt"
    metadata, acl = _metadata(document.get("metadata"), param), document.get("acl")
    expires = _expires_after(document.get("expires_after"), f"{param}.expires_after")
    return NewFile(name, "text/plain", document["content"].encode(), metadata, acl, expires)


def _metadata(value: object, where: str = "") -> dict[str, Any]:
    param = f"{where}.metadata" if where else "metadata"
    value = from_text(value, param)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestInvalid(f"{param} must be a JSON object", param)
    return value


def _expires_after(value: object, param: str) -> int | None:
    """Seconds, from the form that OpenAI has for files. Raises: RequestInvalid."""
    if value is None:
        return None
    if isinstance(value, dict) and value.keys() <= {"anchor", "seconds"}:
        seconds = value.get("seconds")
        if type(seconds) is int and value.get("anchor", "created_at") == "created_at":
            return seconds
    raise RequestInvalid(f'{param} is an object such as {{"anchor": "created_at", "seconds": 3600}}', param)
