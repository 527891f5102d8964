"""Which of many rows an expression is true of, each part of it evaluated once for all rows, or once for each value.

Milvus Lite goes row by row as soon as an expression asks for a list or for a key of metadata. Here such a part is asked
of each value that there is, by Milvus Lite's own evaluation, so that both agree. Truth has three values, as in SQL.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from milvus_lite.search.filter import ast
from milvus_lite.search.filter.eval.arrow_backend import _eval as evaluate_columns
from milvus_lite.search.filter.eval.python_backend import _eval_row as evaluate_one
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_LITERALS = (ast.IntLit, ast.FloatLit, ast.StringLit, ast.BoolLit, ast.ListLit)
_VALUE = "value"  # what stands for the list or key while a part is asked of each of its values


class Unsupported(Exception):
    """An expression that only Milvus Lite itself can evaluate."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Of each row, whether something holds; unknown, None: of none."""

    true: Mask
    unknown: Mask | None = None


@dataclass(frozen=True, slots=True)
class Values:
    """The different values that rows have, and which of them each row has."""

    values: list[Any]
    of_row: NDArray[np.int64]


Column = Callable[[str], pa.ChunkedArray]


def parts(node: Any) -> Iterator[Any]:
    """The comparisons that an expression joins.

    Raises: Unsupported
    """
    if isinstance(node, ast.And | ast.Or):
        for each in node.operands:
            yield from parts(each)
    elif isinstance(node, ast.Not):
        yield from parts(node.operand)
    elif isinstance(node, ast.CmpOp | ast.InOp | ast.ArrayContainsOp):
        yield node
    else:
        raise Unsupported(type(node).__name__)


def joined(node: Any, truth: Callable[[Any], Truth]) -> Truth:
    """What an expression says, of what each of its `parts` says."""
    if isinstance(node, ast.Not):
        one = joined(node.operand, truth)
        return Truth(~one.true if one.unknown is None else ~(one.true | one.unknown), one.unknown)
    if not isinstance(node, ast.And | ast.Or):
        return truth(node)
    each = [joined(operand, truth) for operand in node.operands]
    unknowns = [one.unknown for one in each if one.unknown is not None]
    if isinstance(node, ast.Or):
        true = np.logical_or.reduce([one.true for one in each])
        return Truth(true, np.logical_or.reduce(unknowns) & ~true if unknowns else None)
    true = np.logical_and.reduce([one.true for one in each])
    if not unknowns:
        return Truth(true)
    may_be = np.logical_and.reduce([one.true if one.unknown is None else one.true | one.unknown for one in each])
    return Truth(true, may_be & ~true)


def looked_up(part: Any) -> Any:
    """The list or the key of metadata that a part asks for; None: it asks for plain columns.

    Raises: Unsupported: it asks for several.
    """
    sources = list(_sources(part))
    paths = [each for each in sources if isinstance(each, ast.PathAccess)]
    if not all(isinstance(path.base, ast.FieldRef) for path in paths):
        raise Unsupported("a path into something else than a field")
    if isinstance(part, ast.ArrayContainsOp) and len(sources) == 1 and part.value == sources[0]:
        return sources[0]
    if not paths:
        if isinstance(part, ast.ArrayContainsOp):
            raise Unsupported("a list that is no field")
        return None
    if len(sources) > 1 or not isinstance(part, ast.CmpOp):
        raise Unsupported("several fields in one comparison")
    return paths[0]


def name_of(source: Any) -> Any:
    """What a list or a key of metadata is called, wherever in an expression it stands."""
    return source.name if isinstance(source, ast.FieldRef) else (name_of(source.base), *source.path)


def of_columns(part: Any, column: Column, count: int) -> Truth:
    """What a part that asks for plain columns says."""
    names = sorted({each.name for each in _sources(part)})
    if not names:
        raise Unsupported("no field")
    answer = evaluate_columns(part, pa.table({name: column(name) for name in names}))
    if isinstance(answer, pa.Scalar):
        raise Unsupported("a constant")
    if isinstance(answer, pa.ChunkedArray):
        answer = answer.combine_chunks() if answer.num_chunks else pa.array([], pa.bool_())
    true = pc.fill_null(answer, False).to_numpy(zero_copy_only=False)
    unknown = answer.is_null().to_numpy(zero_copy_only=False)
    if len(true) != count:
        raise Unsupported("not one answer for each row")
    return Truth(true, unknown if unknown.any() else None)


def of_values(part: Any, source: Any, found: Values) -> Truth:
    """What a part that asks for a list, or for a key of metadata, says."""
    asked = _with(part, source)
    answers = [evaluate_one(asked, {_VALUE: value}) for value in found.values]
    true = np.fromiter((answer is True for answer in answers), np.bool_, len(answers))
    unknown = np.fromiter((answer is None for answer in answers), np.bool_, len(answers))
    return Truth(true[found.of_row], unknown[found.of_row] if unknown.any() else None)


def values(source: Any, column: Column) -> Values:
    """The different values of a list, or of a key of metadata.

    Raises: Unsupported
    """
    if isinstance(source, ast.FieldRef):
        return _different(column(source.name).to_pylist())
    texts = column(source.base.name)
    if not pa.types.is_string(texts.type):
        raise Unsupported("a path into something else than JSON")
    encoded = texts.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False).astype(np.int64)
    path = replace(source, base=ast.FieldRef(_VALUE, 0))
    found = [evaluate_one(path, {_VALUE: text}) for text in [*encoded.dictionary.to_pylist(), None]]
    different = _different(found)
    return Values(different.values, different.of_row[codes])


def _different(found: list[Any]) -> Values:
    numbers: dict[str, int] = {}
    each: list[Any] = []
    of_row = np.empty(len(found), np.int64)
    for row, value in enumerate(found):
        name = value if isinstance(value, str) else json.dumps(value)
        key = f"{type(value).__name__} {name}"
        if key not in numbers:
            numbers[key] = len(each)
            each.append(value)
        of_row[row] = numbers[key]
    return Values(each, of_row)


def _sources(node: Any) -> Iterator[Any]:
    if isinstance(node, ast.FieldRef | ast.PathAccess):
        yield node
    elif isinstance(node, ast.CmpOp):
        yield from _sources(node.left)
        yield from _sources(node.right)
    elif isinstance(node, ast.InOp):
        yield from _sources(node.field)
    elif isinstance(node, ast.ArrayContainsOp):
        yield from _sources(node.value)
        yield from _sources(node.values)
    elif not isinstance(node, _LITERALS):
        raise Unsupported(type(node).__name__)


def _with(part: Any, source: Any) -> Any:
    stand_in = ast.FieldRef(_VALUE, 0)
    if isinstance(part, ast.ArrayContainsOp):
        return replace(part, value=stand_in)
    return replace(
        part,
        left=stand_in if part.left == source else part.left,
        right=stand_in if part.right == source else part.right,
    )
