"""How far an answer has the fields of the type that the installed SDK expects, counted one by one."""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

Seen = dict[str, list[str]]  # by "ok", "not" and "absent": the paths of fields


def measure(value: Any, kind: Any, stateful: tuple[str, ...] = ()) -> Seen:
    """Count every field of every object in a value.

    A field is as it should be where it is there and has a value of its type; null is one where the type takes it, unless
    its path is one of `stateful`, whose values exist. A field that may be left out, and is, is absent.
    """
    seen = _nothing()
    _look(value, kind, "", seen, stateful)
    return seen


def _look(value: Any, kind: Any, path: str, seen: Seen, stateful: tuple[str, ...]) -> bool:
    """Whether a value is of a kind; the fields of objects in it are counted."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _look(value, get_args(kind)[0], path, seen, stateful)
    if origin in (Union, types.UnionType):
        return _look_among(value, get_args(kind), path, seen, stateful)
    if origin is Literal:
        return value in get_args(kind)
    if origin in (list, dict):
        return _look_inside(value, origin, get_args(kind), path, seen, stateful)
    if kind is Any or kind is object:
        return True
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _look_at_fields(value, kind, path, seen, stateful)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return kind is type(value) or (kind is type(None) and value is None)


def _look_inside(
    value: Any, origin: Any, kinds: tuple[Any, ...], path: str, seen: Seen, stateful: tuple[str, ...]
) -> bool:
    if not isinstance(value, origin):
        return False
    inner = value.values() if origin is dict else value
    return all([_look(one, kinds[-1] if kinds else Any, path, seen, stateful) for one in inner])


def _look_among(value: Any, kinds: tuple[Any, ...], path: str, seen: Seen, stateful: tuple[str, ...]) -> bool:
    """One of several kinds: of objects the one whose fields fit best, its `type` first of all."""
    if value is None:
        return type(None) in kinds
    found: list[tuple[bool, int, Seen]] = []
    for kind in kinds:
        own = _nothing()
        fits = _look(value, kind, path, own, stateful)
        if fits or own["ok"]:
            found.append((_names(value, kind) and fits, len(own["ok"]) - len(own["not"]) - len(own["absent"]), own))
    if not found:
        return False
    fits, _, best = max(found, key=lambda one: one[:2])
    for name, paths in best.items():
        seen[name] += paths
    return fits


def _names(value: Any, kind: Any) -> bool:
    """Whether a kind of object has the same `type` as the value, where both have one."""
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if not (isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, BaseModel)):
        return True
    field = kind.model_fields.get("type")
    return field is None or _look(value.get("type"), field.annotation, "", _nothing(), ())


def _look_at_fields(
    value: Any, kind: type[BaseModel], path: str, seen: Seen, stateful: tuple[str, ...]
) -> bool:
    if not isinstance(value, dict):
        return False
    right = True
    for name, field in kind.model_fields.items():
        key = field.alias or name
        here = f"{path}.{key}".lstrip(".")
        fits = key in value and _look(value[key], field.annotation, here, seen, stateful)
        fits = fits and not (here in stateful and value[key] is None)
        absent = key not in value and not field.is_required() and here not in stateful
        seen["absent" if absent else "ok" if fits else "not"].append(here)
        right = right and (fits or absent)
    return right


def _nothing() -> Seen:
    return {"ok": [], "not": [], "absent": []}
