"""GET /v1/collections/{name}/export: a collection as it stands, to be carried to an edge."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from api.collections import shown
from api.errors import describe
from api.identity import Caller
from api.record import record_of
from api.settings import ApiSettings
from api.state import State
from monitoring.logs import logger
from retrieval.exporting import Export, Exporter

routes = APIRouter(prefix="/v1/collections/{name}/export", tags=["Documents"])
_log = logger(__name__)

# Settings by which answers are made; whoever is to answer alike needs them.
_ANSWERING = (
    "answer_passages answer_quotes answer_context_characters answer_pack answer_max_context_tokens answer_generate "
    "answer_verify answer_question_characters answer_max_tokens answer_min_coverage answer_link_hosts"
).split()

Readers = Annotated[
    list[str],
    Query(description="Whose rights apply, as user:ID or group:NAME; unset: documents that everyone may read."),
]


@routes.get("", response_class=StreamingResponse)
async def export_collection(
    name: str,
    request: Request,
    state: State,
    principal: Caller,
    readers: Readers = [],  # noqa: B006
) -> StreamingResponse:
    """The collection at its version now, as lines of JSON: vectors as they stand in the index, and what ranks them."""
    collection = await state.retrieval.collections.get(principal, name)
    said = await state.recipes.of(principal, name)
    export = await state.retrieval.exporter.begin(principal, name, readers)
    about = {**shown(collection), "prompt": said.prompt, "answering": _answering(state.settings)}
    lines = _lines(state.retrieval.exporter, export, about, record_of(request).request_id)
    return StreamingResponse(lines, media_type="application/x-ndjson")


def _answering(settings: ApiSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", include=set(_ANSWERING))


async def _lines(exporter: Exporter, export: Export, about: Mapping[str, Any], request_id: str) -> AsyncIterator[bytes]:
    try:
        async with aclosing(exporter.records(export, about)) as records:
            async for record in records:
                yield orjson.dumps(record) + b"\n"
    except Exception as error:
        _log.error("an export broke off", request_id=request_id, exc_info=error)
        yield orjson.dumps({"kind": "error", **describe(error)[1]}) + b"\n"
