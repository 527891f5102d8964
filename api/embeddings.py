"""POST /v1/embeddings."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.chat import reply
from api.errors import RequestInvalid
from api.fields import EMBEDDING_FIELDS, model_of, read_json_object, sort_fields
from api.identity import Member
from api.openapi import EMBEDDING_BODY
from api.record import record_of
from api.state import State
from router.router import Call

routes = APIRouter(tags=["OpenAI"])


@routes.post("/v1/embeddings", openapi_extra=EMBEDDING_BODY)
async def create_embeddings(request: Request, state: State, _: Member) -> Response:
    """Embed one text or a list of texts, in the order they came."""
    record = record_of(request)
    body, ignored = sort_fields(read_json_object(await request.body()), EMBEDDING_FIELDS)
    if not body.get("input"):
        raise RequestInvalid("input must be a text or a list of texts, none of them missing", "input")
    call = Call("embeddings", model_of(body), body, stream=False, allow_hosted=True, request_id=record.request_id)
    return reply(await state.router.open(call), record, call.group, ignored)
