"""What these tests share: looks into Redis and into admission."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hiredis import Reader
from redis import Redis

from api.admission.admission import Admission
from storage.scripts import Argument, Packed


def plain(args: Sequence[Argument]) -> list[Any]:
    """Arguments of a script as redis-py takes them: what was packed is unpacked."""
    found: list[Any] = []
    for one in args:
        if isinstance(one, Packed):
            reader = Reader()
            reader.feed(b"*%d\r\n%b" % (one.count, one.data))
            found += reader.gets()
        else:
            found.append(one)
    return found


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
