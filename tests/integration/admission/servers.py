"""What these tests share: looks into Redis and into admission."""

import asyncio

from redis import Redis

from api.admission.admission import Admission


def dump(redis: "Redis") -> dict[str, object]:
    """Every key of admission as it is."""
    return {name: redis.dump(name) for name in sorted(redis.keys("stoker:*"))}


async def flushed(admission: Admission) -> None:
    """Wait until every end of a reservation has reached Redis."""
    for _ in range(1_000):
        if not admission.unsettled:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{admission.unsettled} settlements did not reach Redis")
