"""Answers from documents in the forms of chats: whole and streamed say the same."""

from typing import Any

import orjson
import pytest

from api.answers.events import Citation, Cited, Done, Event, Retrieved, Token
from api.chat.anthropic_voice import AnthropicVoice
from api.chat.openai_voice import OpenAIVoice
from api.chat.told import Voice
from core.usage import Usage
from retrieval.search import Passage, SearchResult


def passage(document_id: str, page: int | None, file_id: str | None) -> Passage:
    return Passage(
        document_id=document_id,
        document_version=1,
        revision_id="rev_1",
        filename=f"{document_id}.pdf",
        text="The fare is nine crowns.",
        start=0,
        end=24,
        page=page,
        score=1.0,
        metadata={},
        file_id=file_id,
    )


FARE = Citation("doc_b", 1, "doc_b.pdf", None, 4, 28, "The fare is nine crowns.")
BOAT = Citation("doc_a", 1, "doc_a.pdf", 3, 0, 18, "The boat is small.")
PASSAGES = [passage("doc_a", 3, None), passage("doc_b", None, "file_1"), passage("doc_a", 4, None)]
EVENTS: list[Event] = [
    Retrieved(SearchResult(PASSAGES, 7)),
    Token("The fare is nine crowns."),
    Cited(FARE),
    Token(" Elephants sing.", False),
    Token(" The boat is small."),
    Cited(BOAT),
    Done(
        "The fare is nine crowns. Elephants sing. The boat is small.",
        (FARE, BOAT),
        "one part is away",
        "words",
        usage=Usage(10, 4, 6),
        work_usage=Usage(5, 1),
        unsupported=((25, 40),),
        timings_ms={"total": 1.0},
    ),
]
UNCHECKED: list[Event] = [
    EVENTS[0],
    Token("Nine", None),
    Token(" crowns.", None),
    Done("Nine crowns.", (), None, "words"),
]


def openai(*, shows_usage: bool = False, **extra: Any) -> OpenAIVoice:
    return OpenAIVoice("words", "a/b", "https://gate.example", 1, shows_usage=shows_usage, extra=extra)


def told(voice: Voice, events: list[Event]) -> list[Any]:
    """The data of the stream's events."""
    stream = b"".join(voice.tell(event) for event in events).decode()
    data = [line[6:] for line in stream.splitlines() if line.startswith("data: ")]
    return [one if one == "[DONE]" else orjson.loads(one) for one in data]


def done_of(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def test_a_completion_carries_the_citations_and_where_they_belong() -> None:
    voice = openai(conversation_id="conv_1")
    told(voice, EVENTS)
    completion = voice.whole(done_of(EVENTS))
    (choice,) = completion["choices"]
    message = choice["message"]
    assert (message["role"], choice["finish_reason"], completion["object"]) == ("assistant", "stop", "chat.completion")
    assert [one["quote"] for one in message["citations"]] == [FARE.quote, BOAT.quote]
    cited = [one["url_citation"] for one in message["annotations"]]
    assert [message["content"][one["start_index"] : one["end_index"]] for one in cited] == [FARE.quote, BOAT.quote]
    assert cited[0]["url"] == "https://gate.example/v1/collections/a%2Fb/documents/doc_b/content?version=1"
    assert cited[0]["title"] == "doc_b.pdf"
    assert message["unsupported"] == [{"start": 25, "end": 40}]
    assert completion["usage"] == {"prompt_tokens": 15, "completion_tokens": 5, "total_tokens": 20}
    assert (completion["degraded"], completion["degraded_reason"]) == (True, "one part is away")
    assert completion["conversation_id"] == "conv_1"


def test_the_chunks_say_what_the_completion_says_and_end_with_their_sources() -> None:
    voice = openai(shows_usage=True)
    *chunks, last, usage, end = told(voice, EVENTS)
    whole = voice.whole(done_of(EVENTS))
    message = whole["choices"][0]["message"]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == message["content"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    (choice,) = last["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["delta"] == {name: message[name] for name in ("citations", "annotations", "unsupported")}
    assert (usage["choices"], usage["usage"], end) == ([], whole["usage"], "[DONE]")
    assert {chunk["id"] for chunk in (*chunks, last, usage)} == {whole["id"]}
    assert told(openai(), EVENTS)[-2]["choices"], "no usage unless it is asked for"


def test_a_message_of_anthropics_has_a_block_for_each_sentence_with_its_own_citations() -> None:
    voice = AnthropicVoice("words", "req_1")
    told(voice, EVENTS)
    message = voice.whole(done_of(EVENTS))
    assert [block["text"] for block in message["content"]] == [
        "The fare is nine crowns.",
        " Elephants sing.",
        " The boat is small.",
    ]
    (fare,), nothing, (boat,) = [block["citations"] for block in message["content"]]
    assert nothing is None
    assert (fare["type"], fare["start_char_index"], fare["end_char_index"]) == ("char_location", 4, 28)
    assert (fare["document_index"], fare["document_title"], fare["file_id"]) == (1, "doc_b.pdf", "file_1")
    assert (boat["type"], boat["start_page_number"], boat["end_page_number"]) == ("page_location", 3, 4)
    assert (boat["document_index"], boat["cited_text"], boat["document_id"]) == (0, BOAT.quote, "doc_a")
    assert message["stop_reason"] == "end_turn"
    counts = [message["usage"][name] for name in ("input_tokens", "cache_read_input_tokens", "output_tokens")]
    assert counts == [9, 6, 5], "what the cache held is counted apart"


def test_its_stream_opens_and_closes_each_block_in_turn() -> None:
    voice = AnthropicVoice("words", "req_1")
    events = told(voice, EVENTS)
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    cited = [*block[:2], *block[1:]]
    kinds = [event["type"] for event in events]
    assert kinds == ["message_start", *cited, *block, *cited, "message_delta", "message_stop"]
    assert [event["index"] for event in events if "index" in event] == [0] * 4 + [1] * 3 + [2] * 4
    citations = [e["delta"]["citation"] for e in events if e.get("delta", {}).get("type") == "citations_delta"]
    whole = voice.whole(done_of(EVENTS))
    assert citations == [one for block in whole["content"] for one in block["citations"] or ()]
    assert events[-2]["usage"] == whole["usage"]


def test_what_nobody_checked_is_one_block_without_citations() -> None:
    voice = AnthropicVoice("words", "req_1")
    kinds = [event["type"] for event in told(voice, UNCHECKED)]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1
    (block,) = voice.whole(done_of(UNCHECKED))["content"]
    assert (block["text"], block["citations"]) == ("Nine crowns.", None)


@pytest.mark.parametrize("voice", [openai(), AnthropicVoice("words", "req_1")], ids=["openai", "anthropic"])
def test_a_stream_that_breaks_says_so(voice: Voice) -> None:
    error = {"message": "it broke", "type": "upstream_error", "param": None, "code": "upstream_failed"}
    data = orjson.loads(voice.broken(502, error).partition(b"data: ")[2])
    assert data["error"]["message"] == "it broke"
