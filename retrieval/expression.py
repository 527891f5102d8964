"""The one place where Milvus expressions are built: tenant, collection and reader first, AND the user's filter.

A filter is OpenAI's typed tree: {"type": "eq|ne|gt|gte|lt|lte|in|nin", "key", "value"} and
{"type": "and|or", "filters": [...]}. It compiles to escaped literals or not at all: what can't be said raises
FilterInvalid and never widens a search. A comparison with a key that a document doesn't carry is false, `ne` and
`nin` included. Text never equals a number; against numbers, Milvus Lite takes true and false for 1 and 0.
"""

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval.errors import FilterInvalid

METADATA_FIELD = "metadata"

_COMPARISONS = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_LISTS = ("in", "nin")
_COMPOUNDS = ("and", "or")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_MAX_DEPTH = 8
_MAX_COMPARISONS = 200
_MAX_STRING = 2000
_MAX_INTEGER = 2**53  # beyond it a JSON number is no longer exact

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """One key against one value, or a list of them for `in` and `nin`."""

    type: str
    key: str
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Compound:
    """Filters that must all hold (`and`) or of which one must (`or`)."""

    type: str
    filters: tuple["Filter", ...]


Filter = Comparison | Compound


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows that one search may find; what each part means, `build` says."""

    tenant_id: str
    collection_id: str
    readers: Sequence[str] | None = None
    filter: Filter | None = None
    stale: Collection[str] = ()
    chosen: Collection[str] = ()

    @property
    def expression(self) -> str:
        """For Milvus."""
        return build(self.tenant_id, self.collection_id, self.readers, self.filter, self.stale, self.chosen)


def build(
    tenant_id: str,
    collection_id: str,
    readers: Sequence[str] | None,
    user_filter: Filter | None,
    stale: Collection[str] = (),
    chosen: Collection[str] = (),
) -> str:
    """Build the expression of one search.

    Args:
        readers: entries of the ACL field that the caller may read by; None: the caller reads everything in the tenant.
        stale: documents whose rows hold an older list of readers, or older metadata: their rows decide nothing.
        chosen: those of them that the caller may read and the filter holds for.
    """
    mandatory = f"tenant_id == {_literal(tenant_id)} and collection_id == {_literal(collection_id)}"
    clauses = []
    if readers is not None:
        clauses.append(f"array_contains_any(acl, [{_list(readers)}])")
    if user_filter is not None:
        clauses.append(f"({_compile(user_filter)})")
    if not clauses:
        return mandatory
    if stale:
        clauses.append(f"document_id not in [{_list(stale)}]")
    theirs = " and ".join(clauses)
    if chosen:
        theirs = f"({theirs}) or document_id in [{_list(chosen)}]"
    # `and` binds tighter than `or`: without these parentheses a user's `or` would open other tenants' rows.
    return f"({mandatory}) and ({theirs})"


def holds(node: Filter, metadata: Mapping[str, Any]) -> bool:
    """Whether a document's metadata fulfils a filter, as the expression says it of a row."""
    if isinstance(node, Compound):
        return (all if node.type == "and" else any)(holds(part, metadata) for part in node.filters)
    if node.key not in metadata:
        return False
    found = metadata[node.key]
    values = node.value if isinstance(node.value, tuple) else (node.value,)
    equal = any(isinstance(found, str) == isinstance(value, str) and found == value for value in values)
    match node.type:
        case "eq" | "in":
            return equal
        case "ne" | "nin":
            return not equal
    return isinstance(found, str) == isinstance(values[0], str) and _ORDERS[node.type](found, values[0])


def of_collections(collection_ids: Sequence[str]) -> str:
    """The expression for all rows of these collections; at least one."""
    if not collection_ids:
        raise ValueError("an expression over no collections would be empty, and an empty one means all rows")
    return f"collection_id in [{_list(collection_ids)}]"


def of_revisions(collection_id: str, revision_ids: Sequence[str]) -> str:
    """The expression for all rows of these revisions of a collection; at least one."""
    if not revision_ids:
        raise ValueError("an expression over no revisions would be empty, and an empty one means all rows")
    return f"collection_id == {_literal(collection_id)} and revision_id in [{_list(revision_ids)}]"


def of_strangers(collection_id: str, revision_ids: Sequence[str], above: str, up_to: str | None) -> str:
    """The expression for all rows of a collection that are of other revisions than these, in a stretch of ids.

    Args:
        above: ids that sort behind this one; empty: from the first.
        up_to: ids that do not sort behind this one; None: to the last.
    """
    clauses = [f"collection_id == {_literal(collection_id)}", f"revision_id > {_literal(above)}"]
    if up_to is not None:
        clauses.append(f"revision_id <= {_literal(up_to)}")
    if revision_ids:
        clauses.append(f"revision_id not in [{_list(revision_ids)}]")
    return " and ".join(clauses)


def parse_filter(raw: object) -> Filter:
    """Read a filter as it came in JSON.

    Raises: FilterInvalid: it isn't one; the message says where, and what would be.
    """
    budget = [_MAX_COMPARISONS]
    return _parse(raw, "filter", 1, budget)


def _parse(raw: object, where: str, depth: int, budget: list[int]) -> Filter:
    if depth > _MAX_DEPTH:
        raise FilterInvalid(f"{where}: filters nest at most {_MAX_DEPTH} deep; flatten it.")
    if not isinstance(raw, dict):
        raise FilterInvalid(f'{where} must be an object such as {{"type": "eq", "key": "year", "value": 2024}}.')
    kind = raw.get("type")
    if not isinstance(kind, str):
        kind = ""
    if kind in _COMPOUNDS:
        _only(raw, {"type", "filters"}, where)
        parts = raw.get("filters")
        if not isinstance(parts, list) or not parts:
            raise FilterInvalid(f"{where}.filters must be a list of at least one filter.")
        return Compound(
            kind,
            tuple(_parse(part, f"{where}.filters[{number}]", depth + 1, budget) for number, part in enumerate(parts)),
        )
    if kind not in _COMPARISONS and kind not in _LISTS:
        known = ", ".join((*_COMPARISONS, *_LISTS, *_COMPOUNDS))
        raise FilterInvalid(f"{where}.type must be one of {known}.")
    _only(raw, {"type", "key", "value"}, where)
    return Comparison(kind, _key(raw.get("key"), where), _value(kind, raw.get("value"), where, budget))


def _only(raw: dict[Any, Any], known: set[str], where: str) -> None:
    unknown = sorted(ascii(name) for name in raw if name not in known)
    if unknown:
        raise FilterInvalid(
            f"{where} has unknown fields ({', '.join(unknown)[:200]}); it takes {', '.join(sorted(known))}."
        )


def _key(raw: object, where: str) -> str:
    if not isinstance(raw, str) or not raw or len(raw) > 200:
        raise FilterInvalid(f"{where}.key must be the name of a metadata field, 1 to 200 characters.")
    _check_text(raw, f"{where}.key")
    return raw


def _value(kind: str, raw: object, where: str, budget: list[int]) -> Scalar | tuple[Scalar, ...]:
    where = f"{where}.value"
    values = raw if kind in _LISTS else [raw]
    if not isinstance(values, list) or not values:
        raise FilterInvalid(f"{where} must be a list of at least one value for {kind!r}.")
    budget[0] -= len(values)
    if budget[0] < 0:
        raise FilterInvalid(f"A filter holds at most {_MAX_COMPARISONS} comparisons, each value of a list counted.")
    checked = tuple(_scalar(kind, value, where) for value in values)
    return checked if kind in _LISTS else checked[0]


def _scalar(kind: str, value: object, where: str) -> Scalar:
    if isinstance(value, bool):
        if kind in ("gt", "gte", "lt", "lte"):
            raise FilterInvalid(f"{where}: true and false have no order; use eq or ne.")
        return value
    if isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise FilterInvalid(f"{where}: whole numbers go up to 2^53; store longer ones as text.")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise FilterInvalid(f"{where} must be a finite number.")
        return value
    if isinstance(value, str):
        if len(value) > _MAX_STRING:
            raise FilterInvalid(f"{where}: text goes up to {_MAX_STRING} characters.")
        _check_text(value, where)
        return value
    raise FilterInvalid(f"{where} must be text, a number, true or false.")


def _check_text(text: str, where: str) -> None:
    if any(
        (ord(char) < 32 and char not in "\n\r\t") or ord(char) == 127 or 0xD800 <= ord(char) < 0xE000 for char in text
    ):
        raise FilterInvalid(f"{where} holds control characters or broken Unicode, which no metadata can hold.")


def _compile(node: Filter) -> str:
    if isinstance(node, Compound):
        return f" {node.type} ".join(f"({_compile(part)})" for part in node.filters)
    field = f"{METADATA_FIELD}[{_literal(node.key)}]"
    if isinstance(node.value, tuple):
        # Milvus Lite takes no JSON path on the left of `in`.
        comparison, joint = ("==", " or ") if node.type == "in" else ("!=", " and ")
        return joint.join(f"({field} {comparison} {_literal(value)})" for value in node.value)
    return f"{field} {_COMPARISONS[node.type]} {_literal(node.value)}"


def _list(values: Iterable[str]) -> str:
    return ", ".join(map(_literal, values))


def _literal(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    return repr(value)
