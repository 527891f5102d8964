"""Every error has a place in the table, and no secret gets out."""

import pytest

from api.errors import TABLE, ApiError, describe, meaning_of
from api.ledger.errors import LedgerError
from core.dependency import DependencyError, DependencyTimeout, DependencyUnavailable
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
