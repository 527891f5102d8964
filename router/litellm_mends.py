"""Two of LiteLLM's translations, mended: as they are, they lose what these providers say, and spill what is secret.

`install` puts them where LiteLLM looks for its own. `tests/integration/providers` holds them against the wire.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import litellm
from botocore.eventstream import EventStreamBuffer
from litellm.exceptions import UnsupportedParamsError
from litellm.llms.cohere.chat.transformation import CohereChatConfig
from litellm.llms.cohere.chat.v2_transformation import CohereV2ChatConfig
from litellm.llms.cohere.common_utils import CohereError, CohereV2ModelResponseIterator
from litellm.llms.sagemaker.chat import transformation as sagemaker
from litellm.llms.sagemaker.common_utils import AWSEventStreamDecoder, SagemakerError

_CHOICES = {"required": "REQUIRED", "none": "NONE"}
_REASONS = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}


class CohereWords(CohereChatConfig):  # type: ignore[misc]
    """Cohere's words for what is asked: LiteLLM forgets `tool_choice`, and sends one stop word as no list."""

    def map_openai_params(self, non_default_params: dict[str, Any], *args: Any, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().map_openai_params(non_default_params, *args, **more)
        if isinstance(found.get("stop_sequences"), str):
            found["stop_sequences"] = [found["stop_sequences"]]
        choice = non_default_params.get("tool_choice")
        if isinstance(choice, dict):
            raise UnsupportedParamsError(
                "Cohere can't be told which tool to call: `tool_choice` is auto, none or required"
            )
        if choice in _CHOICES:
            found["tool_choice"] = _CHOICES[choice]
        return found


class CohereChat(CohereV2ChatConfig):  # type: ignore[misc]
    """Cohere's chat: LiteLLM calls every whole answer's end `stop`, and does not see the end of a stream."""

    def transform_response(self, *args: Any, **more: Any) -> Any:
        answer = super().transform_response(*args, **more)
        said = (more["raw_response"] if "raw_response" in more else args[1]).json()
        answer.choices[0].finish_reason = _reason(said)
        answer.usage = litellm.Usage(**_usage(said.get("usage")))
        return answer

    def get_model_response_iterator(
        self, streaming_response: Any, sync_stream: bool, json_mode: bool | None = False
    ) -> "CohereStream":
        return CohereStream(streaming_response, sync_stream, json_mode)


class CohereStream(CohereV2ModelResponseIterator):  # type: ignore[misc]
    """Its events, a line of JSON each, or framed as server-sent events.

    Source: https://docs.cohere.com/v2/docs/streaming
    """

    def convert_str_chunk_to_generic_chunk(self, chunk: str) -> dict[str, Any]:
        line = chunk.removeprefix("data:").strip()
        return self.chunk_parser(json.loads(line) if line.startswith("{") else {})

    def chunk_parser(self, chunk: dict[str, Any]) -> dict[str, Any]:
        kind, delta = chunk.get("type"), chunk.get("delta") or {}
        if kind == "message-end":
            return _piece(is_finished=True, finish_reason=_reason(delta), usage=_usage(delta.get("usage")))
        if kind in ("tool-call-start", "tool-call-delta"):
            call = delta["message"]["tool_calls"]
            function = call.get("function") or {}
            said = {"name": function.get("name"), "arguments": function.get("arguments") or ""}
            index = chunk.get("index") or 0
            return _piece(tool_use={"id": call.get("id"), "type": "function", "function": said, "index": index})
        parsed: dict[str, Any] = super().chunk_parser(chunk)
        return parsed


class SagemakerChat(sagemaker.SagemakerChatConfig):  # type: ignore[misc]
    """SageMaker's chat: LiteLLM leaves `api_base` out, and puts our secrets into the body that the model reads."""

    def get_complete_url(self, api_base: str | None, *args: Any, **more: Any) -> str:
        own: str = super().get_complete_url(api_base, *args, **more)
        return own if api_base is None else api_base + own[own.index("/endpoints/") :]

    def transform_request(self, *args: Any, **more: Any) -> dict[str, Any]:
        body: dict[str, Any] = super().transform_request(*args, **more)
        return {name: value for name, value in body.items() if not name.startswith("aws_") and name != "model_id"}


class SagemakerStream(AWSEventStreamDecoder):  # type: ignore[misc]
    """SageMaker cuts the model's server-sent events into parts as it likes, and says by an event what broke.

    LiteLLM takes each part for one event, drops what it can't read, and so loses text or errors.
    """

    async def aiter_bytes(self, iterator: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for line in _lines(iterator):
            said = line.removeprefix(b"data:").strip()
            if said.startswith(b"{"):
                yield self._chunk_parser_messages_api(json.loads(said))


async def _lines(iterator: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines inside of Amazon's frames. Raises: SagemakerError: an event says that the stream broke."""
    parts, text = EventStreamBuffer(), b""
    async for data in iterator:
        parts.add_data(data)
        for part in parts:
            told = part.to_response_dict()
            if told["status_code"] != 200:
                raise SagemakerError(500, f"its stream broke: {told['headers'].get(':exception-type')}")
            *lines, text = (text + part.payload).split(b"\n")
            for line in lines:
                yield line
    yield text


def install() -> None:
    """Have LiteLLM use these; may be called twice."""
    litellm.CohereChatConfig = CohereWords
    litellm.CohereV2ChatConfig = CohereChat
    litellm.SagemakerChatConfig = SagemakerChat
    sagemaker.AWSEventStreamDecoder = SagemakerStream


def _piece(**fields: Any) -> dict[str, Any]:
    return {
        "text": "",
        "is_finished": False,
        "finish_reason": "",
        "usage": None,
        "index": 0,
        "tool_use": None,
        **fields,
    }


def _reason(said: dict[str, Any]) -> str:
    """OpenAI's finish reason. Raises: CohereError: the answer was given up, or nothing is said of its end."""
    reason = said.get("finish_reason")
    if not reason or reason.startswith(("ERROR", "TIMEOUT")):
        raise CohereError(500, f"gave its answer up: {reason}")
    return _REASONS.get(reason, "stop")


def _usage(said: dict[str, Any] | None) -> dict[str, Any]:
    """OpenAI's usage: every token that was read, not the `billed_units`, which leave out what Cohere itself adds."""
    said = said or {}
    tokens = said.get("tokens") or {}
    prompt, completion = int(tokens.get("input_tokens") or 0), int(tokens.get("output_tokens") or 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": int(said.get("cached_tokens") or 0)},
    }
