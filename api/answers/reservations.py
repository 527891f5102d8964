"""The reservations of one question: each call of a model has its own, and none stands in another's way."""

import asyncio
from typing import Protocol

from api.admission.errors import Dimension, LimitReached
from api.answers.bill import Account
from api.identities import Identity
from api.metering import Size
from router.router import Bound

_LOOK_S = 0.02
_SETTLES_S = 0.5  # in which what a call has given back is there again


class Admits(Protocol):
    """Says what a call of a model may use."""

    async def admit(
        self, identity: Identity, route: str, group: str, request_id: str, size: Size, bound: Bound
    ) -> Account:
        """Reserve the most that it can use. Raises: LimitReached, NotAuthenticated; DependencyError."""
        ...


class Reservations:
    """Admits the calls of one question.

    Several of them run at once, and each reserves the most that it can use. Where that is more than a limit leaves, but
    what the question itself holds is part of the reason, a call waits for the others to end: a key that may ask one
    thing at a time can ask with query work too.
    """

    def __init__(self, metering: Admits, identity: Identity, route: str) -> None:
        self._metering = metering
        self._identity = identity
        self._route = route
        self._asking = 0
        self._held = 0
        self._ended_s = float("-inf")

    async def admit(self, group: str, request_id: str, size: Size, bound: Bound) -> Account:
        """Reserve the most that one call can use; say `ended` when it is over.

        Raises: as `Metering.admit`.
        """
        while True:
            self._asking += 1
            try:
                metered = await self._metering.admit(self._identity, self._route, group, request_id, size, bound)
                self._held += 1
                return metered
            except LimitReached as error:
                refusal = error
            finally:
                self._asking -= 1
            # A request counts for its minute however short it was.
            if refusal.dimension is Dimension.REQUESTS or not self._comes_back():
                raise refusal
            await asyncio.sleep(_LOOK_S)

    def ended(self) -> None:
        """A call is over, and gives back what it did not use."""
        self._held -= 1
        self._ended_s = asyncio.get_running_loop().time()

    def _comes_back(self) -> bool:
        """Whether something of the question's own is held, or has just been given back."""
        since_s = asyncio.get_running_loop().time() - self._ended_s
        return self._held > 0 or self._asking > 0 or since_s < _SETTLES_S
