"""The way to anything that speaks OpenAI's form: kept connections, bytes forwarded as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from monitoring import tracing
from router import http1
from router.call import Call
from router.deployment import Deployment
from router.errors import (
    RouterError,
    UpstreamCut,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.lane import Whole
from router.salt import salt_of

_PATHS = {
    "chat.completions": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
    "messages": "/messages",
    "rerank": "/rerank",
}
# Shorter than uvicorn's 5 s, with which vLLM closes idle connections: else a request now and then meets a closed one.
_KEEPALIVE_S = 4.0
_MAX_ERROR_BYTES = 64 * 1024
_NOT_THE_CALLERS = {
    401: "refused our key",
    402: "wants to be paid",
    403: "refused our key",
    404: "does not know its model",
    405: "does not know the route",
}


class NativeLane:
    """Holds the connections; make it inside a running event loop."""

    def __init__(self) -> None:
        self._client = http1.Client(_KEEPALIVE_S)
        self._origins: dict[str, http1.Origin] = {}

    async def whole(self, deployment: Deployment, call: Call) -> Whole:
        response = await self._post(deployment, call)
        try:
            return Whole(await response.body())
        except http1.Broken as error:
            raise UpstreamCut(deployment.name, "cut its answer") from error
        finally:
            response.close()

    async def stream(self, deployment: Deployment, call: Call) -> "NativeStream":
        response = await self._post(deployment, call)
        if response.content_type != "text/event-stream":
            response.close()
            raise UpstreamFailed(deployment.name, f"answered a stream with {response.content_type or 'no type'}")
        return NativeStream(deployment, response)

    async def tokenize(self, deployment: Deployment, messages: Sequence[Mapping[str, str]]) -> bytes:
        """How vLLM counts the tokens of a chat, as JSON; its route stands beside `/v1`. Raises: RouterError."""
        origin = self._origin(deployment)
        beside = replace(origin, prefix=origin.prefix.removesuffix("/v1"))
        body = _encoded({"model": deployment.model, "messages": messages})
        response = await self._send(deployment, beside, "/tokenize", _head(deployment), body)
        try:
            return await response.body()
        except http1.Broken as error:
            raise UpstreamCut(deployment.name, "cut its answer") from error
        finally:
            response.close()

    @property
    def connections(self) -> int:
        """How many are open to all upstreams."""
        return self._client.connections

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _post(self, deployment: Deployment, call: Call) -> http1.Response:
        salt = salt_of(call.tenant) if deployment.salted else None
        body = _encoded(call.upstream_body(deployment.model, ids=deployment.names_tokens, salt=salt))
        head = _head(deployment, call.request_id)
        return await self._send(deployment, self._origin(deployment), _PATHS[call.kind], head, body)

    async def _send(
        self, deployment: Deployment, origin: http1.Origin, path: str, head: bytes, body: bytes
    ) -> http1.Response:
        """Send the request; returns once the status is 200. Raises: RouterError."""
        try:
            response = await self._client.post(origin, path, head, body, deployment.deadlines.connect_s)
        except http1.ConnectFailed as error:
            raise UpstreamUnavailable(deployment.name, str(error)) from error
        except http1.Broken as error:
            raise UpstreamUnavailable(deployment.name, "closed the connection before it answered") from error
        if response.status == 200:
            return response
        try:
            raise _refusal(deployment, response, await response.body(_MAX_ERROR_BYTES))
        except http1.Broken as error:
            raise UpstreamFailed(deployment.name, f"answered {response.status} and cut it") from error
        finally:
            response.close()

    def _origin(self, deployment: Deployment) -> http1.Origin:
        base = deployment.api_base
        assert base is not None  # the configuration asks for one on this lane
        found = self._origins.get(base)
        if found is None:
            found = self._origins[base] = http1.Origin.of(base)
        return found


class NativeStream:
    """A running answer."""

    def __init__(self, deployment: Deployment, response: http1.Response) -> None:
        self._deployment = deployment
        self._response = response

    async def read(self, limit_s: float) -> bytes:
        try:
            return await self._response.read(limit_s)
        except http1.Broken as error:
            raise UpstreamCut(self._deployment.name, "cut its stream") from error

    def wake(self) -> None:
        self._response.wake()

    async def aclose(self) -> None:
        self._response.close()  # closes the socket, on which vLLM aborts the request; a finished one is kept already


def _head(deployment: Deployment, request_id: str | None = None) -> bytes:
    """The header lines; identity, since bytes are passed on unread and so must not be packed."""
    key = f"authorization: Bearer {deployment.api_key}\r\n" if deployment.api_key else ""
    name = "" if request_id is None else f"x-request-id: {request_id}\r\n"
    parent = "" if deployment.hosted else tracing.traceparent()  # nobody outside needs to know
    trace = f"traceparent: {parent}\r\n" if parent else ""
    return f"content-type: application/json\r\naccept-encoding: identity\r\n{name}{trace}{key}".encode("latin-1")


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # read it could be: orjson takes less depth when it writes
        error = {"message": "The body is nested too deeply.", "type": "invalid_request_error", "param": None}
        raise UpstreamRefused(400, {**error, "code": "invalid_request"}) from None


def _refusal(deployment: Deployment, response: http1.Response, body: bytes) -> RouterError:
    """What a status other than 200 means."""
    status = response.status
    retry_after_s = _seconds(response.retry_after)
    if status in (503, 529):
        return UpstreamUnavailable(deployment.name, f"answered {status}", retry_after_s)
    if status == 429:
        error = _openai_error(body, "The model is busy: try again later.", "rate_limit_error", "rate_limit_exceeded")
        return UpstreamRefused(429, error, retry_after_s)
    if status == 408:
        return UpstreamTimeout(deployment.name, "answered 408")
    if status in _NOT_THE_CALLERS:
        return UpstreamFailed(deployment.name, _NOT_THE_CALLERS[status])
    if 400 <= status < 500:
        message = f"The model refused the request with status {status}."
        return UpstreamRefused(status, _openai_error(body, message, "invalid_request_error", "invalid_request"))
    kind: type[UpstreamError] = UpstreamFailed
    return kind(deployment.name, f"answered {status}", retry_after_s)


def _openai_error(body: bytes, message: str, kind: str, code: str) -> dict[str, Any]:
    """An error object with exactly OpenAI's fields; vLLM puts the status in `code` and its class in `type`."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        data = None
    found = data.get("error") if isinstance(data, dict) else None
    found = found if isinstance(found, dict) else {}
    said = found.get("message")
    text = said if isinstance(said, str) and said else message
    own_code = found.get("code")
    if "maximum context length" in text:
        code = "context_length_exceeded"
    elif isinstance(own_code, str):
        code = own_code
    param = found.get("param")
    return {"message": text, "type": kind, "param": param if isinstance(param, str) else None, "code": code}


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds; its date form is not worth a clock comparison between two machines."""
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None
