"""What goes wrong with one delivery is written down with it, and ends nothing else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr

from api.hooks.delivering import Deliverer, Patience
from api.hooks.secrets import HouseKey
from core.clock import ManualClock
from retrieval.sources.address import Address
from retrieval.sources.fetcher import Bounds, Fetcher
from retrieval.sources.guard import Guard

GUARD = Guard([], (443,))


class Database:
    """Remembers what is written of a delivery."""

    def __init__(self) -> None:
        self.written: dict[str, Any] = {}

    async def write(self, work: Any) -> None:
        await work(self)

    async def execute(self, statement: Any) -> None:
        self.written = statement.compile().params


class Odd(Fetcher):
    """Fails as no library says that it may."""

    async def post(self, address: Address, *_: Any) -> int:
        raise KeyError(str(address))


def row(key: HouseKey) -> Any:
    mark = "" if key is BROKEN else key.mark_of("wh_1")
    return SimpleNamespace(
        id="msg_1", endpoint_id="wh_1", mark=mark, url="https://a.example/", body="{}", attempts=0, fence=1, until=1e9
    )


BROKEN = HouseKey(None, Path("/nowhere/hooks.key"), hosts=2)
WHOLE = HouseKey(SecretStr("k" * 43), Path("/nowhere/hooks.key"))


@pytest.mark.parametrize("key", [BROKEN, WHOLE], ids=["the key is gone", "it fails oddly"])
async def test_a_delivery_that_cannot_be_tried_waits_and_tells_no_path(key: HouseKey) -> None:
    database = Database()
    fetcher = Odd(GUARD, Bounds(1, 1, 1, 0, 0), "stoker")
    deliverer = Deliverer(cast(Any, database), ManualClock(1000.0), key, GUARD, fetcher, Patience(30, 5))
    await deliverer._tell(row(key))
    assert database.written["error"] == "it could not be tried; the keeper's log has the details"
    assert database.written["lease_until"] is None
    assert 1003 < database.written["next_at"] < 1007
