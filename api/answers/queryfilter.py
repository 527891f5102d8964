"""A filter that a model read from a question: it holds against what the caller's own documents carry, or is none.

A model's word is never trusted here. What it wrote must be a filter of `retrieval.expression`, name only keys that
documents carry which this caller may read, with values of a kind that the key has there; and it only ever narrows what
the caller asked for.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from api.answers.queryreading import read_json
from api.answers.question import StepFailed
from retrieval.errors import FilterInvalid
from retrieval.expression import Comparison, Compound, Filter, parse_filter
from retrieval.metadata_fields import FieldSummary, kind_of

_MOST_SHOWN = 60  # characters of a key in an error


def read_filter(said: str, fields: Mapping[str, FieldSummary]) -> dict[str, Any] | None:
    """The filter as JSON; None: the model says that the question names none.

    Raises: StepFailed: it wrote anything else.
    """
    found = read_json(said)
    if not isinstance(found, dict) or found.keys() != {"filter"}:
        raise StepFailed('the model wrote no JSON object {"filter": ...}')
    raw: dict[str, Any] | None = found["filter"]
    if raw is None:
        return None
    for comparison in _comparisons(_parsed(raw)):
        _check(comparison, fields)
    return raw


def both(own: dict[str, Any] | None, read: dict[str, Any] | None) -> dict[str, Any] | None:
    """The caller's own filter AND the one that was read.

    Raises: StepFailed: together they are larger than a filter may be.
    """
    if own is None or read is None:
        return own if read is None else read
    # A list of the caller's own is gone on with: another level could be one too many.
    parts = own["filters"] if own.get("type") == "and" else [own]
    joined = {"type": "and", "filters": [*parts, read]}
    _parsed(joined)
    return joined


def _parsed(raw: object) -> Filter:
    try:
        return parse_filter(raw)
    except FilterInvalid as error:
        raise StepFailed(f"what the model wrote is no filter: {error}") from error


def _comparisons(node: Filter) -> Iterator[Comparison]:
    if isinstance(node, Compound):
        for part in node.filters:
            yield from _comparisons(part)
    else:
        yield node


def _check(comparison: Comparison, fields: Mapping[str, FieldSummary]) -> None:
    """Raises: StepFailed, in the same words whether nobody's documents carry the key or only those of others."""
    shown = ascii(comparison.key[:_MOST_SHOWN])
    field = fields.get(comparison.key)
    if field is None:
        raise StepFailed(f"it names {shown}, which no document carries that you may read")
    values = comparison.value if isinstance(comparison.value, tuple) else (comparison.value,)
    for value in values:
        if kind_of(value) not in field.kinds:
            raise StepFailed(f"it compares {shown}, which is {' or '.join(sorted(field.kinds))}, with {kind_of(value)}")
