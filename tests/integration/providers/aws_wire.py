"""Amazon's Bedrock (Converse, Titan's embeddings) and SageMaker, whose container speaks OpenAI's form as vLLM does.

Signatures are computed anew and compared; bodies and events are held against the service models that botocore carries.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html,
https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import struct
import zlib
from functools import cache
from typing import Any, ClassVar
from urllib.parse import unquote

import orjson
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ParamValidationError
from botocore.loaders import Loader
from botocore.model import ServiceModel, StructureShape
from botocore.validate import validate_parameters

from tests.integration.providers.openai_wire import CHAT, chat_chunks, chat_told, chat_whole
from tests.integration.providers.wire import (
    USAGE,
    VECTORS,
    WRITTEN,
    ChatWire,
    Fault,
    Refused,
    Say,
    Seen,
    Told,
    fits,
    header,
    no_header,
    posted,
    sse,
)

ACCESS_KEY = "AKIAWIRETESTS0000001"
SECRET_KEY = "aws-secret-2f77/abc+def"
TOKEN = "aws-session-token-c0ffee"
REGION = "eu-central-1"


class AwsWire(ChatWire):
    """What both services share."""

    secret = SECRET_KEY
    key_header = "authorization"
    service: ClassVar[str]
    stream_type = "application/vnd.amazon.eventstream"
    own: ClassVar[dict[str, str]] = {
        "aws_access_key_id": "os.environ/WIRE_AWS_ID",
        "aws_secret_access_key": "os.environ/WIRE_AWS_SECRET",
        "aws_session_token": "os.environ/WIRE_AWS_TOKEN",
        "aws_region_name": REGION,
    }

    def secrets(self) -> dict[str, str]:
        return {ACCESS_KEY: "authorization", TOKEN: "x-amz-security-token", SECRET_KEY: ""}

    def environment(self) -> dict[str, str]:
        return {"WIRE_AWS_ID": ACCESS_KEY, "WIRE_AWS_SECRET": SECRET_KEY, "WIRE_AWS_TOKEN": TOKEN}

    def signed(self, seen: Seen) -> None:
        """Raises: Refused: the signature is not that of this request by our key."""
        scheme, _, rest = seen.headers.get("authorization", "").partition(" ")
        said = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        if scheme != "AWS4-HMAC-SHA256" or "Credential" not in said:
            raise Refused(403, "Missing Authentication Token")
        at = seen.headers.get("x-amz-date", "")
        if said["Credential"] != f"{ACCESS_KEY}/{at[:8]}/{REGION}/{self.service}/aws4_request":
            raise Refused(403, "Credential should be scoped to a valid region and service")
        header(seen, "x-amz-security-token", TOKEN, 403)
        names = said["SignedHeaders"].split(";")
        if not {"host", "x-amz-date", "x-amz-security-token"} <= set(names):
            raise Refused(403, "a header must be signed")
        auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, TOKEN), self.service, REGION)
        headers = {name: seen.headers[name] for name in names}
        request = AWSRequest(seen.method, f"http://{seen.headers['host']}{seen.path}", headers, seen.raw)
        request.context["timestamp"] = at
        expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        if said["Signature"] != expected:
            raise Refused(403, "The request signature we calculated does not match the signature you provided")

    def error(self, status: int, message: str, kind: str | None = None) -> web.Response:
        kinds = {400: "ValidationException", 403: "UnrecognizedClientException", 404: "ResourceNotFoundException"}
        headers = {"x-amzn-errortype": kind or kinds.get(status, "InternalServerException")}
        if status == 429:
            headers["retry-after"] = "9"  # some of Amazon's front doors name a time
        return web.json_response({"message": message}, status=status, headers=headers)

    def refusal(self, fault: Fault) -> web.Response:
        match fault:
            case Fault.BAD_REQUEST:
                return self.error(400, "1 validation error detected: Value at 'temperature' must be at most 1")
            case Fault.TOO_LONG:
                return self.error(400, "Input is too long for requested model.")
            case Fault.KEY:
                return self.error(403, "The security token included in the request is invalid.")
            case Fault.UNPAID:
                return self.error(403, "You don't have access to the model.", "AccessDeniedException")
            case Fault.LIMIT:
                return self.error(429, "Too many tokens, please wait before trying again.", "ThrottlingException")
            case Fault.BUSY:
                return self.error(503, "Too many connections", "ServiceUnavailableException")
        return self.error(500, "The system encountered an unexpected error during processing. Try your request again.")


class BedrockWire(AwsWire):
    name = "bedrock"
    service = "bedrock"
    model = "anthropic.claude-3-5-sonnet-20240620-v1:0"
    embedder = "amazon.titan-embed-text-v2:0"
    reasons: ClassVar = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}

    def entries(self) -> list[dict[str, Any]]:
        own = {"api_base": self.url, **self.own}
        return [
            {"model_name": "bedrock", "litellm_params": {"model": f"bedrock/{self.model}", **own}},
            {
                "model_name": "bedrock-embed",
                "litellm_params": {"model": f"bedrock/{self.embedder}", **own},
                "model_info": {"mode": "embedding"},
            },
        ]

    def admit(self, seen: Seen) -> str:
        posted(seen)
        self.signed(seen)
        no_header(seen, "api-key", "x-api-key")
        model, _, action = seen.path.removeprefix("/model/").partition("/")
        if action == "invoke" and unquote(model) == self.embedder:
            form = {"inputText": str, "dimensions?": {256, 512, 1024}, "normalize?": bool}
            fits(seen.body, {**form, "embeddingTypes?": [{"float", "binary"}]})
            return "embed"
        if unquote(model) != self.model or action not in ("converse", "converse-stream"):
            raise Refused(404, "UnknownOperationException")
        shape = "ConverseRequest" if action == "converse" else "ConverseStreamRequest"
        valid({"modelId": unquote(model), **seen.body}, shape)
        return "chat" if action == "converse" else "stream"

    def told(self, seen: Seen) -> Told:
        body = seen.body
        config = body.get("inferenceConfig", {})
        return Told(
            "".join(block["text"] for block in body["system"]),
            "".join(block["text"] for block in body["messages"][-1]["content"]),
            config.get("maxTokens"),
            config.get("temperature"),
            config.get("stopSequences"),
            [tool["toolSpec"]["name"] for tool in body.get("toolConfig", {}).get("tools", ())],
            seen.path.endswith("-stream"),
        )

    def whole(self, say: Say) -> dict[str, Any]:
        block: dict[str, Any] = {"text": say.text}
        if say.tool:
            block = {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": orjson.loads(say.tool)}}
        answer = {
            "output": {"message": {"role": "assistant", "content": [block]}},
            "stopReason": self.reasons[say.reason],
            "usage": self._usage(),
            "metrics": {"latencyMs": 3},
        }
        valid(answer, "ConverseResponse")
        return answer

    def events(self, say: Say, seen: Seen) -> list[bytes]:
        start: list[dict[str, Any]] = []
        deltas: list[dict[str, Any]] = [{"text": part} for part in (say.text[:4], say.text[4:8], say.text[8:])]
        if say.tool:
            start = [{"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "tooluse_1", "name": "weather"}}}]
            deltas = [{"toolUse": {"input": part}} for part in (say.tool[:5], say.tool[5:])]
        events: list[tuple[str, dict[str, Any]]] = [
            ("messageStart", {"role": "assistant"}),
            *(("contentBlockStart", one) for one in start),
            *(("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta}) for delta in deltas),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("messageStop", {"stopReason": self.reasons[say.reason]}),
            ("metadata", {"usage": self._usage(), "metrics": {"latencyMs": 3}}),
        ]
        for name, said in events:
            valid({name: said}, "ConverseStreamOutput")
        padded = ((name, {**said, "p": "abcdefgh"}) for name, said in events)  # against guessing by length
        return [event(name, orjson.dumps(said)) for name, said in padded]

    def inner_error(self) -> bytes:
        said = orjson.dumps({"message": "The model broke off"})
        return event("modelStreamErrorException", said, exception=True)

    def embedded(self, seen: Seen) -> web.Response:
        asked = [one.body["inputText"] for one in self.seen if one.path == seen.path]
        vector = VECTORS[len(asked) - 1]
        tokens = USAGE.prompt_tokens - 1 if len(asked) == 1 else 1
        kinds = seen.body.get("embeddingTypes", ["float"])
        by_type = {kind: vector if kind == "float" else [1, 0, 1] for kind in kinds}
        return web.json_response({"embedding": vector, "embeddingsByType": by_type, "inputTextTokenCount": tokens})

    def _usage(self) -> dict[str, int]:
        read = USAGE.prompt_tokens - USAGE.cached_tokens - WRITTEN
        return {
            "inputTokens": read,
            "outputTokens": USAGE.completion_tokens,
            "totalTokens": USAGE.total_tokens,
            "cacheReadInputTokens": USAGE.cached_tokens,
            "cacheWriteInputTokens": WRITTEN,
        }


class SagemakerWire(AwsWire):
    name = "sagemaker"
    service = "sagemaker"
    endpoint = "team-llama"
    embedder = "team-tei"

    def entries(self) -> list[dict[str, Any]]:
        return [
            {
                "model_name": "sagemaker",
                "litellm_params": {
                    "model": f"sagemaker_chat/{self.endpoint}",
                    "api_base": self.url,
                    "hf_model_name": "llama-3",
                    "model_id": "component-1",
                    **self.own,
                },
            },
            {
                "model_name": "sagemaker-embed",
                "litellm_params": {"model": f"sagemaker/{self.embedder}", **self.own},
                "model_info": {"mode": "embedding"},
            },
        ]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": self.url}

    def admit(self, seen: Seen) -> str:
        posted(seen)
        self.signed(seen)
        no_header(seen, "api-key", "x-api-key")
        if seen.path == f"/endpoints/{self.embedder}/invocations":
            fits(seen.body, {"inputs": (str, [str])})
            return "embed"
        kinds = {"invocations": "chat", "invocations-response-stream": "stream"}
        kind = kinds.get(seen.path.removeprefix(f"/endpoints/{self.endpoint}/"))
        if kind is None:
            raise Refused(400, f"Endpoint {seen.path} of account 111122223333 not found.")
        header(seen, "x-amzn-sagemaker-inference-component", "component-1")
        fits(seen.body, {**CHAT, "model": {"llama-3"}})
        if seen.body.get("stream", False) != (kind == "stream"):
            raise Refused(400, "the container and the endpoint are asked for different things")
        return kind

    def error(self, status: int, message: str, kind: str | None = None) -> web.Response:
        kinds = {400: "ValidationError", 500: "InternalFailure", 503: "ServiceUnavailable"}
        return super().error(status, message, kind or kinds.get(status))

    def refusal(self, fault: Fault) -> web.Response:
        """What the container itself says comes as a 424."""
        if fault is Fault.BAD_REQUEST:
            return self._model_error(400, "temperature must be at most 2")
        if fault is Fault.TOO_LONG:
            return self._model_error(400, "This model's maximum context length is 8192 tokens.")
        if fault is Fault.ERROR:
            return self._model_error(500, "CUDA out of memory")
        return super().refusal(fault)

    def _model_error(self, status: int, said: str) -> web.Response:
        what = "client" if status < 500 else "server"
        message = f'Received {what} error ({status}) from primary with message "{said}".'
        body = {"ErrorCode": "CLIENT_ERROR_FROM_MODEL", "Message": message, "OriginalMessage": said}
        return web.json_response(
            {**body, "OriginalStatusCode": status, "LogStreamArn": "arn:aws:logs:secret"},
            status=424,
            headers={"x-amzn-errortype": "ModelError"},
        )

    def told(self, seen: Seen) -> Told:
        return chat_told(seen.body)

    def whole(self, say: Say) -> dict[str, Any]:
        return chat_whole(say, "llama-3")

    def events(self, say: Say, seen: Seen) -> list[bytes]:
        """The container's events, cut into parts where it happens, inside of signs as well."""
        wanted = (seen.body.get("stream_options") or {}).get("include_usage", False)
        said = b"".join(map(sse, [*chat_chunks(say, "llama-3", usage=wanted), b"[DONE]"]))
        return [event("PayloadPart", said[at : at + 100]) for at in range(0, len(said), 100)]

    def inner_error(self) -> bytes:
        said = orjson.dumps({"Message": "reset", "ErrorCode": "StreamBroken"})
        return event("ModelStreamError", said, exception=True)

    def embedded(self, seen: Seen) -> web.Response:
        return web.json_response(VECTORS[: len(seen.body["inputs"])])


def event(name: str, payload: bytes, *, exception: bool = False) -> bytes:
    """One message of Amazon's binary stream, with both of its checksums."""
    kind = "exception" if exception else "event"
    told = {f":{kind}-type": name, ":message-type": kind}
    told[":content-type"] = "application/octet-stream" if name == "PayloadPart" else "application/json"
    headers = b"".join(
        struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for key, value in told.items()
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


@cache
def _bedrock() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))


def valid(value: dict[str, Any], shape: str) -> None:
    """Raises: Refused: it is no such shape of Bedrock's service model."""
    found = _bedrock().shape_for(shape)
    assert isinstance(found, StructureShape)
    try:
        validate_parameters(value, found)
    except ParamValidationError as error:
        raise Refused(400, str(error)) from error
