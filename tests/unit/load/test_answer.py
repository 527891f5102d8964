"""Bytes of an answer, and what is made of them."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.load.generator.answer import Answer, Failure, Sample
from tests.load.generator.scenarios import Form

_USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
_ROLE = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}


def _frame(told: object) -> bytes:
    return b"data: " + orjson.dumps(told) + b"\n\n"


def _text(text: str) -> bytes:
    return _frame({"choices": [{"delta": {"content": text}}]})


_LAST = _frame({"choices": [{"delta": {}, "finish_reason": "stop"}]})
_WHOLE = [_frame(_ROLE), _text("a"), _text("b c"), _LAST, _frame({"choices": [], "usage": _USAGE}), b"data: [DONE]\n\n"]


def _read(pieces: list[bytes], status: int = 200, form: Form = Form.CHAT, **headers: str) -> Sample:
    sample = Sample(1, "chat", 0.0)
    answer = Answer(form, sample, keep_text=True)
    answer.head(status, headers)
    for at, piece in enumerate(pieces, 1):
        answer.body(piece, float(at))
    answer.end(float(len(pieces)))
    return sample


def test_the_first_token_is_the_first_text_and_not_the_first_frame() -> None:
    sample = _read(_WHOLE)
    assert (sample.failure, sample.ttft_s, sample.e2e_s) == (None, 2.0, 6.0)
    assert sample.tokens_s == [2.0, 3.0]
    assert (sample.prompt_tokens, sample.output_tokens, sample.cached_tokens) == (7, 5, 4)
    assert sample.tpot_s == (6.0 - 2.0) / 4


def test_latencies_count_from_the_scheduled_moment() -> None:
    sample = Sample(1, "chat", scheduled_s=10.0, sent_s=15.0, tokens_s=[16.0], ended_s=18.0, output_tokens=5)
    assert (sample.ttft_s, sample.e2e_s, sample.tpot_s) == (6.0, 8.0, 0.5)


@pytest.mark.parametrize("cut", [4, 5])
def test_a_stream_that_ends_without_its_end_is_truncated(cut: int) -> None:
    assert _read(_WHOLE[:cut]).failure is Failure.TRUNCATED
    assert _read([*_WHOLE[:3], *_WHOLE[4:]]).failure is Failure.TRUNCATED, "no finish_reason came"


def test_an_answer_without_a_token_is_no_good_answer() -> None:
    assert _read([_WHOLE[0], *_WHOLE[3:]]).failure is Failure.EMPTY


def test_failures_have_classes_that_name_status_and_code_and_nothing_of_the_text() -> None:
    error = {"error": {"message": "secret <script>", "code": "overloaded"}}
    assert _read([orjson.dumps(error)], status=503).what == "status 503 overloaded"
    assert _read([b"<html>"], status=502).what == "status 502"
    assert _read([b'{"error":{"code":"<script>alert(1)</script>"}}'], status=400).what == "status 400"
    assert _read([*_WHOLE[:2], _frame(error), b"data: [DONE]\n\n"]).what == "error event overloaded"
    assert _read([b"data: {nonsense\n\n"]).what == "malformed"
    assert _read([_frame([1])]).what == "malformed"
    assert _read([_frame({"choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 2}})]).what == "malformed"


def test_a_questions_events_are_read() -> None:
    done = {"answer": "a", "citations": [{}], "cache": "exact", "usage": _USAGE}
    pieces = [
        b'event: retrieval\ndata: {"data": []}\n\n',
        b'event: token\r\ndata: {"text": "a"}\r\n\r\n',
        b"event: done\ndata: " + orjson.dumps(done) + b"\n\n",
    ]
    sample = _read(pieces, form=Form.QUERY)
    assert (sample.failure, sample.ttft_s, sample.citations, sample.cache) == (None, 2.0, 1, "exact")
    assert _read(pieces[:2], form=Form.QUERY).failure is Failure.TRUNCATED
    assert _read([*pieces[:2], b'event: error\ndata: {"error": {"code": "x"}}\n\n'], form=Form.QUERY).what == (
        "error event x"
    )


@given(st.data())
def test_however_an_answer_is_cut_into_pieces_the_same_is_read(data: st.DataObject) -> None:
    whole, pieces = b"".join(_WHOLE), []
    while whole:
        size = data.draw(st.integers(1, 200))
        pieces.append(whole[:size])
        whole = whole[size:]
    sample = _read(pieces)
    assert (sample.failure, len(sample.tokens_s), sample.output_tokens) == (None, 2, 5)


@given(st.lists(st.binary(max_size=200), max_size=10), st.sampled_from(list(Form)))
def test_no_bytes_break_the_reader(pieces: list[bytes], form: Form) -> None:
    _read([b"data: ", *pieces], form=form)
