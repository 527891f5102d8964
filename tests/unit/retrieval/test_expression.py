"""Expressions: what compiles is escaped and in parentheses, what doesn't is refused."""

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from retrieval.errors import FilterInvalid
from retrieval.expression import build, of_revisions, parse_filter

STRING = re.compile(r'"(?:[^"\\\n\r\t]|\\["\\nrt])*"')
HOSTILE = st.text(alphabet='"\\\n\r\t)( or1=', max_size=20)
SCALARS = st.one_of(
    HOSTILE, st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)
)
COMPARISONS = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["eq", "ne"]), "key": HOSTILE.filter(bool), "value": SCALARS},
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["in", "nin"]),
            "key": HOSTILE.filter(bool),
            "value": st.lists(SCALARS, min_size=1, max_size=4),
        }
    ),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, min_size=1, max_size=3)}
    ),
    max_leaves=8,
)


def outside_strings(expression: str) -> str:
    """The expression with every string literal replaced: what is left is ours alone."""
    return STRING.sub("S", expression)


@given(FILTERS)
def test_a_users_words_stay_inside_string_literals_and_parentheses(raw: dict[str, Any]) -> None:
    try:
        parsed = parse_filter(raw)
    except FilterInvalid:
        assume(False)  # nested too deeply
    left = outside_strings(build('t"1', "c", ["*"], parsed))
    ours = "(tenant_id == S and collection_id == S) and (array_contains_any(acl, [S]) and ("
    assert left.startswith(ours)
    assert left.endswith("))")
    assert '"' not in left
    assert "\\" not in left
    depth = 0
    for position, char in enumerate(left[len(ours) - 1 : -1]):
        depth += (char == "(") - (char == ")")
        assert depth > 0 or position == len(left) - 1 - len(ours), left


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_anything_else_is_refused_with_a_message(raw: object) -> None:
    with pytest.raises(FilterInvalid, match="filter"):
        parse_filter(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "eq", "key": "a", "value": None},
        {"type": "eq", "key": "a", "value": [1]},
        {"type": "eq", "key": "", "value": 1},
        {"type": "eq", "key": "a\x00", "value": 1},
        {"type": "eq", "key": "a", "value": "\ud800"},
        {"type": "eq", "key": "a", "value": float("nan")},
        {"type": "eq", "key": "a", "value": 2**60},
        {"type": "gt", "key": "a", "value": True},
        {"type": "in", "key": "a", "value": []},
        {"type": "in", "key": "a", "value": "abc"},
        {"type": "in", "key": "a", "value": list(range(500))},
        {"type": "and", "filters": []},
        {"type": "not", "filters": []},
        {"type": "eq", "key": "a", "value": 1, "extra": 2},
        {"type": ["eq"], "key": "a", "value": 1},
    ],
)
def test_what_cannot_be_said_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(FilterInvalid):
        parse_filter(raw)


def test_no_filter_still_names_tenant_collection_and_reader() -> None:
    mandatory = 'tenant_id == "t" and collection_id == "c"'
    assert build("t", "c", ["*"], None) == f'({mandatory}) and (array_contains_any(acl, ["*"]))'
    assert build("t", "c", None, None) == mandatory
    theirs = '(array_contains_any(acl, ["*"]) and document_id not in ["d", "e"]) or document_id in ["e"]'
    assert build("t", "c", ["*"], None, ["d", "e"], ["e"]) == f"({mandatory}) and ({theirs})"


def test_an_expression_over_no_revisions_is_never_built() -> None:
    with pytest.raises(ValueError, match="all rows"):
        of_revisions("col_1", [])
