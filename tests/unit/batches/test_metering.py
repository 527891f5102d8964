"""Lines of batches are reserved and billed at a factor of the price, under names that only they have."""

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from api.admission.admission import Ask
from api.batches.metering import LineMetering
from api.identities import Identity
from api.ledger import journal
from api.ledger.files import workers
from api.ledger.ledger import Ledger
from api.ledger.line import Line
from api.ledger.slots import recover
from api.metering import Metering, Size
from core.clock import ManualClock
from core.money import Price
from core.principal import Principal, Role
from core.usage import Usage
from router.deployment import Deployment, LaneName
from router.router import Bound

PRICE = Price(prompt=150_001, cached=75_000, completion=600_000)
DEPLOYMENT = Deployment("m-1", "m", "m", LaneName.NATIVE, hosted=False, price=PRICE)
IDENTITY = Identity(Principal("t", "key_1", Role.MEMBER))
NAME = "batch_1-7-3"


@dataclass
class FakeAdmission:
    """Admits everybody, and notes what was settled."""

    asks: list[Ask] = field(default_factory=list)
    settled: list[tuple[int, int]] = field(default_factory=list)

    async def admit(self, ask: Ask) -> object:
        self.asks.append(ask)
        return object()

    def settle(self, _reservation: object, tokens: int, nano_usd: int) -> None:
        self.settled.append((tokens, nano_usd))


async def billed(folder: Path, metering: Metering, ledger: Ledger) -> tuple[Line, Line]:
    """The line of one answer, as it is while it is under way and when it has ended."""
    metered = await metering.admit(IDENTITY, "/v1/chat/completions", "m", NAME, Size(100, 10), Bound(PRICE, 16))
    metered.opened(DEPLOYMENT)
    metered.count(4)
    [files] = workers(folder)
    [lost] = recover(files.slots)
    metered.finish(Usage(21, 5), "ok")
    ledger.close()
    [(lines, _)] = journal.read(files.journals()[0], 0, ended=True)
    return lost, lines[0]


@pytest.mark.parametrize("factor", [Decimal("0.5"), Decimal(1), Decimal("0.333"), Decimal(0)])
async def test_reservation_bill_and_what_a_dead_worker_leaves_have_one_price(tmp_path: Path, factor: Decimal) -> None:
    admission: Any = FakeAdmission()
    nobody: Any = None
    ledger = Ledger(tmp_path, ManualClock())
    lost, line = await billed(tmp_path, LineMetering(admission, ledger, nobody, ManualClock(), factor), ledger)
    price = PRICE.times(factor)
    assert [ask.nano_usd for ask in admission.asks] == [price.nano_usd(Usage(100, 10))]
    assert lost.nano_usd == price.nano_usd(Usage(0, 4))
    assert line.nano_usd == price.nano_usd(Usage(21, 5))
    assert admission.settled == [(26, line.nano_usd)]
    assert (lost.request_id, line.request_id, line.route) == (NAME, NAME, "/v1/chat/completions")


async def test_everybody_else_pays_the_whole_price_under_a_name_of_the_gateways(tmp_path: Path) -> None:
    admission: Any = FakeAdmission()
    nobody: Any = None
    ledger = Ledger(tmp_path, ManualClock())
    _, line = await billed(tmp_path, Metering(admission, ledger, nobody, ManualClock()), ledger)
    assert line.nano_usd == PRICE.nano_usd(Usage(21, 5))
    assert line.request_id.endswith(f".{NAME}")
    assert not line.request_id.startswith("batch")
