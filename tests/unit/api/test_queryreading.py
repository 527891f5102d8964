"""What a model wrote in place of a question: what is empty or absurd is never searched."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.answers.queryreading import read_json, read_passage, read_question, read_wordings
from api.answers.question import StepFailed

ASKED = "And what does it cost in winter?"
REWRITTEN = "What does the ferry to Port Ellen cost in winter?"


@pytest.mark.parametrize("said", [REWRITTEN, f"  {REWRITTEN}\n\n", f'"{REWRITTEN}"', REWRITTEN.replace(" ", "  ")])
def test_a_rewritten_question_is_taken(said: str) -> None:
    assert read_question(said, ASKED) == REWRITTEN


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "nothing"),
        (" \n ", "nothing"),
        ('"?"', "nothing"),
        (ASKED, "again"),
        ("and what does it  cost in WINTER", "again"),
        (f'"{ASKED}"', "again"),
        (f"Sure!\n{REWRITTEN}", "more than one line"),
        ("word " * 300, "more than 1,000"),
        ("What is\x00 it?", "control"),
        ("What is \ud800 it?", "broken Unicode"),
    ],
)
def test_one_that_is_absurd_is_not(said: str, why: str) -> None:
    with pytest.raises(StepFailed, match=why):
        read_question(said, ASKED)


def wordings(*texts: object, count: int = 3) -> tuple[str, ...]:
    return read_wordings(json.dumps({"queries": texts}), [ASKED], count)


def test_other_wordings_are_taken_once_each_and_no_more_than_were_asked_for() -> None:
    assert wordings("a b", "c", "d", "e") == ("a b", "c", "d")
    assert wordings("a", "A?", "b", ASKED.upper(), "", " ", 5, None, ["x"], "x" * 501) == ("a", "b")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("1. first\n2. second", "no JSON"),
        ('```json\n{"queries": ["a"]}\n```', "no JSON"),
        ('["a"]', "queries"),
        ('{"queries": "a"}', "queries"),
        ('{"queries": ["a"], "more": 1}', "queries"),
        ('{"queries": ["a"], "queries": ["b"]}', "no JSON"),
        ('{"queries": []}', "no other wording"),
        (json.dumps({"queries": [ASKED]}), "again"),
    ],
)
def test_what_holds_no_wording_is_none(said: str, why: str) -> None:
    with pytest.raises(StepFailed, match=why):
        read_wordings(said, [ASKED], 3)


@pytest.mark.parametrize(
    "said", ['{"a": 1, "a": 2}', '[{"a": {"b": 1, "b": 1}}]', "NaN", "[Infinity]", "[1] x", "", "9" * 5000, "[" * 8000]
)
def test_json_is_read_strictly(said: str) -> None:
    with pytest.raises(StepFailed, match="no JSON"):
        read_json(said)


def test_a_passage_may_be_long_and_have_lines_but_says_something() -> None:
    assert read_passage("In winter\nthe fare is  9 crowns.", [ASKED]) == "In winter the fare is 9 crowns."
    for absurd in ("", "x" * 3001, ASKED):
        with pytest.raises(StepFailed):
            read_passage(absurd, [REWRITTEN, ASKED])


@given(st.one_of(st.text(), st.text().map(lambda text: json.dumps({"queries": [text, text]}))))
def test_whatever_is_read_can_be_searched(said: str) -> None:
    reads = (
        lambda: read_question(said, ASKED),
        lambda: read_passage(said, [ASKED]),
        lambda: read_wordings(said, [ASKED], 2),
    )
    for read in reads:
        try:
            found = read()
        except StepFailed:
            continue
        for text in [found] if isinstance(found, str) else found:
            assert text == " ".join(text.split())
            assert 1 <= len(text) <= 3000
            assert text.encode()
