"""The bill of an answer that several deployments gave: a segment for each, together what one answer costs."""

from pathlib import Path
from typing import cast

from api.admission.admission import Admission
from api.admission.meters import metered
from api.admission.reservation import Reservation
from api.ledger.ledger import Ledger
from api.metering import Metered
from core.clock import ManualClock
from core.money import Price
from core.principal import Principal, Role
from core.usage import Usage
from router.deployment import Deployment, LaneName
from tests.unit.ledger.test_ledger import in_journal, in_slots

DEAR = Price(prompt=2_000_000, cached=2_000_000, completion=4_000_000)
CHEAP = Price(prompt=1_000_000, cached=1_000_000, completion=1_000_000)


class Admitted:
    """What admission was told."""

    def __init__(self) -> None:
        self.settled: list[tuple[int, int]] = []
        self.released = 0

    def settle(self, _reservation: Reservation, tokens: int, nano_usd: int) -> None:
        self.settled.append((tokens, nano_usd))

    def release(self, _reservation: Reservation) -> None:
        self.released += 1


def deployment(name: str, price: Price) -> Deployment:
    return Deployment(name, "g", "m", LaneName.NATIVE, False, price=price)


def answer_of_two(folder: Path) -> tuple[Metered, Admitted, Ledger]:
    """A stream whose first deployment has broken after 100 tokens in and 10 out, with which another one goes on."""
    admitted, ledger = Admitted(), Ledger(folder, ManualClock())
    reservation = Reservation("acme", "r1", 500, 10**9, metered("acme", ()))
    principal = Principal("acme", "k", Role.MEMBER)
    bill = Metered(
        cast("Admission", admitted), ledger, reservation, principal, "/v1/chat/completions", "g", "req", ManualClock()
    )
    bill.opened(deployment("first", DEAR))
    bill.count(10)
    bill.switched(Usage(100, 10), deployment("second", CHEAP))
    return bill, admitted, ledger


def test_each_deployment_has_a_segment_at_its_own_price(tmp_path: Path) -> None:
    bill, admitted, ledger = answer_of_two(tmp_path)
    bill.count(15)
    assert [(line.segment, line.tokens_out) for line in in_slots(tmp_path)] == [(1, 5)]
    bill.finish(Usage(100, 30), "ok")
    bill.close(Usage(100, 30), left=False)
    ledger.close()
    first, second = in_journal(tmp_path)
    assert (first.segment, first.deployment, first.outcome) == (0, "first", "rescued")
    assert (first.tokens_in, first.tokens_out, first.nano_usd) == (100, 10, DEAR.nano_usd(Usage(100, 10)))
    assert (second.segment, second.deployment, second.outcome) == (1, "second", "ok")
    assert (second.tokens_in, second.tokens_out, second.nano_usd) == (0, 20, CHEAP.nano_usd(Usage(0, 20)))
    assert first.request_id == second.request_id
    assert admitted.settled == [(130, first.nano_usd + second.nano_usd)]
    assert admitted.released == 0


def test_a_prompt_that_only_the_second_can_count_is_on_its_segment(tmp_path: Path) -> None:
    bill, _, ledger = answer_of_two(tmp_path)
    bill.finish(Usage(120, 30, 60), "ok")
    ledger.close()
    assert [(line.tokens_in, line.tokens_cached) for line in in_journal(tmp_path)] == [(100, 0), (20, 20)]


def test_a_client_that_leaves_after_a_rescue_pays_for_what_was_read(tmp_path: Path) -> None:
    bill, admitted, ledger = answer_of_two(tmp_path)
    bill.close(Usage(0, 12), left=True)
    ledger.close()
    assert [(line.outcome, line.tokens_out) for line in in_journal(tmp_path)] == [("rescued", 10), ("client_left", 2)]
    assert admitted.settled[0][0] == 112
