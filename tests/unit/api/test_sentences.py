"""Sentences: exact spans, and the same sentences however the text arrives."""

from hypothesis import given
from hypothesis import strategies as st

from api.answers.sentences import SentenceBuffer, spans

TEXTS = st.text(alphabet="ab .!?\n3.e.g-|", max_size=80)


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in spans(text)]


def test_sentences_end_at_stops_and_lines() -> None:
    assert cut("It is late. Go home!\n\nTea (at four.) Then?") == ["It is late.", "Go home!", "Tea (at four.)", "Then?"]


def test_a_wrapped_line_goes_on_and_a_row_or_an_item_stands_alone() -> None:
    assert cut("The gate is\nopen. It\nstays so\n\n| a | b |\n| c | d |\n- one\n- two\n1. three") == [
        "The gate is\nopen.",
        "It\nstays so",
        "| a | b |",
        "| c | d |",
        "- one",
        "- two",
        "1. three",
    ]


def test_a_row_without_bars_at_its_ends_stands_alone() -> None:
    assert cut("It is open\ndaily.\n\nPier | Fee\nK | no fee\nB.\nL 1.5 | 14\n\nThe\nend") == [
        "It is open\ndaily.",
        "Pier | Fee",
        "K | no fee\nB.",
        "L 1.5 | 14",
        "The\nend",
    ]


def test_numbers_names_and_abbreviations_do_not_end_a_sentence() -> None:
    assert cut("Use v0.32 of docs/api.md, e.g. today. It costs 1.50 USD.") == [
        "Use v0.32 of docs/api.md, e.g. today.",
        "It costs 1.50 USD.",
    ]


@given(TEXTS)
def test_spans_are_ordered_trimmed_and_lose_only_white_space(text: str) -> None:
    found = list(spans(text))
    at = 0
    for start, end in found:
        assert at <= start < end
        assert text[at:start].strip() == ""
        assert text[start:end] == text[start:end].strip()
        at = end
    assert text[at:].strip() == ""


@given(TEXTS, st.lists(st.integers(min_value=1, max_value=7)))
def test_a_stream_cut_anywhere_loses_and_repeats_nothing(text: str, sizes: list[int]) -> None:
    buffer, out, at = SentenceBuffer(), [], 0
    for size in sizes:
        out += buffer.add(text[at : at + size])
        at += size
    out += buffer.add(text[at:]) + buffer.rest()
    assert "".join(out).strip() == text.strip()


@given(st.text(alphabet="ab .!?\n3.e|-) |", max_size=80), st.lists(st.integers(min_value=1, max_value=7)))
def test_the_sentences_do_not_depend_on_how_a_stream_is_cut(text: str, sizes: list[int]) -> None:
    buffer, out, at = SentenceBuffer(), [], 0
    for size in sizes:
        out += buffer.add(text[at : at + size])
        at += size
    out += buffer.add(text[at:]) + buffer.rest()
    whole = SentenceBuffer()
    assert out == whole.add(text) + whole.rest()


def test_a_sentence_is_given_only_when_the_next_one_has_begun() -> None:
    buffer = SentenceBuffer()
    assert buffer.add("Port 80") == []
    assert buffer.add("80 is it.") == []
    assert buffer.add(" And") == ["Port 8080 is it."]
    assert buffer.rest() == [" And"]
