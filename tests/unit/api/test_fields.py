"""Which fields pass, which are dropped, which are refused."""

import pytest

from api.errors import RequestInvalid
from api.fields import (
    CHAT_FIELDS,
    DANGEROUS_FIELDS,
    MAX_N,
    OWN_FIELDS,
    completion_bound,
    completions_of,
    model_of,
    own_fields,
    read_json_object,
    sort_fields,
)


def test_known_fields_pass_unchanged_and_others_are_named() -> None:
    body = {"model": "m", "temperature": 0.5, "zebra": 1, "alpha": 2}
    assert sort_fields(body, CHAT_FIELDS) == ({"model": "m", "temperature": 0.5}, ["alpha", "zebra"])


@pytest.mark.parametrize("name", sorted(DANGEROUS_FIELDS))
def test_a_dangerous_field_is_refused_even_when_it_is_empty(name: str) -> None:
    with pytest.raises(RequestInvalid, match=name):
        sort_fields({"model": "m", name: None}, CHAT_FIELDS)


def test_no_dangerous_field_is_listed() -> None:
    assert not CHAT_FIELDS & DANGEROUS_FIELDS


@pytest.mark.parametrize("n", [0, -1, MAX_N + 1, "2", 1.5, [1]])
def test_n_out_of_range_is_refused(n: object) -> None:
    with pytest.raises(RequestInvalid, match="whole number from 1 to 8"):
        sort_fields({"n": n}, CHAT_FIELDS)


def test_a_field_of_our_own_is_refused_by_name_where_it_would_change_nothing() -> None:
    body = {"model": "m", "retrieval": {"collection": "demo"}, "conversation_id": None}
    assert own_fields(body, OWN_FIELDS, "/v1/chat/completions") == {"retrieval": {"collection": "demo"}}
    with pytest.raises(RequestInvalid, match="/v1/completions takes no retrieval; POST /v1/chat/completions does"):
        own_fields(body, frozenset(), "/v1/completions")
    assert not OWN_FIELDS & CHAT_FIELDS, "no upstream is sent one"


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff", b'{"a":NaN}'])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(RequestInvalid):
        read_json_object(body)


@pytest.mark.parametrize("model", [None, "", 7, ["m"]])
def test_a_request_names_its_model(model: object) -> None:
    with pytest.raises(RequestInvalid, match="model is missing"):
        model_of({"model": model})


def test_the_completion_bound_counts_every_choice_and_is_a_whole_number() -> None:
    assert completion_bound({}) is None
    assert completion_bound({"max_tokens": 7}) == 7
    assert completion_bound({"max_tokens": 7, "max_completion_tokens": 9, "n": 3}) == 27
    assert completion_bound({"max_tokens": 7, "n": 2, "best_of": 5}) == 35
    for wrong in ({"max_tokens": 0}, {"max_tokens": True}, {"max_completion_tokens": "7"}, {"max_tokens": 1.5}):
        with pytest.raises(RequestInvalid, match="whole number from 1"):
            completion_bound(wrong)
    with pytest.raises(RequestInvalid, match="best_of"):
        completion_bound({"max_tokens": 7, "best_of": MAX_N + 1})


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("one", 1), (["one"], 1), (["one", "two"], 2), ([1, 2, 3], 1), ([[1, 2], [3], [4]], 3), ([], 1), (None, 1)],
)
def test_every_prompt_of_a_request_is_completed_and_counts(prompt: object, prompts: int) -> None:
    """A list of prompts could spend a budget many times over."""
    assert completions_of({"prompt": prompt, "n": 2}) == 2 * prompts
    assert completion_bound({"prompt": prompt, "max_tokens": 7, "best_of": 3}) == 21 * prompts
