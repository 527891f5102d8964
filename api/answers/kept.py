"""Events of an answer as the text of a cache's entry, and back."""

from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from api.answers.events import Cited, Done, Event, Retrieved, Token

_FORMS: dict[str, TypeAdapter[Any]] = {
    kind.__name__.lower(): TypeAdapter(kind) for kind in (Retrieved, Token, Cited, Done)
}


def written(events: Sequence[Event]) -> str:
    """One JSON list of kinds and events."""
    named = [(type(event).__name__.lower(), event) for event in events]
    return orjson.dumps([[kind, _FORMS[kind].dump_python(event, mode="json")] for kind, event in named]).decode()


def read(text: str) -> list[Event] | None:
    """The same events; None: another version has written this."""
    try:
        return [_FORMS[kind].validate_python(event) for kind, event in orjson.loads(text)]
    except (ValueError, KeyError, TypeError, ValidationError):
        return None
