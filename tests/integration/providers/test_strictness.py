"""The servers refuse what their providers would: a fake that takes anything would show nothing."""

from typing import Any

import httpx
import orjson
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer

from tests.integration.providers.aws_wire import ACCESS_KEY, REGION, SECRET_KEY, TOKEN, event
from tests.integration.providers.wire import Wire

_OPENAI: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
_CLAUDE: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 5, "messages": _OPENAI["messages"]}
_COHERE: dict[str, Any] = {"model": "command-a-03-2025", "messages": _OPENAI["messages"]}
_VOYAGE: dict[str, Any] = {"model": "voyage-3.5", "input": ["a"]}
_CONVERSE: dict[str, Any] = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
_LLAMA: dict[str, Any] = {"model": "llama-3", "messages": _OPENAI["messages"]}
_ANTHROPIC = {"x-api-key": "sk-ant-9b03", "anthropic-version": "2023-06-01"}
_CONVERSE_PATH = "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse"
_INVOKE_PATH = "/endpoints/team-llama/invocations"
_COMPONENT = {"x-amzn-sagemaker-inference-component": "component-1"}


def _bearer(wire: Wire) -> dict[str, str]:
    return {"authorization": f"Bearer {wire.secret}"}


@pytest.mark.parametrize(
    ("name", "path", "headers", "body", "status"),
    [
        ("openai", "/v1/chat/completions", {}, _OPENAI, 200),
        ("openai", "/v1/chat/completions", {"authorization": "Bearer sk-other"}, _OPENAI, 401),
        ("openai", "/chat/completions", {}, _OPENAI, 404),
        ("openai", "/v1/chat/completions", {}, {**_OPENAI, "user_api_key": "x"}, 400),
        ("openai", "/v1/chat/completions", {"content-type": "text/plain"}, _OPENAI, 415),
        ("azure", "/openai/deployments/team-chat/chat/completions?api-version=2024-10-21", {}, {}, 400),
        ("azure", "/openai/deployments/team-chat/chat/completions", {}, _OPENAI, 404),
        ("azure", "/openai/deployments/other/chat/completions?api-version=2024-10-21", {}, _OPENAI, 404),
        ("anthropic", "/v1/messages", {}, _CLAUDE, 200),
        ("anthropic", "/v1/messages", {"anthropic-version": "1"}, _CLAUDE, 400),
        ("anthropic", "/v1/messages", {"authorization": "Bearer x"}, _CLAUDE, 400),
        ("anthropic", "/v1/messages", {}, {"model": "claude-sonnet-4-5", "messages": _OPENAI["messages"]}, 400),
        ("anthropic", "/v1/messages", {}, {**_CLAUDE, "stop": ["END"]}, 400),
        ("cohere", "/v2/chat", {}, _COHERE, 200),
        ("cohere", "/v2/chat", {}, {**_COHERE, "stop": ["END"]}, 400),
        ("cohere", "/v1/chat", {}, _COHERE, 404),
        ("voyage", "/v1/embeddings", {}, _VOYAGE, 200),
        ("voyage", "/v1/embeddings", {}, {**_VOYAGE, "encoding_format": "float"}, 400),
        ("voyage", "/v1/embeddings", {}, {**_VOYAGE, "dimensions": 256}, 400),
    ],
)
def test_a_server_takes_what_its_provider_takes_and_nothing_else(
    wires: dict[str, Wire], name: str, path: str, headers: dict[str, str], body: dict[str, Any], status: int
) -> None:
    wire = wires[name]
    own = {"anthropic": _ANTHROPIC, "azure": {"api-key": wire.secret}}.get(name) or _bearer(wire)
    sent = {"content-type": "application/json", **own, **headers}
    answer = httpx.post(wire.url + path, content=orjson.dumps(body), headers=sent)
    assert answer.status_code == status, answer.text
    if status >= 400:
        told = answer.json()
        assert {"anthropic": "error", "cohere": "message", "voyage": "detail"}.get(name, "error") in told


@pytest.mark.parametrize(
    ("name", "path", "body", "headers"),
    [("bedrock", _CONVERSE_PATH, _CONVERSE, {}), ("sagemaker", _INVOKE_PATH, _LLAMA, _COMPONENT)],
)
def test_amazons_servers_check_the_signature_and_the_shape(
    wires: dict[str, Wire], name: str, path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    wire = wires[name]

    def send(
        secret: str = SECRET_KEY,
        token: str = TOKEN,
        region: str = REGION,
        other: dict[str, Any] | None = None,
        signed: bool = True,
        as_signed: dict[str, Any] = body,
    ) -> int:
        raw = orjson.dumps(as_signed)
        request = AWSRequest("POST", wire.url + path, {"content-type": "application/json", **headers}, raw)
        if signed:
            SigV4Auth(Credentials(ACCESS_KEY, secret, token), name, region).add_auth(request)
        content = raw if other is None else orjson.dumps(other)
        answer = httpx.post(wire.url + path, content=content, headers=dict(request.headers))
        assert answer.status_code == 200 or ("message" in answer.json() and answer.headers["x-amzn-errortype"])
        return answer.status_code

    assert send() == 200
    assert send(signed=False) == 403
    assert send(secret="another") == 403
    assert send(token="another") == 403
    assert send(region="us-east-1") == 403
    assert send(other={**body, "temperature": 0}) == 403
    assert send(as_signed={**body, "max_completion": 5}) == 400


def test_the_frames_of_amazons_stream_are_what_its_own_client_reads() -> None:
    frame = event("contentBlockDelta", b'{"delta":{"text":"a"}}')
    buffer = EventStreamBuffer()
    buffer.add_data(frame)
    (message,) = list(buffer)
    assert message.headers[":event-type"] == "contentBlockDelta"
    assert message.payload == b'{"delta":{"text":"a"}}'
    buffer = EventStreamBuffer()
    buffer.add_data(frame[:-5] + b"X" + frame[-4:])
    with pytest.raises(ChecksumMismatch):
        list(buffer)
