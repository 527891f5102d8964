"""What of a conversation a model is shown again."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.conversations.history import history, size_of

Item = dict[str, Any]

CALL_IDS = ("a", "b", "c")


def said(role: str, text: str = "words") -> Item:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def called(name: str) -> Item:
    return {"type": "function_call", "call_id": name, "name": "f", "arguments": "{}"}


def gave(name: str) -> Item:
    return {"type": "function_call_output", "call_id": name, "output": "1"}


ITEMS = st.one_of(
    st.sampled_from(["user", "assistant", "system"]).flatmap(
        lambda role: st.text(max_size=30).map(lambda text: said(role, text))
    ),
    st.sampled_from(CALL_IDS).map(called),
    st.sampled_from(CALL_IDS).map(gave),
)
TALK = st.lists(ITEMS, max_size=20)


def answered_by(items: Sequence[Item]) -> list[tuple[int, int]]:
    """Each output with the call that it answers: the latest before it of that name."""
    found = []
    for at, item in enumerate(items):
        if item["type"] == "function_call_output":
            calls = [
                place
                for place, other in enumerate(items[:at])
                if other["type"] == "function_call" and other["call_id"] == item["call_id"]
            ]
            found += [(calls[-1], at)] if calls else []
    return found


@given(TALK, TALK, st.integers(min_value=0, max_value=2000))
def test_what_is_kept_is_the_end_of_what_was_said(earlier: list[Item], asked: list[Item], budget: int) -> None:
    kept = history(earlier, budget, asked=asked)
    assert kept == earlier[len(earlier) - len(kept) :]


@given(TALK, TALK, st.integers(min_value=0, max_value=2000))
def test_no_call_is_parted_from_what_it_gave(earlier: list[Item], asked: list[Item], budget: int) -> None:
    begin = len(earlier) - len(history(earlier, budget, asked=asked))
    for call, output in answered_by([*earlier, *asked]):
        assert not call < begin <= output, "the call is left out, and what it gave is not"


@given(TALK, TALK, st.integers(min_value=0, max_value=2000))
def test_it_fits_unless_what_is_asked_now_needs_it(earlier: list[Item], asked: list[Item], budget: int) -> None:
    kept = history(earlier, budget, asked=asked)
    needed = history(earlier, 0, asked=asked)
    assert len(kept) >= len(needed)
    if len(kept) > len(needed):
        assert sum(map(size_of, [*kept, *asked])) <= budget


@given(TALK, TALK, st.integers(min_value=0, max_value=2000))
def test_it_begins_where_a_turn_begins(earlier: list[Item], asked: list[Item], budget: int) -> None:
    begin = len(earlier) - len(history(earlier, budget, asked=asked))
    if 0 < begin < len(earlier):
        before, first = earlier[begin - 1], earlier[begin]
        assert first["type"] == "message"
        assert first["role"] != "assistant"
        assert before["type"] != "message" or before["role"] == "assistant"


@given(TALK, TALK, st.integers(min_value=0, max_value=2000), st.integers(min_value=0, max_value=500))
def test_a_larger_budget_keeps_no_less(earlier: list[Item], asked: list[Item], budget: int, more: int) -> None:
    assert len(history(earlier, budget + more, asked=asked)) >= len(history(earlier, budget, asked=asked))


@given(TALK, TALK)
def test_with_room_for_all_all_is_kept(earlier: list[Item], asked: list[Item]) -> None:
    assert history(earlier, sum(map(size_of, [*earlier, *asked])), asked=asked) == earlier


def test_the_oldest_turns_are_left_out_first() -> None:
    talk = [said("user", "one"), said("assistant"), said("user", "two"), said("assistant"), said("user", "three")]
    assert history(talk, 4, size=lambda _: 1) == talk[2:]
    assert history(talk, 2, size=lambda _: 1) == talk[4:]
    assert history(talk, 0, size=lambda _: 1) == []


def test_the_call_that_is_being_answered_stays_even_where_it_does_not_fit() -> None:
    talk = [said("user", "old"), said("assistant"), said("user"), called("a")]
    assert history(talk, 0, asked=[gave("a")]) == talk[2:]
    assert history(talk, 0, asked=[gave("b")]) == []


def test_many_items_are_looked_through_in_time_in_proportion_to_them() -> None:
    talk = [said("user"), called("a"), gave("a"), said("assistant")] * 5000
    assert len(history(talk, 10**9)) == len(talk)
