"""JSON schemas of callers: whether they are any, of a size that an engine can build a grammar of.

What shapes an answer is looked at, as drafts 4 to 2020-12 have it; what only describes (title, description, default,
examples, unknown words) is counted and nothing else. It takes time in proportion to the schema's values.
Source: https://json-schema.org/draft/2020-12/json-schema-validation
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from api.shapes.bounds import MAX_COUNT, MAX_DEPTH, Budget, Place, refusal
from api.shapes.expressions import check_expression

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
_TYPES = frozenset(TYPES)
_ONE = "additionalProperties additionalItems unevaluatedProperties unevaluatedItems contains propertyNames".split()
_ONE_IN_PLACE = "not if then else".split()  # of the very value that the schema around it is of
_SOME_IN_PLACE = "allOf anyOf oneOf".split()
_NAMED = "properties patternProperties $defs definitions dependentSchemas".split()
_COUNTS = "minLength maxLength minItems maxItems minProperties maxProperties minContains maxContains".split()
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_MAX_REFERENCE = 1000  # characters


def check_schema(schema: object, place: Place, budget: Budget) -> None:
    """Raises: RequestInvalid: it is no JSON schema, asks too much, or refers to what it does not hold."""
    if not isinstance(schema, dict):
        raise refusal(place, "it has the wrong type; a JSON schema is an object")
    _Walk(schema, place, budget).run()


class _Walk:
    """Through one schema, without recursion."""

    def __init__(self, root: dict[str, Any], place: Place, budget: Budget) -> None:
        self._root = root
        self._budget = budget
        self._todo: list[tuple[Any, Place, int, bool]] = [(root, place, 1, True)]  # the last: whether it is a schema
        self._walked: set[int] = set()
        self._anchors: dict[str, dict[str, Any]] = {}
        self._references: list[tuple[dict[str, Any], str, Place]] = []
        self._in_place: dict[int, list[int]] = {}  # from schema to schemas of the same value
        self._places: dict[int, Place] = {}

    def run(self) -> None:
        while self._todo:
            while self._todo:
                value, place, depth, is_schema = self._todo.pop()
                if is_schema:
                    self._schema(value, place, depth)
                else:
                    self._plain(value, place, depth)
            references, self._references = self._references, []
            for node, reference, place in references:
                self._refer(node, reference, place)
        self._check_ends()

    def _schema(self, value: Any, place: Place, depth: int) -> None:
        if isinstance(value, bool):
            self._budget.value(place, depth)
            return
        if not isinstance(value, dict):
            raise refusal(place, "it must be a JSON schema: an object, true or false")
        self._budget.value(place, depth, 1 + len(value))
        if id(value) in self._walked:
            return
        self._walked.add(id(value))
        self._places[id(value)] = place
        for name, inner in value.items():
            look = _LOOKS.get(name)
            if look is not None:
                look(self, value, name, inner, (place, name), depth + 1)
            elif isinstance(inner, dict | list):
                self._todo.append((inner, (place, name), depth + 1, False))

    def _plain(self, value: Any, place: Place, depth: int) -> None:
        """Any JSON."""
        if not isinstance(value, dict | list):
            return
        self._budget.value(place, depth, 1 + len(value))
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list):
                self._todo.append((inner, place, depth + 1, False))

    # What each word asks of its value.

    def _type(self, _node: dict[str, Any], _name: str, value: Any, place: Place, _depth: int) -> None:
        kinds = value if isinstance(value, list) else [value]
        known = all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
        if not known or not kinds or len(set(kinds)) < len(kinds):
            raise refusal(place, f"it must be one of {', '.join(TYPES)}, or a list of different ones")

    def _one(self, _node: dict[str, Any], _name: str, value: Any, place: Place, depth: int) -> None:
        self._todo.append((value, place, depth, True))

    def _one_in_place(self, node: dict[str, Any], _name: str, value: Any, place: Place, depth: int) -> None:
        self._todo.append((value, place, depth, True))
        self._in_place.setdefault(id(node), []).append(id(value))

    def _some(self, _node: dict[str, Any], _name: str, value: Any, place: Place, depth: int) -> None:
        if not isinstance(value, list) or not value:
            raise refusal(place, "it must be a list with at least one schema")
        self._budget.value(place, depth)
        self._todo += ((inner, (place, f"[{at}]"), depth + 1, True) for at, inner in enumerate(value))

    def _some_in_place(self, node: dict[str, Any], name: str, value: Any, place: Place, depth: int) -> None:
        self._some(node, name, value, place, depth)
        self._in_place.setdefault(id(node), []).extend(map(id, value))

    def _items(self, node: dict[str, Any], name: str, value: Any, place: Place, depth: int) -> None:
        (self._some if isinstance(value, list) else self._one)(node, name, value, place, depth)

    def _named(self, _node: dict[str, Any], name: str, value: Any, place: Place, depth: int) -> None:
        if not isinstance(value, dict):
            raise refusal(place, "it must be an object of schemas")
        self._budget.value(place, depth)
        for key, inner in value.items():
            self._budget.text(place, key)
            if name == "patternProperties":
                check_expression(key, place, self._budget)
            self._todo.append((inner, (place, key), depth + 1, True))

    def _dependencies(self, _node: dict[str, Any], _name: str, value: Any, place: Place, depth: int) -> None:
        if not isinstance(value, dict):
            raise refusal(place, "it must be an object")
        self._budget.value(place, depth)
        for key, inner in value.items():
            if isinstance(inner, list):
                self._texts(value, key, inner, (place, key), depth + 1)
            elif _name == "dependencies":
                self._todo.append((inner, (place, key), depth + 1, True))
            else:
                raise refusal((place, key), "it must be a list of names")

    def _texts(self, _node: dict[str, Any], _name: str, value: Any, place: Place, depth: int) -> None:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise refusal(place, "it must be a list of names")
        self._budget.value(place, depth, 1 + len(value))

    def _enum(self, _node: dict[str, Any], _name: str, value: Any, place: Place, depth: int) -> None:
        if not isinstance(value, list) or not value:
            raise refusal(place, "it must be a list with at least one allowed value")
        for one in value:
            if isinstance(one, str):
                self._budget.text(place, one)
        self._todo.append((value, place, depth, False))

    def _const(self, _node: dict[str, Any], _name: str, value: Any, place: Place, depth: int) -> None:
        if isinstance(value, str):
            self._budget.text(place, value)
        self._todo.append((value, place, depth, False))

    def _count(self, _node: dict[str, Any], _name: str, value: Any, place: Place, _depth: int) -> None:
        if not _is_number(value) or not 0 <= value <= MAX_COUNT or value != int(value):
            raise refusal(place, f"it must be a whole number from 0 to {MAX_COUNT}")

    def _number(self, _node: dict[str, Any], name: str, value: Any, place: Place, _depth: int) -> None:
        if name.startswith("exclusive") and isinstance(value, bool):
            return  # as draft 4 has it
        if not _is_number(value) or (name == "multipleOf" and value <= 0):
            raise refusal(place, "it must be a number" + (" above 0" if name == "multipleOf" else ""))

    def _flag(self, _node: dict[str, Any], _name: str, value: Any, place: Place, _depth: int) -> None:
        if not isinstance(value, bool):
            raise refusal(place, "it must be true or false")

    def _text(self, _node: dict[str, Any], _name: str, value: Any, place: Place, _depth: int) -> None:
        if not isinstance(value, str):
            raise refusal(place, "it must be a text")

    def _pattern(self, _node: dict[str, Any], _name: str, value: Any, place: Place, _depth: int) -> None:
        check_expression(value, place, self._budget)

    def _anchor(self, node: dict[str, Any], name: str, value: Any, place: Place, _depth: int) -> None:
        self._text(node, name, value, place, _depth)
        if name.endswith("nchor"):
            self._anchors[f"#{value}"] = node
        elif value.startswith("#"):
            self._anchors[value] = node

    def _reference(self, node: dict[str, Any], _name: str, value: Any, place: Place, _depth: int) -> None:
        if not isinstance(value, str) or not value.startswith("#") or len(value) > _MAX_REFERENCE:
            raise refusal(place, "it must refer to a part of the same schema, such as #/$defs/NAME")
        self._references.append((node, value, place))

    def _refer(self, node: dict[str, Any], reference: str, place: Place) -> None:
        """Look for what is referred to; where it stood among other words, it is looked at as a schema now."""
        target = self._anchors.get(reference) or _at(self._root, reference)
        if not isinstance(target, dict | bool):
            raise refusal(place, f"the schema holds no {reference[:100]}; add it, or correct the reference")
        if isinstance(target, dict):
            self._in_place.setdefault(id(node), []).append(id(target))
            if id(target) not in self._walked:
                self._todo.append((target, place, 1, True))

    def _check_ends(self) -> None:
        """No schema may be of its own value again: whoever follows it would go round for ever."""
        entering: dict[int, int] = dict.fromkeys(self._in_place, 0)
        for others in self._in_place.values():
            for other in others:
                if other in entering:
                    entering[other] += 1
        free = [node for node, count in entering.items() if not count]
        while free:
            node = free.pop()
            del entering[node]
            for other in self._in_place[node]:
                if other in entering:
                    entering[other] -= 1
                    if not entering[other]:
                        free.append(other)
        if entering:
            place = self._places[next(iter(entering))]
            raise refusal(place, "the schema refers to itself without end; let it do so below a property or an item")


_Look = Callable[[_Walk, dict[str, Any], str, Any, Place, int], None]
_LOOKS: Mapping[str, _Look] = {
    "type": _Walk._type,
    **dict.fromkeys(_ONE, _Walk._one),
    **dict.fromkeys(_ONE_IN_PLACE, _Walk._one_in_place),
    **dict.fromkeys(_SOME_IN_PLACE, _Walk._some_in_place),
    "prefixItems": _Walk._some,
    "items": _Walk._items,
    **dict.fromkeys(_NAMED, _Walk._named),
    "dependencies": _Walk._dependencies,
    "dependentRequired": _Walk._dependencies,
    "required": _Walk._texts,
    "enum": _Walk._enum,
    "const": _Walk._const,
    **dict.fromkeys(_COUNTS, _Walk._count),
    **dict.fromkeys("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf".split(), _Walk._number),
    "uniqueItems": _Walk._flag,
    "format": _Walk._text,
    "pattern": _Walk._pattern,
    **dict.fromkeys(("$anchor", "$dynamicAnchor", "$id"), _Walk._anchor),
    **dict.fromkeys(_REFERENCES, _Walk._reference),
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(root: dict[str, Any], reference: str) -> Any:
    """What a pointer within the schema names; None: nothing. Source: RFC 6901."""
    if reference == "#":
        return root
    head, *parts = unquote(reference).split("/")
    if head != "#" or len(parts) > MAX_DEPTH:
        return None
    found: Any = root
    for part in parts:
        if isinstance(found, dict):
            found = found.get(part.replace("~1", "/").replace("~0", "~"))
        elif isinstance(found, list) and part.isascii() and part.isdecimal() and len(part) < 7:
            found = found[int(part)] if int(part) < len(found) else None
        else:
            return None
    return found
