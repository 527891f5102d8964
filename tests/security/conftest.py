"""One gateway for all attacks over the wire, and one worker in process for what does not hang on it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.security.furnished import Furnished, furnish
from tests.security.parts import caller, whole_gateway
from tests.support.database import fresh_sqlite
from tests.support.gate import Gate, open_gate
from tests.support.gateway import Gateway, Upstream

MAX_BODY_BYTES = 200_000
BODY_DEADLINE_S = 2.0


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Upstream]]:
    settings = {
        "STOKER_BODY_DEADLINE_S": str(BODY_DEADLINE_S),
        "STOKER_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "STOKER_MAX_JSON_BYTES": str(MAX_BODY_BYTES),
        "STOKER_CORS_ORIGINS": "https://allowed.example",
    }
    with whole_gateway(tmp_path_factory.mktemp("attacked"), settings) as both:
        yield both


@pytest.fixture(scope="session")
def gateway(opened: tuple[Gateway, Upstream]) -> Gateway:
    return opened[0]


@pytest.fixture(scope="session")
def upstream(opened: tuple[Gateway, Upstream]) -> Upstream:
    return opened[1]


@pytest.fixture(scope="session")
def admin(gateway: Gateway) -> Iterator[httpx.Client]:
    with caller(gateway) as client:
        yield client


@pytest.fixture(scope="module")
def theirs(gateway: Gateway, admin: httpx.Client, request: pytest.FixtureRequest) -> Furnished:
    """A tenant with one of everything; a file of tests may use all of it up."""
    return furnish(gateway, admin, f"bolt-{request.path.stem}")


@pytest.fixture(scope="module")
def ours(gateway: Gateway, admin: httpx.Client, request: pytest.FixtureRequest) -> Furnished:
    """Another one, furnished alike, from which the attacks come."""
    return furnish(gateway, admin, f"acme-{request.path.stem}")


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Gate]:
    """The application in this process, on an empty database."""
    async with open_gate(fresh_sqlite(tmp_path / "stoker.db"), tmp_path / "data") as one:
        yield one
