"""Tells the metrics which breakers of a worker are open and whom its router leaves out."""

from collections.abc import Sequence

from core.breaker import BreakerState
from core.dependency import Dependency
from monitoring.metrics import DEPLOYMENT_EJECTED, DEPLOYMENT_OPEN, PART_OPEN
from router.router import Router


class Breakers:
    """Of one worker; the metrics take the worst of all workers.

    Args:
        parts: whose breakers are looked at.
    """

    def __init__(self, parts: Sequence[Dependency], router: Router) -> None:
        self._parts = parts
        self._router = router
        self._ejected: set[tuple[str, str]] = set()
        self._names: set[str] = set()

    async def look(self) -> None:
        """Say how things are now; who has left the configuration is not out of turn any more."""
        for part in self._parts:
            PART_OPEN.labels(part.name).set(part.state is not BreakerState.CLOSED)
        found = self._router.status()
        names = {status.name for status in found}
        for status in found:
            DEPLOYMENT_OPEN.labels(status.name).set(status.state != BreakerState.CLOSED.value)
        for name in self._names - names:
            DEPLOYMENT_OPEN.labels(name).set(0)
        ejected = {(status.name, status.ejected) for status in found if status.ejected is not None}
        for name, reason in ejected | self._ejected:
            DEPLOYMENT_EJECTED.labels(name, reason).set((name, reason) in ejected)
        self._names, self._ejected = names, ejected
