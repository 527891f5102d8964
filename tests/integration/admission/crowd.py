"""`python -m tests.integration.admission.crowd URL`: one worker process of a crowd.

Each round: a line of JSON with `limits` and `count` on its standard input, at any next line it asks so often at once
and prints how many were admitted.
"""

import asyncio
import json
import sys

from api.admission.admission import Admission, Ask
from api.admission.errors import LimitReached
from core.clock import SystemClock
from core.limits import Limits, Subject, SubjectKind
from storage.redis import RedisClient


async def _nothing_spent(tenant_id: str, subject: Subject, period: str) -> int:
    return 0


async def main(url: str) -> None:
    client = RedisClient(url, 10.0)
    while line := await asyncio.to_thread(sys.stdin.readline):
        wanted = json.loads(line)
        await play(client, Limits(**wanted["limits"]), wanted["count"])
    await client.close()


async def play(client: RedisClient, limits: Limits, count: int) -> None:
    subjects = (Subject(SubjectKind.KEY, "k", limits),)

    async def one(admission: Admission) -> int:
        try:
            reservation = await admission.admit(Ask("acme", "req", subjects, 10, 1_000))
        except LimitReached:
            return 0
        assert not reservation.local
        admission.settle(reservation, 10, 1_000)
        return 1

    async with Admission(client, _nothing_spent, SystemClock(), deadline_s=10.0) as admission:
        await client.check()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(sum(await asyncio.gather(*(one(admission) for _ in range(count)))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
