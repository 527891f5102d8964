"""A lease's heartbeat: what is held is held for as long as the work on it goes on, and no longer."""

import asyncio
from collections.abc import Awaitable, Callable

from core.clock import Clock
from core.dependency import DependencyError


async def keep(
    renew: Callable[[], Awaitable[None]],
    lost: type[Exception],
    work: asyncio.Task[None],
    clock: Clock,
    *,
    lease_s: float,
    every_s: float,
) -> None:
    """Renew a lease while the work runs; once it is lost, or can't be renewed in time, stop the work.

    Args:
        renew: raises `lost`, or DependencyError.
    """
    good_until_s = clock.monotonic() + lease_s
    while True:
        await asyncio.sleep(every_s)
        try:
            asked_s = clock.monotonic()
            await renew()
            good_until_s = asked_s + lease_s
        except lost:
            work.cancel()
            return
        except DependencyError:
            if clock.monotonic() > good_until_s:
                work.cancel()
                return
