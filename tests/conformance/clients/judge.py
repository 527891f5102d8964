"""Run in the environment of the official SDKs: holds JSON against the types of the installed `openai`, field by field.

Stdin: a list of {"type": "openai.types.VectorStore", "value": ...}. Stdout: {"version", "fields": for each of them a
list of [path, verdict]}. A verdict is `ok`, `null`, `missing` or `wrong`.
"""

import importlib
import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import openai
from pydantic import BaseModel, TypeAdapter, ValidationError


def main() -> None:
    judged = [list(fields(named(each["type"]), each["value"], "")) for each in json.load(sys.stdin)]
    json.dump({"version": openai.__version__, "fields": judged}, sys.stdout)


def named(name: str) -> type[BaseModel]:
    module, _, kind = name.rpartition(".")
    found: type[BaseModel] = getattr(importlib.import_module(module), kind)
    return found


def fields(model: type[BaseModel], value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every field that the model knows, and those of the models in it."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        where = f"{path}.{key}" if path else key
        if not isinstance(value, dict) or key not in value:
            yield where, "missing"
        elif value[key] is None:
            yield where, "null"
        else:
            yield from judged(field.rebuild_annotation(), value[key], where)


def judged(kind: Any, value: Any, where: str) -> Iterator[tuple[str, str]]:
    if not fits(kind, value):
        yield where, "wrong"
        return
    yield where, "ok"
    yield from inside(kind, value, where)


def inside(kind: Any, value: Any, where: str) -> Iterator[tuple[str, str]]:
    """The fields of the models that a value of a type is made of."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from inside(get_args(kind)[0], value, where)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from fields(kind, value, where)
    elif origin is list and not isinstance(get_args(kind)[0], TypeVar):  # of a page the items are observed themselves
        for item in value:
            yield from judged(get_args(kind)[0], item, f"{where}[]")
    elif origin is Union or str(origin) == "<class 'types.UnionType'>":
        for member in get_args(kind):
            if fits(member, value):
                yield from inside(member, value, where)
                return


def fits(kind: Any, value: Any) -> bool:
    if isinstance(kind, TypeVar):
        return True
    try:
        TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


main()
