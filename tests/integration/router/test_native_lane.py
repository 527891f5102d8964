"""The native lane over real sockets: bytes forwarded, deadlines held, early faults fall back, cancelled at once."""

import asyncio
import time

import orjson
import pytest

from core.reach import ANYWHERE
from core.usage import Usage
from router.deployment import Deployment
from router.errors import ModelNotFound, NoDeployment, RouterError, UpstreamFailed, UpstreamRefused, UpstreamTimeout
from router.router import Call, open_router
from tests.integration.router.calls import DEADLINES, HURRIED, chat, config, native, read
from tests.support.network import free_port
from tests.support.openai_server import Fault, OpenAiServer


def failing(server: OpenAiServer, fault: Fault) -> Deployment:
    """A deployment of the server, which fails from now on; little patience is had only with silence."""
    server.fault = fault
    silent = fault in (Fault.HANG, Fault.HANG_AFTER_HEADERS, Fault.HANG_MID_STREAM)
    return native(server, deadlines=HURRIED if silent else DEADLINES)


async def test_an_answer_in_one_piece_is_passed_on(server: OpenAiServer) -> None:
    async with open_router(config(native(server))) as router:
        answer = await router.open(chat(max_tokens=3))
    assert orjson.loads(answer.body)["choices"][0]["message"]["content"] == "one two three"
    assert (answer.status, answer.media_type, answer.finish_reason) == (200, "application/json", "length")
    assert answer.usage == Usage(4, 3)
    assert (answer.deployment.name, answer.fallback) == ("native-1", None)
    assert server.bodies[0]["model"] == "words"
    assert server.headers[0]["x-request-id"] == "req_1"


async def test_a_stream_is_passed_on_and_its_usage_chunk_is_kept_from_a_caller_who_did_not_ask(
    server: OpenAiServer,
) -> None:
    async with open_router(config(native(server))) as router:
        answer = await router.open(chat(stream=True))
        body = await read(answer)
        asked = await router.open(chat(stream=True, stream_options={"include_usage": True}))
        asked_body = await read(asked)
    assert body.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in body
    assert asked_body.count(b'"usage"') == 1
    assert answer.usage == asked.usage == Usage(4, 4)
    assert answer.finish_reason == "stop"
    assert answer.first_token_s is not None
    assert server.cancelled == 0


async def test_embeddings_pass(server: OpenAiServer) -> None:
    async with open_router(config(native(server, kind="embedding"))) as router:
        call = Call("embeddings", "g", {"model": "g", "input": ["a b", "c"]}, False, ANYWHERE, "r", tenant="t")
        answer = await router.open(call)
        assert [model.kind for model in router.models()] == ["embedding"]
    assert len(orjson.loads(answer.body)["data"]) == 2
    assert answer.usage == Usage(3, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long_is_refused_with_the_limit_and_is_no_failure(
    server: OpenAiServer, other: OpenAiServer, stream: bool
) -> None:
    async with open_router(config(native(server), native(other, "b", "f"), g=["f"])) as router:
        with pytest.raises(UpstreamRefused) as caught:
            await router.open(chat("word " * 5000, stream=stream))
        assert router.status()[0].state == "closed"
    assert caught.value.status == 400
    assert caught.value.error["code"] == "context_length_exceeded"
    assert caught.value.error["type"] == "invalid_request_error"
    assert "4096 tokens" in caught.value.error["message"]
    assert other.requests == 0


EARLY = [
    Fault.ERROR_500, Fault.BUSY_503, Fault.LIMIT_429, Fault.KEY_401, Fault.GARBAGE, Fault.ERROR_EVENT_FIRST,
    Fault.HANG, Fault.HANG_AFTER_HEADERS, Fault.WRONG_TYPE,
]  # fmt: skip


@pytest.mark.parametrize("fault", EARLY)
async def test_an_early_fault_of_a_stream_falls_back(server: OpenAiServer, other: OpenAiServer, fault: Fault) -> None:
    async with open_router(config(failing(server, fault), native(other, "b", "f"), g=["f"])) as router:
        answer = await router.open(chat(stream=True))
        body = await read(answer)
    assert (answer.deployment.name, answer.fallback) == ("b", "f")
    assert b"four" in body
    assert body.endswith(b"[DONE]\n\n")


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.BUSY_503, Fault.LIMIT_429, Fault.KEY_401, Fault.GARBAGE])
async def test_an_early_fault_of_an_answer_in_one_piece_falls_to_the_next_of_the_group(
    server: OpenAiServer, other: OpenAiServer, fault: Fault
) -> None:
    server.fault = fault
    async with open_router(config(native(server), native(other, "b"))) as router:
        answers = [await router.open(chat()) for _ in range(2)]
    assert {answer.deployment.name for answer in answers} == {"b"}
    assert answers[0].fallback is None
    assert server.requests == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.ERROR_500, UpstreamFailed),
        (Fault.KEY_401, UpstreamFailed),
        (Fault.GARBAGE, UpstreamFailed),
        (Fault.ERROR_EVENT_FIRST, UpstreamFailed),
        (Fault.WRONG_TYPE, UpstreamFailed),
        (Fault.HANG, UpstreamTimeout),
        (Fault.HANG_AFTER_HEADERS, UpstreamTimeout),
        (Fault.BUSY_503, NoDeployment),
        (Fault.LIMIT_429, UpstreamRefused),
    ],
)
async def test_without_a_fallback_an_early_fault_has_its_own_error_and_tells_no_secret(
    server: OpenAiServer, fault: Fault, error: type[RouterError]
) -> None:
    started = time.monotonic()
    async with open_router(config(failing(server, fault))) as router:
        with pytest.raises(error) as caught:
            await router.open(chat(stream=True))
    assert type(caught.value) is error
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 20
    if fault in (Fault.BUSY_503, Fault.LIMIT_429):
        assert getattr(caught.value, "retry_after_s", None) == (7 if fault is Fault.BUSY_503 else 9)


async def test_a_server_that_is_away_is_no_deployment_then_rested_then_back(server: OpenAiServer) -> None:
    away = OpenAiServer("words", base_url=f"http://127.0.0.1:{free_port()}/v1")
    async with open_router(config(native(away))) as router:
        for _ in range(3):
            with pytest.raises(NoDeployment) as caught:
                await router.open(chat())
            assert caught.value.retry_after_s >= 1
            assert str(caught.value).endswith(
                ": try again in a minute, and look at `./stoker status` if that does not help."
            )
        assert router.status()[0].state == "open"


async def test_a_rested_deployment_comes_back(server: OpenAiServer) -> None:
    server.fault = Fault.ERROR_500
    async with open_router(config(native(server))) as router:
        for _ in range(2):
            with pytest.raises(UpstreamFailed):
                await router.open(chat())
        with pytest.raises(NoDeployment):
            await router.open(chat())
        assert server.requests == 2
        server.fault = None
        await asyncio.sleep(0.25)
        await read(await router.open(chat(stream=True)))
        assert router.status()[0].state == "closed"


@pytest.mark.parametrize("fault", [Fault.CUT_MID_STREAM, Fault.HANG_MID_STREAM])
async def test_a_stream_that_breaks_ends_in_an_error_event_and_never_in_done(
    server: OpenAiServer, fault: Fault
) -> None:
    async with open_router(config(failing(server, fault))) as router:
        answer = await router.open(chat(stream=True))
        body = await read(answer)
    frames = body.decode().strip().split("\n\n")
    assert "two" in body.decode()
    assert "[DONE]" not in body.decode()
    assert orjson.loads(frames[-1].removeprefix("data: "))["error"]["code"] == "stream_broken"


async def test_a_whole_answer_that_only_lacks_done_gets_it(server: OpenAiServer) -> None:
    server.fault = Fault.NO_DONE
    async with open_router(config(native(server))) as router:
        body = await read(await router.open(chat(stream=True)))
    assert body.endswith(b"data: [DONE]\n\n")
    assert b"error" not in body


async def test_a_client_that_leaves_cancels_the_upstream_within_100_ms(server: OpenAiServer) -> None:
    server.pause_s = 0.05
    async with open_router(config(native(server))) as router:
        answer = await router.open(chat("word " * 1000, stream=True))
        assert answer.frames is not None
        await anext(answer.frames)
        await answer.aclose()
        await asyncio.sleep(0.1)
        assert server.cancelled == 1
        assert router.status()[0].state == "closed"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_first_byte_cancels_the_upstream(
    server: OpenAiServer, stream: bool
) -> None:
    server.fault = Fault.HANG
    async with open_router(config(native(server))) as router:
        opening = asyncio.create_task(router.open(chat(stream=stream)))
        await asyncio.sleep(0.1)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await asyncio.sleep(0.1)
    assert (server.requests, server.cancelled) == (1, 1)


async def test_connections_are_used_again_after_a_stream(server: OpenAiServer) -> None:
    async with open_router(config(native(server))) as router:
        for _ in range(3):
            await read(await router.open(chat(stream=True)))
        assert router._lanes["native"].connections == 1  # type: ignore[index,attr-defined]


async def test_an_unknown_model_names_the_known_ones(server: OpenAiServer) -> None:
    async with open_router(config(native(server))) as router:
        with pytest.raises(ModelNotFound, match=r"'nope' does not exist. Known models: g"):
            await router.open(chat(group="nope"))


async def test_a_chat_model_is_not_for_embeddings(server: OpenAiServer) -> None:
    async with open_router(config(native(server))) as router:
        with pytest.raises(UpstreamRefused, match="is for /v1/chat/completions"):
            await router.open(Call("embeddings", "g", {"input": "a"}, False, ANYWHERE, "r", tenant="t"))


async def test_a_body_of_megabytes_arrives_whole(server: OpenAiServer) -> None:
    async with open_router(config(native(server))) as router:
        await router.open(chat("x" * 3_000_000))
    assert len(server.bodies[0]["messages"][0]["content"]) == 3_000_000
