"""`python -m tests.integration.admission.crowd URL LIMITS COUNT`: one worker process of a crowd.

Asks COUNT times at once when told to on its standard input, and prints how many were admitted.
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


async def main(url: str, limits: Limits, count: int) -> None:
    subjects = (Subject(SubjectKind.KEY, "k", limits),)
    client = RedisClient(url, 10.0)

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
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Limits(**json.loads(sys.argv[2])), int(sys.argv[3])))
