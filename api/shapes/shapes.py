"""Which fields of a model request hold schemas, expressions and grammars, and a look at each.

An engine builds an automaton of them, and some broke of what they were given, for everybody whom they were answering
(CVE-2025-48942, CVE-2025-48943, CVE-2025-48944). A request with none of these fields costs one look at its names.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from api.shapes.bounds import MAX_GRAMMAR, Budget, Place, refusal
from api.shapes.expressions import check_expression, check_grammar
from api.shapes.schemas import check_schema

_SHAPING = frozenset("response_format structured_outputs tools functions output_config text".split())


def check_shapes(body: Mapping[str, Any]) -> None:
    """Raises: RequestInvalid: names the field, what is wrong with it, and what to do."""
    if _SHAPING.isdisjoint(body):
        return
    budget = Budget()
    for name in ("tools", "functions"):
        if body.get(name) is not None:
            _tools(body[name], (None, name), budget)
    for name in ("response_format", "structured_outputs"):
        value, place = body.get(name), (None, name)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise refusal(place, "it must be an object")
        (_format if name == "response_format" else _outputs)(value, place, budget)
    for name in ("output_config", "text"):
        value = body.get(name)
        inner = value.get("format") if isinstance(value, dict) else None
        if isinstance(inner, dict):
            _format(inner, ((None, name), "format"), budget)


def _tools(tools: object, place: Place, budget: Budget) -> None:
    """Tools in the forms of chats, of Anthropic and of responses. What is no tool at all the engine says."""
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        for name in ("function", "custom", ""):
            inner = tool.get(name) if name and isinstance(tool, dict) else tool
            if not isinstance(inner, dict):
                continue
            where: Place = ((place, f"[{at}]"), name) if name else (place, f"[{at}]")
            for field in ("parameters", "input_schema"):
                if inner.get(field) is not None:
                    check_schema(inner[field], (where, field), budget)
            if isinstance(inner.get("format"), dict):
                _tool_format(inner["format"], (where, "format"), budget)


def _tool_format(form: Mapping[str, Any], place: Place, budget: Budget) -> None:
    """What a tool of OpenAI's may be called with whose input is a text."""
    grammar = form.get("grammar")
    if isinstance(grammar, dict):
        form, place = grammar, (place, "grammar")
    if form.get("definition") is not None:
        if form.get("syntax") == "regex":
            check_expression(form["definition"], (place, "definition"), budget)
        else:
            check_grammar(form["definition"], (place, "definition"))


def _format(form: Mapping[str, Any], place: Place, budget: Budget) -> None:
    """`response_format`, and what stands for it in other forms."""
    kind, inner = form.get("type"), form.get("json_schema")
    if form.get("schema") is not None:
        check_schema(form["schema"], (place, "schema"), budget)
    if inner is not None:
        if not isinstance(inner, dict):
            raise refusal((place, "json_schema"), "it must be an object with a name and a schema")
        if inner.get("schema") is not None:
            check_schema(inner["schema"], ((place, "json_schema"), "schema"), budget)
    if kind not in (None, "text", "json_object", "json_schema"):
        _tags(form, place, budget)


def _outputs(asked: Mapping[str, Any], place: Place, budget: Budget) -> None:
    """vLLM's `structured_outputs`."""
    said = {name: value for name, value in asked.items() if value is not None}
    if "json" in said:
        at = (place, "json")
        check_schema(_read(said["json"], at), at, budget)
    for name in ("regex", "whitespace_pattern"):
        if name in said:
            check_expression(said[name], (place, name), budget)
    if "grammar" in said:
        check_grammar(said["grammar"], (place, "grammar"))
    if "choice" in said:
        _choice(said["choice"], (place, "choice"), budget)
    if "structural_tag" in said:
        at = (place, "structural_tag")
        _tags(_read(said["structural_tag"], at), at, budget)


def _choice(value: object, place: Place, budget: Budget) -> None:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise refusal(place, "it must be a list of texts, at least one, and none of them empty")
    budget.value(place, 1, len(value))
    for one in value:
        budget.text(place, one)


def _read(value: object, place: Place) -> object:
    """JSON that may come as a text."""
    if not isinstance(value, str):
        return value
    if len(value) > MAX_GRAMMAR:
        raise refusal(place, f"the text is longer than {MAX_GRAMMAR:,} characters; send it as an object")
    try:
        return orjson.loads(value.encode(errors="replace"))
    except orjson.JSONDecodeError as error:
        raise refusal(place, f"the text is no JSON: {error}") from None


def _tags(form: object, place: Place, budget: Budget) -> None:
    """Structural tags, of which schemas, expressions and grammars are parts at any depth."""
    if not isinstance(form, dict):
        raise refusal(place, "it must be an object")
    todo: list[tuple[Any, Place, int]] = [(form, place, 1)]
    while todo:
        value, at, depth = todo.pop()
        budget.value(at, depth, 1 + len(value))
        if isinstance(value, list):
            todo += ((one, (at, f"[{n}]"), depth + 1) for n, one in enumerate(value) if isinstance(one, dict | list))
            continue
        for name, inner in value.items():
            where = (at, name)
            if name in ("schema", "json_schema"):
                if not isinstance(inner, bool):  # xgrammar takes true for anything
                    check_schema(inner, where, budget)
            elif name == "pattern":
                check_expression(inner, where, budget)
            elif name == "grammar":
                check_grammar(inner, where)
            elif isinstance(inner, dict | list):
                todo.append((inner, where, depth + 1))
