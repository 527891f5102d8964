"""Numbers that Python, JSON or SQL can't hold, wherever our description of the API says that a number is taken."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from api.roles import ROUTES
from tests.security.furnished import Furnished
from tests.security.parts import caller
from tests.security.rules import NAMING, NOBODYS, SENT
from tests.security.test_routes import described, paths_of
from tests.support.gateway import Gateway

pytestmark = pytest.mark.slow  # a gateway is started

# Python reads no integer of more than 4,300 digits; SQL holds none of more than 63 bits.
NUMBERS_OF_NONE = ("9" * 5_000, "-" + "9" * 5_000, "1e400", "-1e400", "NaN", "Infinity")
LARGE = ("9" * 30, "9223372036854775808")  # which a bound of tokens may be
REFUSED = (400, 401, 404, 422)
PLAIN = {
    ("POST", "/v1/completions"): {"model": "words", "prompt": "mine"},
    ("POST", "/v1/embeddings"): {"model": "space", "input": "mine"},
    ("POST", "/v1/rerank"): {"model": "words", "query": "mine", "documents": ["mine"]},
    ("POST", "/v1/collections"): {"name": "numbered"},
    ("POST", "/v1/admin/tenants"): {"name": "numbered"},
}
_MARK = '"@@"'
_DEEPEST = 6


@dataclass(frozen=True)
class Asked:
    """A number of a request: of its query, or, with a place, of its body."""

    method: str
    path: str
    name: str
    body: dict[str, Any] = field(default_factory=dict)
    place: tuple[Any, ...] = ()


def places(schema: Any, about: Any, depth: int = 0) -> Iterator[tuple[Any, ...]]:
    """Where a schema takes a number: the names on the way, with 0 for the members of a list."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return
    if "$ref" in schema:
        schema = about["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if schema.get("type") in ("integer", "number"):
        yield ()
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from places(one, about, depth + 1)
    for name, one in schema.get("properties", {}).items():
        for inner in places(one, about, depth + 1):
            yield (name, *inner)
    for inner in places(schema.get("items"), about, depth + 1):
        yield (0, *inner)


def with_number(body: Any, place: tuple[Any, ...], word: str) -> str:
    """The body as JSON, with a word where a number is to stand."""

    def put(held: Any, way: tuple[Any, ...]) -> Any:
        if not way:
            return "@@"
        if way[0] == 0:
            return [put(held[0] if isinstance(held, list) and held else {}, way[1:])]
        held = held if isinstance(held, dict) else {}
        return {**held, way[0]: put(held.get(way[0]), way[1:])}

    return json.dumps(put(body, place)).replace(_MARK, word)


def bodies_of(operation: tuple[str, str], ids: dict[str, str]) -> list[dict[str, Any]]:
    """What the operation is sent where every number in it is one."""
    sent = [SENT[operation]] if operation in SENT else NAMING.get(operation, ())
    return [body(ids) for body in sent] or [PLAIN.get(operation, {})]


def asked(ids: dict[str, str]) -> Iterator[Asked]:
    """Every number of every operation."""
    about = described()
    for path, methods in about["paths"].items():
        template = next(template for _, template in ROUTES if template.replace(":path", "") == path)
        there = re.sub(r"\{.*?\}", "words", template) if template in NOBODYS else next(paths_of(template, ids))
        for method, said in ((method.upper(), said) for method, said in methods.items()):
            for one in said.get("parameters", ()):
                if one["in"] == "query" and any(True for _ in places(one["schema"], about)):
                    yield Asked(method, there, one["name"])
            schema = said.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            for place in dict.fromkeys(places(schema, about)):
                for body in bodies_of((method, template), ids):
                    yield Asked(method, there, str(place[-1]), body, place)


def send(client: httpx.Client, one: Asked, word: str) -> httpx.Response:
    if not one.place:
        return client.request(one.method, one.path, params={one.name: word})
    headers = {"content-type": "application/json"}
    return client.request(one.method, one.path, content=with_number(one.body, one.place, word), headers=headers)


def test_a_number_that_cannot_be_held_is_refused_by_every_route(
    gateway: Gateway, ours: Furnished, figure: Callable[[str], None]
) -> None:
    wrong, seen, named = list[str](), set[tuple[object, ...]](), set[tuple[object, ...]]()
    with caller(gateway, ours.manager) as manager, caller(gateway) as admin:
        for one in asked(ours.ids):
            for word in (*NUMBERS_OF_NONE, *LARGE):
                answer = send(manager, one, word)
                if answer.status_code == 403:
                    answer = send(admin, one, word)
                key = (one.method, one.path, one.name, one.place)
                seen.add(key)
                if one.name in answer.text:
                    named.add(key)
                fine = answer.status_code in REFUSED or (word in LARGE and answer.status_code < 500)
                if not fine:
                    wrong.append(f"{one.method} {one.path} {one.place or one.name}={word[:12]}: {answer.status_code}")
    figure(f"{len(seen)} numbers, {len(named)} of which the refusals name")
    assert not wrong, "\n".join(wrong)
    assert len(seen) > 60
