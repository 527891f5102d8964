"""How long the alerts' webhook is left alone when it takes nothing."""

from typing import Any

from api.ledger.webhook import Webhook
from core.clock import ManualClock

TRIES = 1_100  # a number doubled 1,024 times is too large for a float: some four days of failures


class Deaf(Webhook):
    """One that has an alert to tell, and nobody who takes it."""

    tries = 0

    async def _waiting(self) -> list[Any]:
        return [None]

    async def _body(self, _alert: object) -> dict[str, Any]:
        return {}

    async def _post(self, _body: object) -> bool:
        self.tries += 1
        return False


async def test_a_webhook_that_failed_a_thousand_times_is_tried_as_often_as_before() -> None:
    none: Any = None
    clock = ManualClock()
    webhook = Deaf(none, clock, none, "")
    for number in range(1, TRIES + 1):
        assert await webhook.deliver() == 0
        assert webhook.tries == number
        clock.advance(299.9)
        if number > 20:
            assert await webhook.deliver() == 0
            assert webhook.tries == number, "it rests"
        clock.advance(0.1)
