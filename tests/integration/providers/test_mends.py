"""What LiteLLM is mended by, at the edges that the servers do not show."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.integration.providers.aws_wire import event
from tests.integration.providers.openai_wire import chat_chunks
from tests.integration.providers.wire import Say

pytestmark = pytest.mark.slow  # LiteLLM takes seconds to import


async def _read(parts: list[bytes]) -> list[Any]:
    from router.litellm_lane import litellm_mends

    async def arriving() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return [chunk async for chunk in litellm_mends.SagemakerStream(model="").aiter_bytes(arriving())]


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_sagemakers_parts_may_be_cut_anywhere_even_within_a_sign(size: int) -> None:
    chunks = chat_chunks(Say(text="grüße aus Reykjavík"), "m", usage=True)
    said = b"".join(b"data:" + orjson.dumps(chunk) + b"\n\n" for chunk in chunks).rstrip()  # no end of the last line
    frames = b"".join(event("PayloadPart", said[at : at + size]) for at in range(0, len(said), size))
    found = await _read([frames[at : at + 13] for at in range(0, len(frames), 13)])
    assert len(found) == len(chunks)
    text = "".join(choice.delta.content or "" for chunk in found for choice in chunk.choices)
    assert text == "grüße aus Reykjavík"


@pytest.mark.parametrize(
    ("reason", "ours"), [("COMPLETE", "stop"), ("STOP_SEQUENCE", "stop"), ("MAX_TOKENS", "length"), ("NEW", "stop")]
)
async def test_coheres_reasons_are_openais(reason: str, ours: str) -> None:
    from router.litellm_lane import litellm_mends

    stream = litellm_mends.CohereStream([], sync_stream=False)
    ended = {"type": "message-end", "delta": {"finish_reason": reason}}
    framed = (f"data: {orjson.dumps(ended).decode()}", "event: message-end", "", "data: [DONE]")
    last, *others = map(stream.convert_str_chunk_to_generic_chunk, framed)
    assert (last["is_finished"], last["finish_reason"]) == (True, ours)
    assert not any(other["is_finished"] or other["text"] for other in others)


@pytest.mark.parametrize("reason", ["ERROR", "ERROR_LIMIT", "TIMEOUT", None])
async def test_what_cohere_gave_up_is_no_answer(reason: str | None) -> None:
    from router.litellm_lane import litellm_mends

    stream = litellm_mends.CohereStream([], sync_stream=False)
    with pytest.raises(litellm_mends.CohereError, match="gave its answer up"):
        stream.chunk_parser({"type": "message-end", "delta": {"finish_reason": reason}})
