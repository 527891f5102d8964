"""What lines of batches are billed by: the model's price times a factor, in the ledger under names of their own.

The route of a line is its endpoint's, so that limits and budgets of that route hold for batches as for everybody, and
so that the ledger can be summed for them. That it was a batch, its name says: `BATCH-LINE-FENCE`. No client's request
has such a name, since those begin with digits of the gateway's own.
"""

from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

from api.admission.admission import Admission
from api.identities import Identities, Identity
from api.ledger.ledger import Ledger
from api.ledger.line import Outcome
from api.metering import Metered, Metering, Size
from core.clock import Clock
from core.usage import Usage
from router.deployment import Deployment
from router.router import Bound


class LineMetering(Metering):
    """One for each worker.

    Args:
        factor: of the price, for what is reserved and for what is billed.
    """

    def __init__(
        self, admission: Admission, ledger: Ledger, identities: Identities, clock: Clock, factor: Decimal
    ) -> None:
        super().__init__(admission, ledger, identities, clock)
        self._factor = factor
        self._kind = partial(_MeteredLine, factor=factor)

    async def admit(
        self, identity: Identity, route: str, group: str, request_id: str, size: Size, bound: Bound
    ) -> Metered:
        """Reserve the most that the line can use. Raises: as `Metering.admit`."""
        bound = replace(bound, price=bound.price.times(self._factor))
        return await super().admit(identity, route, group, request_id, size, bound)


class _MeteredLine(Metered):
    def __init__(self, *args: Any, factor: Decimal) -> None:
        super().__init__(*args)
        self._factor = factor

    def opened(self, deployment: Deployment) -> None:
        super().opened(self._priced(deployment))

    def switched(self, usage: Usage, deployment: Deployment, outcome: Outcome = "rescued") -> None:
        super().switched(usage, self._priced(deployment), outcome)

    @staticmethod
    def _name_line(request_id: str) -> str:
        return request_id

    def _priced(self, deployment: Deployment) -> Deployment:
        return replace(deployment, price=deployment.price.times(self._factor))
