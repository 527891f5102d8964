"""Every outbound call has a deadline and a breaker: this is the one helper that gives it both.

DependencyError
├── DependencyUnavailable   the breaker is open, or the part refused the connection
└── DependencyTimeout       the deadline passed
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from core.breaker import Breaker, BreakerPolicy, BreakerState, Permit
from core.clock import Clock, SystemClock

T = TypeVar("T")


class DependencyError(Exception):
    """A part that Stoker stands on did not answer.

    Attributes:
        name: the part, as `/status` names it.
        retry_after_s: seconds after which a new try makes sense; at least 1.
    """

    def __init__(self, name: str, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.name = name
        self.retry_after_s = max(1.0, retry_after_s)


class DependencyUnavailable(DependencyError):
    """The part is known to be away, or the connection failed."""


class DependencyTimeout(DependencyError):
    """The part did not answer within its deadline."""


class Dependency:
    """One outbound part: a name, a deadline, a breaker, and which of its exceptions mean "away".

    Args:
        name: as `/status` and the metrics name it.
        deadline_s: seconds for one call unless the call says otherwise.
        outages: exceptions that count as the part being away; any other passes through as an answer
            (a refused query is no outage) and counts as a success of the part.
    """

    def __init__(
        self,
        name: str,
        deadline_s: float,
        outages: tuple[type[BaseException], ...] = (OSError,),
        policy: BreakerPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self._deadline_s = deadline_s
        self._outages = outages
        self._breaker = Breaker(policy or BreakerPolicy(), clock or SystemClock())

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    def acquire(self) -> Permit:
        """Ask the breaker for one call by a caller who keeps a deadline himself, and reports.

        Raises: DependencyUnavailable: the breaker refuses.
        """
        permit = self._breaker.acquire()
        if permit is None:
            raise DependencyUnavailable(
                self.name, f"{self.name} has been failing and is being rested", self._breaker.retry_after_s()
            )
        return permit

    def report(self, permit: Permit, *, ok: bool) -> None:
        """Say how a call went for which `acquire` was asked."""
        self._breaker.report(permit, ok=ok)

    def withdraw(self, permit: Permit) -> None:
        """End such a call without a verdict: its caller left."""
        self._breaker.withdraw(permit)

    async def call(self, work: Callable[[], Awaitable[T]], deadline_s: float | None = None) -> T:
        """Run `work` once under deadline and breaker.

        Raises:
            DependencyUnavailable: the breaker refuses, or an outage was raised.
            DependencyTimeout: the deadline passed; `work` was cancelled.
        """
        permit = self.acquire()
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        task = asyncio.current_task()
        cancels = task.cancelling() if task is not None else 0
        try:
            async with asyncio.timeout(limit_s) as scope:
                result = await work()
            if task is not None and task.cancelling() > cancels:
                # A library swallowed the cancel (redis-py 8.1 does at times): its caller must end all the same.
                raise asyncio.CancelledError
        except TimeoutError as error:
            self._breaker.report(permit, ok=False)
            if scope.expired():
                raise DependencyTimeout(self.name, f"{self.name} did not answer within {limit_s:g} s") from error
            raise DependencyUnavailable(self.name, f"{self.name} timed out") from error
        except asyncio.CancelledError:
            self._breaker.withdraw(permit)
            raise
        except self._outages as error:
            self._breaker.report(permit, ok=False)
            raise DependencyUnavailable(self.name, f"{self.name} can't be reached ({type(error).__name__})") from error
        except BaseException:
            self._breaker.report(permit, ok=True)
            raise
        self._breaker.report(permit, ok=True)
        return result
