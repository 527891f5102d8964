"""A filter that a model wrote: what anybody's documents do not carry, or a filter may not say, is never searched by."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.answers.queryfilter import both, read_filter
from api.answers.queryreading import MOST_SAID
from api.answers.question import StepFailed
from retrieval.expression import Comparison, Filter, holds, parse_filter
from retrieval.metadata_fields import FieldSummary, kind_of

FIELDS = {
    "year": FieldSummary(frozenset({"number"}), 3, (2023, 2024)),
    "lang": FieldSummary(frozenset({"text"}), 3, ("en",)),
    "draft": FieldSummary(frozenset({"boolean"}), 1, (True,)),
    "mixed": FieldSummary(frozenset({"text", "number"}), 2, ("5", 5)),
}
YEAR = {"type": "gte", "key": "year", "value": 2024}

KEYS = st.sampled_from([*FIELDS, "salary", "tenant_id", "", "year "])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(-9, 9), st.text(max_size=3), st.booleans()), max_size=3),
)
COMPARISONS = st.fixed_dictionaries(
    {"type": st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "like"]), "key": KEYS, "value": VALUES}
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or", "not"]), "filters": st.lists(inner, max_size=3)}
    ),
    max_leaves=6,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["filter", "type", "x"]), inner),
)
SAID = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    JSON.map(json.dumps),
    st.one_of(FILTERS, JSON).map(lambda found: json.dumps({"filter": found})),
    FILTERS.map(lambda found: f"```json\n{json.dumps({'filter': found})}\n```"),
)


def comparisons(node: Filter) -> list[Comparison]:
    if isinstance(node, Comparison):
        return [node]
    return [one for part in node.filters for one in comparisons(part)]


@given(SAID)
@example('{"filter": {"type": "eq", "key": "year", "value": 2024}, "filter": null}')
@example('{"filter": null}')
@example('{"filter": {"type": "eq", "key": "lang", "value": "\\ud800"}}')
@example('{"filter": {"type": "eq", "key": "year", "value": 1e999}}')
@example('{"filter": {"type": "eq", "key": "year", "value": NaN}}')
@example(f'{{"filter": {{"type": "eq", "key": "year", "value": {"9" * 5000}}}}}')
@example("[" * MOST_SAID)
@example('{"filter": ' * 700)
def test_whatever_a_model_writes_is_a_filter_on_known_keys_or_refused(said: str) -> None:
    try:
        read = read_filter(said, FIELDS)
    except StepFailed:
        return
    if read is None:
        assert json.loads(said) == {"filter": None}
        return
    for comparison in comparisons(parse_filter(read)):
        assert comparison.key in FIELDS
        values = comparison.value if isinstance(comparison.value, tuple) else (comparison.value,)
        assert all(kind_of(value) in FIELDS[comparison.key].kinds for value in values)


@pytest.mark.parametrize(
    "read",
    [
        YEAR,
        {"type": "in", "key": "lang", "value": ["en", "de"]},
        {"type": "eq", "key": "draft", "value": True},
        {"type": "eq", "key": "mixed", "value": "5"},
        {"type": "eq", "key": "mixed", "value": 5},
        {"type": "or", "filters": [YEAR, {"type": "eq", "key": "lang", "value": "en"}]},
    ],
)
def test_a_filter_on_what_documents_carry_is_taken_as_it_is(read: dict[str, Any]) -> None:
    assert read_filter(f" {json.dumps({'filter': read})}\n", FIELDS) == read


@pytest.mark.parametrize(
    ("read", "why"),
    [
        ({"type": "eq", "key": "salary", "value": 1}, "no document carries"),
        ({"type": "and", "filters": [YEAR, {"type": "eq", "key": "salary", "value": 1}]}, "no document carries"),
        ({"type": "eq", "key": "year", "value": "2024"}, "which is number, with text"),
        ({"type": "eq", "key": "year", "value": True}, "which is number, with boolean"),
        ({"type": "in", "key": "lang", "value": ["en", 5]}, "which is text, with number"),
        ({"type": "eq", "key": "draft", "value": 1}, "which is boolean, with number"),
        ({"type": "eq", "key": "mixed", "value": False}, "which is number or text, with boolean"),
        ({"type": "like", "key": "lang", "value": "e%"}, "is no filter"),
        ({}, "is no filter"),
        ([], "is no filter"),
        (False, "is no filter"),
        ("", "is no filter"),
    ],
)
def test_anything_else_is_refused_with_its_reason(read: object, why: str) -> None:
    with pytest.raises(StepFailed, match=why):
        read_filter(json.dumps({"filter": read}), FIELDS)


@pytest.mark.parametrize("said", ["", "null", "{}", '{"filter": null, "x": 1}', '{"filters": null}', "no filter"])
def test_only_the_word_null_in_its_place_says_that_there_is_none(said: str) -> None:
    with pytest.raises(StepFailed):
        read_filter(said, FIELDS)


GOOD = st.recursive(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["eq", "ne", "gt", "lte"]),
            "key": st.sampled_from(["a", "b"]),
            "value": st.integers(0, 2),
        }
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, min_size=1, max_size=3)}
    ),
    max_leaves=5,
)
DOCUMENTS = [{"a": a, "b": b} for a in range(3) for b in range(3)]


@given(GOOD, GOOD)
@example(YEAR | {"key": "a", "value": 1}, YEAR | {"key": "b", "value": 1})
@example(
    {"type": "or", "filters": [YEAR | {"key": "a", "value": 2}, YEAR | {"key": "b", "value": 2}]},
    YEAR | {"key": "a", "value": 0},
)
def test_what_was_read_only_narrows_the_callers_own_filter(own: dict[str, Any], read: dict[str, Any]) -> None:
    mine, theirs = parse_filter(own), parse_filter(read)
    joined = parse_filter(both(own, read))
    for metadata in DOCUMENTS:
        assert holds(joined, metadata) == (holds(mine, metadata) and holds(theirs, metadata))


def test_without_one_of_them_the_other_stands() -> None:
    assert both(None, None) is None
    assert both(YEAR, None) == YEAR
    assert both(None, YEAR) == YEAR


def nested(depth: int, kind: str) -> dict[str, Any]:
    return YEAR if depth == 1 else {"type": kind, "filters": [nested(depth - 1, kind)]}


def test_a_caller_whose_filter_leaves_no_room_is_told_so() -> None:
    assert both(nested(8, "and"), YEAR) is not None, "a list of the caller's own is gone on with"
    with pytest.raises(StepFailed, match="nest at most 8 deep"):
        both(nested(8, "or"), YEAR)
    many = {"type": "in", "key": "year", "value": list(range(200))}
    with pytest.raises(StepFailed, match="at most 200"):
        both(many, YEAR)
