"""What two prompts share, and which worker would send a conversation where."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.reach import ANYWHERE
from router.call import Call, Operation
from router.trail import BLOCK_BYTES, rank_of, trail_of


def call(*said: str, kind: Operation = "chat.completions", **fields: Any) -> Call:
    messages = [{"role": "user" if at % 2 == 0 else "assistant", "content": text} for at, text in enumerate(said)]
    return Call(
        kind, "g", {"messages": messages, **fields}, stream=True, reach=ANYWHERE, request_id="req_1", tenant="t"
    )


def shared(one: Call, other: Call) -> int:
    """Blocks from the beginning that two prompts share."""
    count = 0
    for mine, theirs in zip(trail_of(one).blocks, trail_of(other).blocks, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def test_a_longer_conversation_shares_all_of_a_shorter_one() -> None:
    first = "a" * 3 * BLOCK_BYTES
    one, other = call(first), call(first, "b" * 500, "c" * 500)
    assert shared(one, other) == len(trail_of(one).blocks) == 3
    assert shared(one, call("b" + first[1:], "b" * 500)) == 0
    assert trail_of(call("short")).blocks == ()


@pytest.mark.parametrize(
    "other",
    [
        {"model": "adapter"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"system": "You are a pirate."},
    ],
)
def test_what_stands_before_a_prompt_is_part_of_it(other: dict[str, Any]) -> None:
    text = "a" * 3 * BLOCK_BYTES
    assert shared(call(text), call(text, **other)) == 0
    assert shared(call(text, **other), call(text, **other)) >= 3
    assert shared(call(text), replace(call(text), group="h")) == 0


@given(st.lists(st.text(max_size=600), min_size=1, max_size=5), st.lists(st.text(max_size=600), max_size=3))
def test_what_is_added_behind_changes_no_block(said: list[str], more: list[str]) -> None:
    short, long = trail_of(call(*said)).blocks, trail_of(call(*said, *more)).blocks
    assert long[: len(short)] == short


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a" * 5000},
        {"prompt": list(range(2000))},
        {"prompt": ["a" * 5000, "b"]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a" * 5000}]}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "a" * 5000}]}]},
        {"messages": [{"role": "user", "content": "\ud800" + "a" * 5000}]},
        {"messages": [{"role": "user", "content": "a" * 10**7}]},
    ],
)
def test_every_form_of_a_prompt_has_a_trail_of_bounded_length(body: dict[str, Any]) -> None:
    found = trail_of(Call("completions", "g", body, stream=False, reach=ANYWHERE, request_id="req_1", tenant="t"))
    assert 10 <= len(found.blocks) <= 256


@pytest.mark.parametrize("body", [{}, {"messages": [7, None]}, {"messages": 7}, {"prompt": 7}, {"prompt": []}])
def test_what_is_no_prompt_has_none(body: dict[str, Any]) -> None:
    assert (
        trail_of(Call("completions", "g", body, stream=False, reach=ANYWHERE, request_id="req_1", tenant="t")).blocks
        == ()
    )


def test_under_two_salts_nothing_is_shared_and_a_conversation_has_two_places() -> None:
    asked = call("a" * 3 * BLOCK_BYTES, prompt_cache_key="k")
    one, again, other, none = (trail_of(asked, salt) for salt in ("one", "one", "other", ""))
    assert one == again
    assert len({*one.blocks, *other.blocks, *none.blocks}) == 9
    assert len({one.key, other.key, none.key}) == 3


def test_a_conversation_has_one_place_for_all_workers_and_a_named_one_its_own() -> None:
    first, later = trail_of(call("Who?" * 600)), trail_of(call("Who?" * 600, "I.", "Why?"))
    assert first.key == later.key
    assert trail_of(call("a", prompt_cache_key="k")).key == trail_of(call("b", prompt_cache_key="k")).key
    names = [f"d{at}" for at in range(4)]
    chosen = [max(names, key=lambda name: rank_of(f"{at}".encode(), name)) for at in range(400)]
    assert all(70 <= chosen.count(name) <= 130 for name in names)
