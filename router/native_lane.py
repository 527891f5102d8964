"""The way to anything that speaks OpenAI's form: one aiohttp session, bytes forwarded as they are."""

import io
from typing import Any

import aiohttp
import orjson

from router.call import Call
from router.deployment import Deployment
from router.errors import (
    RouterError,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.lane import Whole

_PATHS = {
    "chat.completions": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
    "messages": "/messages",
}
# Shorter than uvicorn's 5 s, with which vLLM closes idle connections: else a request now and then meets a closed one.
_KEEPALIVE_S = 4.0
_MAX_ERROR_BYTES = 64 * 1024
_LARGE_BYTES = 1024 * 1024
_NOT_THE_CALLERS = {
    401: "refused our key",
    402: "wants to be paid",
    403: "refused our key",
    404: "does not know its model",
    405: "does not know the route",
}


class NativeLane:
    """Holds the session; make it inside a running event loop."""

    def __init__(self) -> None:
        # limit=0: admission bounds how much runs at once; a pool that waits here would hide it. TCP_NODELAY is
        # set by aiohttp itself on every connection.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def whole(self, deployment: Deployment, call: Call) -> Whole:
        response = await self._post(deployment, call)
        try:
            body = await response.read()
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UpstreamFailed(deployment.name, "cut its answer") from error
        finally:
            response.close() if not response.content.at_eof() else response.release()
        return Whole(body)

    async def stream(self, deployment: Deployment, call: Call) -> "NativeStream":
        response = await self._post(deployment, call)
        if response.content_type != "text/event-stream":
            response.close()
            raise UpstreamFailed(deployment.name, f"answered a stream with {response.content_type}")
        return NativeStream(deployment, response)

    async def aclose(self) -> None:
        await self._session.close()

    async def _post(self, deployment: Deployment, call: Call) -> aiohttp.ClientResponse:
        """Send the request; returns once the status is 200. Raises: RouterError."""
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # bytes are passed on unread, so they must not be packed
            "x-request-id": call.request_id,
        }
        if deployment.api_key:
            headers["authorization"] = f"Bearer {deployment.api_key}"
        try:
            response = await self._session.post(
                f"{deployment.api_base}{_PATHS[call.kind]}",
                data=_payload(_encoded(call.upstream_body(deployment.model))),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=deployment.deadlines.connect_s),
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, ConnectionError) as error:
            raise UpstreamUnavailable(deployment.name, "can't be reached") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamUnavailable(deployment.name, "did not accept a connection in time") from error
        except aiohttp.ClientError as error:
            raise UpstreamFailed(deployment.name, f"broke the protocol: {type(error).__name__}") from error
        if response.status == 200:
            return response
        try:
            raise _refusal(deployment, response, await response.content.read(_MAX_ERROR_BYTES))
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UpstreamFailed(deployment.name, f"answered {response.status} and cut it") from error
        finally:
            response.close()


class NativeStream:
    """A running answer."""

    def __init__(self, deployment: Deployment, response: aiohttp.ClientResponse) -> None:
        self._deployment = deployment
        self._response = response

    async def read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UpstreamFailed(self._deployment.name, "cut its stream") from error
        except TimeoutError as error:
            raise UpstreamTimeout(self._deployment.name, "fell silent") from error

    async def aclose(self) -> None:
        self._response.close()  # closes the socket, on which vLLM aborts the request; a finished one is pooled already


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # read it could be: orjson takes less depth when it writes
        error = {"message": "The body is nested too deeply.", "type": "invalid_request_error", "param": None}
        raise UpstreamRefused(400, {**error, "code": "invalid_request"}) from None


def _payload(body: bytes) -> bytes | io.BytesIO:
    """aiohttp writes bytes in one go, which for a large body holds up every other request; a file goes in parts."""
    return body if len(body) < _LARGE_BYTES else io.BytesIO(body)


def _refusal(deployment: Deployment, response: aiohttp.ClientResponse, body: bytes) -> RouterError:
    """What a status other than 200 means."""
    status = response.status
    retry_after_s = _seconds(response.headers.get("retry-after"))
    if status in (503, 529):
        return UpstreamUnavailable(deployment.name, f"answered {status}", retry_after_s)
    if status == 429:
        error = _openai_error(body, "The model is busy: try again later.", "rate_limit_error", "rate_limit_exceeded")
        return UpstreamRefused(429, error, retry_after_s or 1.0)
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
