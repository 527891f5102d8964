"""Every error has a place in the table, and no secret gets out."""

import pytest

from api.admission.errors import BudgetReached, Dimension, LimitReached
from api.errors import TABLE, ApiError, NameTaken, NotAuthenticated, describe, meaning_of
from api.ledger.errors import LedgerError
from core.dependency import DependencyError, DependencyTimeout, DependencyUnavailable
from core.limits import Limits, Subject, SubjectKind
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
