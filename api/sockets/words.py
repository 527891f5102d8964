"""What clients may say over a socket, one JSON object in each message."""

import re
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from api.answers.asked import QueryRequest
from api.errors import RequestInvalid

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Auth:
    """Says who is there, by key or token."""

    key: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A question; `id` is the client's name for it, and of its request."""

    id: str | None
    body: dict[str, Any]

    def request(self) -> QueryRequest:
        """The body of `/v1/query`. Raises: RequestInvalid: it is none; the message names the field."""
        try:
            return QueryRequest.model_validate(self.body)
        except ValidationError as error:
            first = error.errors()[0]
            param = ".".join(map(str, first["loc"]))
            raise RequestInvalid(f"{param}: {first['msg']}", param) from None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ends the question that is being answered; one with an id only that one."""

    id: str | None


Word = Auth | Ask | Cancel


def read_word(text: str) -> Word:
    """Raises: RequestInvalid: it is nothing that may be said; no key is repeated in the message."""
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestInvalid(f"the message is no JSON: {error.msg}") from None
    kind = said.get("type") if isinstance(said, dict) else None
    if kind == "auth":
        if not isinstance(said.get("key"), str) or not said["key"]:
            raise RequestInvalid('say who you are as {"type": "auth", "key": KEY}', "key")
        return Auth(said["key"])
    if kind == "query":
        return Ask(_id(said), {name: value for name, value in said.items() if name not in ("type", "id")})
    if kind == "cancel":
        return Cancel(_id(said))
    raise RequestInvalid("type must be auth, query or cancel", "type")


def _id(said: dict[str, Any]) -> str | None:
    given = said.get("id")
    if given is not None and (not isinstance(given, str) or not _ID.fullmatch(given)):
        raise RequestInvalid("id takes 1 to 128 signs of A-Z a-z 0-9 . _ : -", "id")
    return given
