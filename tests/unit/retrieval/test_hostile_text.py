"""Texts made to take long are cut as fast as any: a quadratic step would take minutes, so the bounds are generous."""

import time

import pytest

from api.answers.sentences import spans
from retrieval.chunking import Limits, chunk
from retrieval.errors import InputInvalid
from retrieval.media import JSON, detect
from retrieval.parsers.parsed import Parsed
from retrieval.values import check_filename

_LIMIT_S = 8.0


@pytest.mark.parametrize(
    "text",
    [
        "# " * 200_000 + "x",
        "# " + "word " * 80_000,
        "." * 400_000,
        "A. " * 130_000,
        '."' * 160_000 + "x",
        "\n\t" * 160_000,
    ],
    ids=["hashes", "long heading", "stops", "initials", "closing quotes", "tabs"],
)
def test_cutting_takes_time_in_proportion_to_length(text: str) -> None:
    started_s = time.monotonic()
    chunk(Parsed(text=text, title="", pages=(), structured=True), Limits())
    list(spans(text))
    assert time.monotonic() - started_s < _LIMIT_S


def test_a_heading_does_not_fill_what_stands_below_it() -> None:
    parsed = Parsed(text="# " + "word " * 5000 + "\n\nBelow it.", title="", pages=(), structured=True)
    assert max(len(each.context) for each in chunk(parsed, Limits(), "title " * 100)) <= 300


def test_a_name_is_measured_before_it_is_normalised() -> None:
    started_s = time.monotonic()
    with pytest.raises(InputInvalid):
        check_filename("a" + "\u0315\u0300" * 200_000)
    assert time.monotonic() - started_s < _LIMIT_S


def test_what_a_file_is_is_told_fast_also_where_nothing_but_white_space_follows_a_bracket() -> None:
    began_s = time.monotonic()
    for _ in range(100):  # files of one request, in the gateway's loop
        detect("notes", None, b"[" + b" " * 8191)
    assert time.monotonic() - began_s < _LIMIT_S
    assert detect("notes", None, b' [ [ "a" , 1] ]') == JSON
