"""POST /v1/chat/completions: the request's way is the body of one function."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from api.errors import RequestInvalid
from api.fields import CHAT_FIELDS, model_of, read_json_object, sort_fields
from api.identity import Member
from api.openapi import CHAT_BODY
from api.record import record_of
from api.state import State
from core.usage import Usage
from monitoring.record import RequestRecord
from router.router import Answer, Call

routes = APIRouter(tags=["OpenAI"])


@routes.post("/v1/chat/completions", openapi_extra=CHAT_BODY)
async def create_chat_completion(request: Request, state: State, _: Member) -> Response:
    """Answer a conversation, in one piece or as a stream of server-sent events."""
    record = record_of(request)
    body, ignored = sort_fields(read_json_object(await request.body()), CHAT_FIELDS)
    _check_messages(body)
    stream = body.get("stream") is True
    call = Call("chat.completions", model_of(body), body, stream, allow_hosted=True, request_id=record.request_id)
    answer = await state.router.open(call)
    return reply(answer, record, call.group, ignored)


def _check_messages(body: dict[str, Any]) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestInvalid("messages must be a list with at least one message", "messages")


def reply(answer: Answer, record: RequestRecord, group: str, ignored: list[str]) -> Response:
    """Pass an upstream's answer on, and note in the record what it was."""
    record.model_group = group
    record.deployment = answer.deployment.name
    record.fallback = answer.fallback
    headers = {"x-stoker-deployment": answer.deployment.name}
    if ignored:
        headers["x-stoker-ignored"] = ", ".join(ignored)
    if answer.frames is not None:
        headers["cache-control"] = "no-cache"
        return StreamingResponse(_forward(answer, answer.frames, record), answer.status, headers, answer.media_type)
    record.usage = answer.usage or Usage()
    return Response(answer.body, answer.status, headers, answer.media_type)


async def _forward(answer: Answer, frames: AsyncIterator[bytes], record: RequestRecord) -> AsyncIterator[bytes]:
    """Pass frames on; a client that leaves ends this generator, which closes the upstream."""
    try:
        async for frame in frames:
            yield frame
    finally:
        await answer.aclose()
        record.usage = answer.usage or Usage()
        record.first_token_s = answer.first_token_s
