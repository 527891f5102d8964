"""How an answer of the exact provider is broken off, and how one is sent."""

import asyncio
from typing import Any

import orjson

from tests.support.exact.faults import Failure, Fault
from tests.support.exact.forms import Form
from tests.support.exact.served import Served
from tests.support.exact.wire import Connection

_STATUS = {
    Fault.LIMIT_429: (429, "slow down", "RateLimitError", {"retry-after": "9"}),
    Fault.LIMIT_429_BARE: (429, "slow down", "RateLimitError", {}),
    Fault.ERROR_500: (500, "EngineCore died with secret-token", "InternalServerError", {}),
    Fault.BUSY_503: (503, "the queue is full", "ServiceUnavailable", {"retry-after": "7"}),
    Fault.BUSY_529: (529, "Overloaded", "overloaded_error", {}),
}


class Broken(Exception):
    """The answer has been broken off on purpose."""


async def fail_early(connection: Connection, served: Served, failure: Failure | None) -> None:
    """Do what a fault does before any token. Raises: Broken: that was all."""
    if failure is None:
        return
    fault, streams = failure.fault, bool(served.body.get("stream"))
    media_type = "text/event-stream" if streams else "application/json"
    if fault in _STATUS:
        status, message, kind, more = _STATUS[fault]
        await refuse(connection, status, message, kind, more=more)
    elif fault is Fault.RESET:
        connection.reset()
    elif fault is Fault.STALL:
        await asyncio.Event().wait()
    elif fault is Fault.LATE:
        await asyncio.sleep(failure.late_s)
        return
    elif fault is Fault.ERROR_FIRST:
        await send(connection, b"data: %b\n\ndata: [DONE]\n\n" % _ERROR if streams else _ERROR, media_type)
    elif fault is Fault.GARBAGE_FIRST:
        await send(connection, b'data: {"id":"chatcmpl-1","obj\n\n' if streams else b'{"id":"chatcmpl-1"', media_type)
    elif fault is Fault.WRONG_TYPE:
        await send(connection, b"<html><body>It works!</body></html>", "text/html")
    elif fault is Fault.EMPTY:
        await send(connection, b"", media_type)
    else:
        return
    raise Broken


async def break_stream(connection: Connection, fault: Fault, form: Form) -> bool:
    """Do what a fault does in the middle of a stream. Returns: the token is lost. Raises: Broken: that was all."""
    if fault is Fault.STALL_MID:
        await asyncio.Event().wait()
    elif fault is Fault.CUT:
        connection.reset()
    elif fault is Fault.CLOSE:
        connection.close()
    elif fault is Fault.END:
        await connection.end()
    elif fault is Fault.ERROR_MID:
        await connection.chunk(b"data: %b\n\n%b" % (_ERROR, form.done))
        await connection.end()
    elif fault is Fault.GARBAGE_MID:
        await connection.chunk(b'data: {"id":"chatcmpl-1","object":"chat.compl\n\n')
        return True
    else:
        return False
    raise Broken


async def break_whole(connection: Connection, body: bytes, fault: Fault) -> None:
    """Do what a fault does in the middle of an answer in one piece. Raises: Broken: that was all."""
    if fault is Fault.END:
        await send(connection, body[: len(body) // 2], "application/json")
        raise Broken
    if fault not in (Fault.STALL_MID, Fault.CUT, Fault.CLOSE):
        return
    await connection.head(200, "application/json", len(body), {})
    await connection.send(body[: len(body) // 2])
    await asyncio.sleep(0.01)
    if fault is Fault.STALL_MID:
        await asyncio.Event().wait()
    elif fault is Fault.CUT:
        connection.reset()
    else:
        connection.close()
    raise Broken


_ERROR = orjson.dumps(
    {
        "error": {
            "message": "EngineCore died with secret-token",
            "type": "InternalServerError",
            "param": None,
            "code": 500,
        }
    }
)


async def send(connection: Connection, body: bytes, media_type: str) -> None:
    await connection.head(200, media_type, len(body), {})
    await connection.send(body)


async def send_json(connection: Connection, value: dict[str, Any]) -> None:
    await send(connection, orjson.dumps(value), "application/json")


async def refuse(
    connection: Connection,
    status: int,
    message: str,
    kind: str,
    param: str | None = None,
    more: dict[str, str] | None = None,
) -> None:
    body = orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": status}})
    await connection.head(status, "application/json", len(body), more or {})
    await connection.send(body)
