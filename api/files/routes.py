"""/v1/files."""

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api.errors import RequestInvalid
from api.files import forms
from api.identity import Caller
from api.multipart import is_form, read_form
from api.paging import After, checked_cursor, page
from api.state import State

routes = APIRouter(prefix="/v1/files", tags=["Files"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(forms.PURPOSES)},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 1},
                        "acl": {"type": "string", "description": 'JSON: {"users": [...], "groups": [...]}.'},
                    },
                }
            }
        },
    }
}


@routes.post("", openapi_extra=_BODY)
async def create_file(request: Request, state: State, principal: Caller) -> dict[str, Any]:
    """Keep a file, for vector stores and batches."""
    if not is_form(request):
        raise RequestInvalid("send multipart/form-data with a file and its purpose")
    async with read_form(request, max_files=2) as form:
        new = await forms.read_new_file(form, state.settings.max_file_bytes)
    return forms.shown(await state.files.keep(principal, new))


@routes.get("")
async def list_files(
    state: State,
    principal: Caller,
    purpose: str | None = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Items at most.")] = 10_000,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """The files that the caller may read."""
    if purpose is not None:
        forms.checked_purpose(purpose, forms.PURPOSES + forms.MADE_PURPOSES)
    found = await state.files.list(
        principal, purpose, checked_cursor(after, "file"), limit + 1, newest_first=order == "desc"
    )
    return page(found, limit, forms.shown)


@routes.get("/{file_id}")
async def get_file(file_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """One file."""
    return forms.shown(await state.files.get(principal, file_id))


@routes.delete("/{file_id}")
async def delete_file(file_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Delete a file, and the documents that vector stores have made of it."""
    await state.files.delete(principal, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


@routes.get("/{file_id}/content", response_class=Response)
async def get_file_content(file_id: str, state: State, principal: Caller) -> Response:
    """The file's bytes; for keeping, not for showing."""
    file = await state.files.get(principal, file_id)
    data = await state.files.content(principal, file_id)
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
        "x-content-type-options": "nosniff",
    }
    return Response(data, media_type="application/octet-stream", headers=headers)
