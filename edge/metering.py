"""Calls of the model in the house of whoever holds the folder: nobody bills them."""

from collections.abc import Mapping

from api.identities import Identity
from api.ledger.line import Outcome
from api.metering import Size
from core.usage import Usage
from router.deployment import Deployment
from router.router import Bound


class Unbilled:
    """As `api.answers.bill.Account`."""

    nano_usd = 0

    def rate_headers(self) -> Mapping[str, str]:
        return {}

    def opened(self, deployment: Deployment) -> None: ...

    def switched(self, usage: Usage, deployment: Deployment, outcome: Outcome = "rescued") -> None: ...

    def count(self, tokens_out: int) -> None: ...

    def finish(self, usage: Usage, outcome: Outcome, status: int = 200) -> None: ...

    def close(self, usage: Usage, *, left: bool) -> None: ...


class Unmetered:
    """As `api.answers.reservations.Admits`."""

    async def admit(
        self,
        identity: Identity,
        route: str,
        group: str,
        request_id: str,
        size: Size,
        bound: Bound,
    ) -> Unbilled:
        return Unbilled()
