"""The way to hosted providers: LiteLLM translates. Only this file and its mends import it, which takes seconds.

Whatever LiteLLM raises becomes one of ours here, by `TABLE`; its texts reach a client only where the client's own
request is at fault, since others may quote keys and addresses. Where the provider's answer is at hand, its status says
what happened: LiteLLM takes some failures for others.
"""

import asyncio
import base64
import contextlib
import os
import re
import struct
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import httpx
import openai
import orjson

from router.call import Call
from router.deployment import Deployment
from router.errors import RouterError, UpstreamFailed, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from router.events import frame
from router.lane import Whole
from router.salt import salt_of
from router.sse import SseScanner

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import fetches a price list
os.environ.setdefault("AWS_MAX_ATTEMPTS", "1")  # SageMaker's embeddings go by boto3; retries are the router's
_READ_ONLY = r"Items? .* on TypedDict class '\w+' (is|are) using the `ReadOnly`"
with warnings.catch_warnings():
    # Pydantic remarks on some of LiteLLM's own types when they are first built; building the models here, where this
    # remark is hidden, also spares the first request that time.
    warnings.filterwarnings("ignore", _READ_ONLY, UserWarning)
    import litellm
    from litellm import exceptions

    from router import litellm_mends

    litellm.ModelResponse()
    litellm.ModelResponseStream()
    litellm.EmbeddingResponse()

# What a provider takes. Anything else is vLLM's, or would steer LiteLLM itself (api_base, mock_response, ...).
_CHAT_FIELDS = frozenset(
    """messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens
    max_tokens metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key
    reasoning_effort response_format safety_identifier seed service_tier stop store stream stream_options
    temperature tool_choice tools top_logprobs top_p user verbosity web_search_options""".split()
)
_EMBEDDING_FIELDS = frozenset("input model encoding_format dimensions user".split())
_FORMATS = (None, "float", "base64")
_UNPAID = "Your credit balance is too low"  # Anthropic says this by a 400


class LitellmLane:
    """Holds nothing open: LiteLLM keeps its own clients."""

    def __init__(self) -> None:
        # LiteLLM does this for every chunk of a stream; where warnings are errors, it would break each answer.
        warnings.filterwarnings("ignore", r"Accessing the 'model_(computed_)?fields' attribute", DeprecationWarning)
        warnings.filterwarnings("ignore", _READ_ONLY, UserWarning)  # others are built with the first call of a provider
        litellm.suppress_debug_info = True
        litellm.telemetry = False
        litellm.DEFAULT_MAX_RETRIES = 0  # embeddings take this where a call says 0
        litellm_mends.install()

    async def whole(self, deployment: Deployment, call: Call) -> Whole:
        arguments = _arguments(deployment, call)
        ask = litellm.aembedding if call.kind == "embeddings" else litellm.acompletion
        try:
            response = await ask(**arguments)
        except Exception as error:
            raise translate(error, deployment) from error
        body = response.model_dump(mode="json", exclude_none=True)
        if call.body.get("encoding_format") == "base64":
            for row in body["data"]:
                row["embedding"] = _packed(row["embedding"])
        return Whole(orjson.dumps(body))

    async def stream(self, deployment: Deployment, call: Call) -> "LitellmStream":
        try:
            chunks = await litellm.acompletion(**_arguments(deployment, call))
        except Exception as error:
            raise translate(error, deployment) from error
        return LitellmStream(deployment, chunks)

    async def aclose(self) -> None:
        await litellm.close_litellm_async_clients()
        # The client of Anthropic's streams may have fallen out of the cache that was just closed. It can be used again.
        await litellm.module_level_aclient.client._transport.aclose()


class LitellmStream:
    """LiteLLM's chunks as server-sent events."""

    def __init__(self, deployment: Deployment, chunks: Any) -> None:
        self._deployment = deployment
        self._chunks: AsyncIterator[Any] = chunks
        self._ended = False

    async def read(self, limit_s: float) -> bytes:
        if self._ended:
            return b""
        async with asyncio.timeout(limit_s):
            return await self._next()

    def wake(self) -> None:
        """Nobody watches a hosted provider: its own deadline ends a `read`."""

    async def _next(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._ended = True
            return SseScanner.closing
        except Exception as error:
            raise self._broken(error) from error
        if self._made_up(chunk):
            raise UpstreamFailed(self._deployment.name, "ended its stream before the answer was whole")
        return frame(orjson.dumps(_openai_chunk(chunk.model_dump(mode="json", exclude_none=True))))

    def _broken(self, error: Exception) -> RouterError:
        """The provider had taken the request, so what breaks its stream is no fault of the caller's."""
        made = translate(error, self._deployment)
        if isinstance(made, UpstreamRefused) and made.status != 429:
            return UpstreamFailed(self._deployment.name, "reported an error inside its stream")
        return made

    def _made_up(self, chunk: Any) -> bool:
        """Whether it says that the answer is whole though the provider did not: LiteLLM ends every stream with `stop`,
        also one that was cut."""
        wrapper: Any = self._chunks
        ends = any(choice.finish_reason for choice in chunk.choices)
        return ends and not (wrapper.received_finish_reason or wrapper.intermittent_finish_reason)

    async def aclose(self) -> None:
        self._ended = True
        wrapper: Any = self._chunks
        # Of some providers' streams LiteLLM closes the outside alone, and the provider would write on to its end.
        lines = getattr(wrapper.completion_stream, "streaming_response", None)
        await wrapper.aclose()
        if lines is not None:
            with contextlib.suppress(RuntimeError):  # it is being read just now
                await lines.aclose()


def translate(error: BaseException, deployment: Deployment) -> RouterError:
    """Our error for one of LiteLLM's."""
    made = _by_status(_response(error))
    if made is not None:
        return made(error, deployment)
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind](error, deployment)
    raise error  # a bug of ours or of LiteLLM's: it must be seen, not dressed up


def _arguments(deployment: Deployment, call: Call) -> dict[str, Any]:
    known = _EMBEDDING_FIELDS if call.kind == "embeddings" else _CHAT_FIELDS
    for name in call.body:
        if name not in known:
            raise _refused(f"The model {call.group!r} is answered by a hosted provider, which takes no `{name}`.", name)
    deadlines, body = deployment.deadlines, call.upstream_body(deployment.model)
    if body.pop("encoding_format", None) not in _FORMATS:  # of providers' own formats some are no vectors
        raise _refused("`encoding_format` is `float` or `base64`.", "encoding_format")
    arguments = {
        **body,
        **deployment.parameters,
        "api_base": deployment.api_base,
        "api_key": deployment.api_key,
        "timeout": call.limit_s(deadlines),
        "max_retries": 0,  # retries are the router's
        "num_retries": 0,
        "drop_params": False,
    }
    if deployment.salted:
        arguments["extra_body"] = {"cache_salt": salt_of(call.tenant)}
    if call.kind != "embeddings":
        arguments["_skip_mcp_handler"] = True  # with tools it would import a package that only LiteLLM's proxy has
    return {name: value for name, value in arguments.items() if value is not None}


def _openai_chunk(chunk: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's chunks have a finish reason, null until the end, and no choice beside the usage."""
    choices = chunk.get("choices", [])
    if "usage" in chunk and not any(choice.get("delta") or choice.get("finish_reason") for choice in choices):
        return {**chunk, "choices": []}
    for choice in choices:
        choice.setdefault("finish_reason", None)
    return chunk


def _refused(message: str, param: str | None, status: int = 400, code: str = "invalid_request") -> UpstreamRefused:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return UpstreamRefused(status, error)


def _packed(vector: list[float]) -> str:
    """As OpenAI's `base64`: float32, little-endian."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came from, and so on; not what went wrong at another deployment before."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RouterError):
        yield cause
        cause = getattr(cause, "original_exception", None) or cause.__cause__ or cause.__context__


def _response(error: BaseException) -> httpx.Response | None:
    """What the provider answered, where it did; LiteLLM's own errors carry made-up responses."""
    for cause in _causes(error):
        if type(cause).__module__ == exceptions.__name__:
            continue
        response = getattr(cause, "response", None)
        if isinstance(cause, httpx.HTTPStatusError | openai.APIStatusError) and isinstance(response, httpx.Response):
            return response
        if isinstance(response, dict):  # boto3's
            told = response.get("ResponseMetadata", {})
            body = {**response.get("Error", {}), "OriginalStatusCode": response.get("OriginalStatusCode")}
            wait = {name: value for name, value in told.get("HTTPHeaders", {}).items() if name == "retry-after"}
            return httpx.Response(told.get("HTTPStatusCode", 500), headers=wait, json=body)
    return None


def _by_status(response: httpx.Response | None) -> Callable[[BaseException, Deployment], RouterError] | None:
    """What a status says by itself; None: it needs a closer look."""
    if response is None:
        return None
    status = response.status_code
    if status == 424:  # AWS: the model answered with an error
        inner = _body(response)
        found = inner.get("OriginalStatusCode", inner.get("originalStatusCode"))
        status = found if isinstance(found, int) else 500
    return _STATUSES.get(status, _failed if status >= 500 else None)


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = orjson.loads(response.content)
    except (httpx.ResponseNotRead, orjson.JSONDecodeError):
        return {}
    return body if isinstance(body, dict) else {}


def _text(error: BaseException) -> str:
    """The provider's own words, without its envelope and LiteLLM's prefixes."""
    response = _response(error)
    body = {} if response is None else _body(response)
    inner = body.get("error")
    for found in (inner if isinstance(inner, dict) else {}, body):
        for name in ("message", "Message", "detail"):
            if isinstance(found.get(name), str):
                return str(found[name])
    text = str(getattr(error, "message", error))
    return re.sub(r"^(?:litellm\.\w+: )*(?:\w*(?:Error|Exception)(?: - |: ))*", "", text)


def _retry_after_s(error: BaseException) -> float | None:
    response = _response(error)
    headers = getattr(error, "litellm_response_headers", None) if response is None else response.headers
    try:
        return max(0.0, float((headers or {})["retry-after"]))
    except (KeyError, ValueError):
        return None


def _too_long(error: BaseException, _deployment: Deployment) -> RouterError:
    return _refused(_text(error), "messages", code="context_length_exceeded")


def _against_policy(error: BaseException, _deployment: Deployment) -> RouterError:
    return _refused(_text(error), None, code="content_policy_violation")


def _callers_fault(error: BaseException, deployment: Deployment) -> RouterError:
    text = _text(error)
    if text.startswith(_UNPAID):
        return _our_key(error, deployment)
    # Providers that LiteLLM does not know say it in words only.
    code = "context_length_exceeded" if "maximum context length" in text else "invalid_request"
    param = getattr(error, "param", None)
    return _refused(text, param if isinstance(param, str) else None, 400, code)


def _not_taken(error: BaseException, _deployment: Deployment) -> RouterError:
    return _refused(_text(error).partition(" To drop ")[0], None)


def _busy(error: BaseException, deployment: Deployment) -> RouterError:
    body = {
        "message": f"The deployment {deployment.name!r} is over its provider's limit: try again later.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    return UpstreamRefused(429, body, _retry_after_s(error))


def _our_key(_error: BaseException, deployment: Deployment) -> RouterError:
    return UpstreamFailed(deployment.name, "refused our key or does not know its model")


def _timeout(_error: BaseException, deployment: Deployment) -> RouterError:
    return UpstreamTimeout(deployment.name, "did not answer in time")


def _away(error: BaseException, deployment: Deployment) -> RouterError:
    return UpstreamUnavailable(deployment.name, "can't be reached or takes no work now", _retry_after_s(error))


def _internal(error: BaseException, deployment: Deployment) -> RouterError:
    """LiteLLM calls a connection that is lost or refused an internal error; what caused it tells them apart."""
    if any(isinstance(cause, openai.APIConnectionError | httpx.TransportError) for cause in _causes(error)):
        return _away(error, deployment)
    return _failed(error, deployment)


def _failed(error: BaseException, deployment: Deployment) -> RouterError:
    return UpstreamFailed(deployment.name, f"failed: {type(error).__name__}")


_STATUSES: Mapping[int, Callable[[BaseException, Deployment], RouterError]] = {
    401: _our_key,
    402: _our_key,
    403: _our_key,
    404: _our_key,
    408: _timeout,
    429: _busy,
    503: _away,
    504: _timeout,
    529: _away,  # Anthropic's word for busy
}

TABLE: Mapping[type[BaseException], Callable[[BaseException, Deployment], RouterError]] = {
    exceptions.ContextWindowExceededError: _too_long,
    exceptions.ContentPolicyViolationError: _against_policy,
    exceptions.UnsupportedParamsError: _not_taken,
    exceptions.BadRequestError: _callers_fault,
    exceptions.UnprocessableEntityError: _callers_fault,
    exceptions.InvalidRequestError: _callers_fault,
    exceptions.LiteLLMUnknownProvider: _failed,  # the configuration's fault
    exceptions.PaymentRequiredError: _our_key,
    exceptions.AuthenticationError: _our_key,
    exceptions.PermissionDeniedError: _our_key,
    exceptions.NotFoundError: _our_key,
    exceptions.RateLimitError: _busy,
    exceptions.Timeout: _timeout,
    exceptions.APIConnectionError: _away,
    exceptions.ServiceUnavailableError: _away,
    exceptions.InternalServerError: _internal,
    exceptions.MidStreamFallbackError: _failed,
    exceptions.BudgetExceededError: _failed,
    exceptions.GuardrailRaisedException: _failed,
    exceptions.BlockedPiiEntityError: _failed,
    exceptions.ModelNotMappedError: _failed,
    exceptions.ModifyResponseException: _failed,
    exceptions.SensitiveDataRouteException: _failed,
    openai.APITimeoutError: _timeout,
    openai.APIConnectionError: _away,
    openai.OpenAIError: _failed,
}
