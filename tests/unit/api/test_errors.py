"""Every error has a place in the table, and no secret gets out."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from api.admission.errors import BudgetReached, Dimension, LimitReached
from api.errors import TABLE, ApiError, NameTaken, NotAuthenticated, answer_validation_error, describe, meaning_of
from api.ledger.errors import LedgerError
from api.record import SCOPE_KEY
from core.dependency import DependencyError, DependencyTimeout, DependencyUnavailable
from core.limits import Limits, Subject, SubjectKind
from monitoring.record import RequestRecord
from retrieval.errors import RetrievalError
from router.errors import RouterError, UpstreamRefused


def leaves(root: type[Exception]) -> list[type[Exception]]:
    children = root.__subclasses__()
    return [root] if not children else [leaf for child in children for leaf in leaves(child)]


@pytest.mark.parametrize(
    "root", [ApiError, RetrievalError, RouterError, DependencyError, LedgerError], ids=lambda r: r.__name__
)
def test_every_error_is_mapped(root: type[Exception]) -> None:
    unmapped = [
        leaf.__name__
        for leaf in leaves(root)
        if leaf is not UpstreamRefused and not any(kind in TABLE for kind in leaf.__mro__)
    ]
    assert not unmapped, f"api/errors.py does not say what these mean over HTTP: {unmapped}"


def test_an_unknown_error_keeps_its_text_to_itself() -> None:
    status, body, _ = describe(ValueError("password=hunter2"))
    assert status == 500
    assert "hunter2" not in str(body)


@pytest.mark.parametrize("kind", [DependencyTimeout, DependencyUnavailable])
def test_a_part_that_is_away_is_503_and_never_401(kind: type[DependencyError]) -> None:
    status, body, headers = describe(kind("sql", "sql is away", 2.3))
    assert (status, headers["retry-after"]) == (503, "3")
    assert body["error"]["code"] == "part_unavailable"


_HEADER = "the body is not read as JSON: send the header `Content-Type: application/json`"


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (None, b'{"query": "a"}', _HEADER),
        ("application/x-www-form-urlencoded", b'{"query": "a"}', _HEADER),  # as curl sends what -d names
        ("text/plain", b'{"query": "a"}', _HEADER),
        ("application/json; charset=utf-8", b"[1]", "the body is to be a JSON object"),
        ("application/problem+json", b'"a"', "the body is to be a JSON object"),
        ("application/json", b'{"query": [1]}', "query: Input should be a valid string"),
    ],
)
def test_a_body_without_its_header_is_told_which(kind: str | None, body: bytes, message: str) -> None:
    """curl without the header was told of "a valid dictionary or object to extract fields from"."""

    class Asked(BaseModel):
        query: str

    app = FastAPI(exception_handlers={RequestValidationError: answer_validation_error})

    @app.post("/v1/query")
    async def query(_: Asked) -> None: ...

    async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, SCOPE_KEY: RequestRecord("req_1", "POST", 0.0)}, receive, send)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(recorded), base_url="http://gate") as client:
            headers = {} if kind is None else {"content-type": kind}
            return await client.post("/v1/query", content=body, headers=headers)

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)


def test_the_nearest_class_decides() -> None:
    class Special(DependencyTimeout): ...

    assert meaning_of(Special("x", "y")) is TABLE[DependencyError]


_KEY = Subject(SubjectKind.KEY, "k", Limits())


@pytest.mark.parametrize(
    ("error", "asks_again"),
    [
        (LimitReached(_KEY, Dimension.REQUESTS, 60, 2.0), True),
        (LimitReached(_KEY, Dimension.TOKENS, 60, None), False),
        (BudgetReached(_KEY, Dimension.USD_DAY, 60, 40_000.0), False),
        (DependencyUnavailable("sql", "sql is away"), True),
        (NameTaken("there is one"), False),
        (NotAuthenticated("who?"), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_sdks_are_told_not_to_ask_again_where_that_is_of_no_use(error: Exception, asks_again: bool) -> None:
    """They do so by themselves after 409, 429 and 5xx, and wait for as long as Retry-After says."""
    _, _, headers = describe(error)
    assert headers.get("x-should-retry") == (None if asks_again else "false")
