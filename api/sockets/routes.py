"""Where sockets are: one that answers questions, and none anywhere else."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from api.errors import SocketNotFound, UpgradeRequired, describe_error
from api.identity import Identified
from api.sockets.entering import PATH
from api.sockets.session import SocketSession
from api.state import AppState
from core.ids import unique_hex
from monitoring.record import RequestRecord, finish

routes = APIRouter(prefix=PATH, tags=["Documents"])


@routes.get("", response_model=None)
async def upgrade(_identity: Identified) -> Response:
    """A WebSocket: any number of questions to `/v1/query`, one after another, each with its events as JSON messages."""
    raise UpgradeRequired("this is a WebSocket: open it as one, or send the question to POST /v1/query")


def socket_routes() -> list[WebSocketRoute]:
    """The routes of sockets, in the order in which they are tried."""
    return [WebSocketRoute(PATH, _ask), WebSocketRoute("/{path:path}", _refuse)]


async def _ask(socket: WebSocket) -> None:
    await SocketSession(socket.app.state.stoker, socket).serve()


async def _refuse(socket: WebSocket) -> None:
    """Answer the handshake with an error, as a request for what is not there is answered."""
    state: AppState = socket.app.state.stoker
    record = RequestRecord(f"req_{unique_hex()}", "WS", state.clock.monotonic())
    error = SocketNotFound(f"there is no WebSocket at {socket.url.path[:200]}; {PATH} is one")
    record.status, body, headers = describe_error(error, record)
    finish(record, state.clock.monotonic())
    answer = JSONResponse(body, record.status, {**headers, "x-request-id": record.request_id})
    await socket.send_denial_response(answer)
