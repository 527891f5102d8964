"""/v1/batches."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from api.batches.forms import shown
from api.batches.sending import ENDPOINTS
from api.batches.store import NewBatch
from api.errors import RequestInvalid
from api.identity import Caller
from api.paging import After, Limit, checked_cursor, page
from api.roles import require
from api.state import State
from core.reach import HEADER

routes = APIRouter(prefix="/v1/batches", tags=["Batches"])

_Name = Annotated[str, Field(min_length=1, max_length=64)]
_Value = Annotated[str, Field(max_length=512)]


class OutputExpiry(BaseModel):
    """How long the files that come out are kept, from when they are made."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class BatchRequest(BaseModel):
    """A batch to be made of an uploaded file."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str = Field(description="Of a file with the purpose batch: JSON lines, a request in each.")
    endpoint: str = Field(description=f"Where all of its requests go: {', '.join(ENDPOINTS)}.")
    completion_window: Literal["24h"]
    metadata: dict[_Name, _Value] | None = Field(None, max_length=16)
    output_expires_after: OutputExpiry | None = None


@routes.post("")
async def create_batch(asked: BatchRequest, state: State, principal: Caller, request: Request) -> dict[str, Any]:
    """Make a batch; its lines are sent when there is room, and its limits and budgets are those of the caller."""
    if HEADER in request.headers:
        raise RequestInvalid(f"lines are sent in the name of the key alone: give a key what {HEADER} says", HEADER)
    if asked.endpoint not in ENDPOINTS:
        raise RequestInvalid(f"endpoint must be one of {', '.join(ENDPOINTS)}", "endpoint")
    require(principal, "POST", asked.endpoint)
    file = await state.files.get(principal, asked.input_file_id)
    if file.purpose != "batch":
        message = f"this file was uploaded with the purpose {file.purpose}; upload it with the purpose batch"
        raise RequestInvalid(message, "input_file_id")
    expiry = asked.output_expires_after
    new = NewBatch(asked.endpoint, file.id, asked.metadata, None if expiry is None else expiry.seconds)
    return shown(await state.batches.create(principal, new))


@routes.get("")
async def list_batches(state: State, principal: Caller, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """The caller's batches, the newest first."""
    found = await state.batches.list(principal, checked_cursor(after, "batch"), limit + 1)
    return page(found, limit, shown)


@routes.get("/{batch_id}")
async def get_batch(batch_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """How far a batch is."""
    return shown(await state.batches.get(principal, batch_id))


@routes.post("/{batch_id}/cancel")
async def cancel_batch(batch_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Have no more lines sent; what was answered stands in the output."""
    return shown(await state.batches.cancel(principal, batch_id))
