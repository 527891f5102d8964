"""Reads forms with files in them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.types import Message

from api.errors import RequestInvalid

_TAIL_BYTES = 4096  # a boundary has 70 characters at most; what follows it is to be ignored
_REMEDY = "send multipart/form-data with its boundary, and names of at most 500 characters"


def is_form(request: Request) -> bool:
    """Whether a request says that it brings a form with files."""
    return media_type_of(request) == "multipart/form-data"


def media_type_of(request: Request) -> str:
    """What a request says that its body is."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@asynccontextmanager
async def read_form(request: Request, max_files: int) -> AsyncIterator[FormData]:
    """A request's form, whole.

    Raises: RequestInvalid: it is in another charset than UTF-8, or was cut off.
    """
    _, options = parse_options_header(request.headers["content-type"])
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise RequestInvalid("a form's charset must be utf-8")
    tail = b""

    async def receive() -> Message:
        nonlocal tail
        message = await request.receive()
        tail = (tail + message.get("body", b""))[-_TAIL_BYTES:]
        return message

    try:
        form = await Request(request.scope, receive).form(max_files=max_files)
    except HTTPException as error:
        raise RequestInvalid(f"the form can't be read ({error.detail}): {_REMEDY}") from error
    try:
        # The parser takes what is there; a form that was cut must not lose a file without a word.
        if b"--" + options.get(b"boundary", b"") + b"--" not in tail:
            raise RequestInvalid("the form was cut off before its closing boundary; send it again")
        yield form
    finally:
        await form.close()


def only_text(form: FormData, name: str) -> str | None:
    """A field that stands at most once, as text; None: it is not there. Raises: RequestInvalid."""
    values = form.getlist(name)
    if len(values) > 1:
        raise RequestInvalid(f"the form field {name} stands there twice", name)
    if values and not isinstance(values[0], str):
        raise RequestInvalid(f"the form field {name} is a file; send it as text", name)
    return str(values[0]) if values else None


def from_text(value: object, param: str) -> object:
    """A field that is JSON as text; None where it is empty. Raises: RequestInvalid."""
    if not isinstance(value, str) or not value:
        return None if value == "" else value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise RequestInvalid(f"{param} is no JSON: {error}", param) from None
