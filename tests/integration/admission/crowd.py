"""`python -m tests.integration.admission.crowd URL`: one worker process of a crowd.

Each round: a line of JSON with `limits`, `common` and `count` on its standard input, at any next line it asks so often
at once, for five tenants in turn where the limits are common to all, and prints how many were admitted.
"""

import asyncio
import json
import sys

from api.admission.admission import Admission, Ask
from api.admission.errors import LimitReached
from core.clock import SystemClock
from core.limits import Limits, Subject, SubjectKind
from storage.redis import RedisClient


async def main(url: str) -> None:
    client = RedisClient(url, 10.0)
    while line := await asyncio.to_thread(sys.stdin.readline):
        wanted = json.loads(line)
        subject = Subject(SubjectKind.MODEL, "m", Limits(**wanted["limits"]), common=wanted["common"])
        await play(client, (subject,), wanted["count"])
    await client.close()


async def play(client: RedisClient, subjects: tuple[Subject, ...], count: int) -> None:
    """The ledger of all is one number, beside what admission keeps."""

    async def spent(tenant_id: str, subject: Subject, period: str) -> int:
        return int(await client.call(lambda redis: redis.get("ledger")) or 0)

    async def one(admission: Admission, tenant: str) -> int:
        try:
            reservation = await admission.admit(Ask(tenant, "req", subjects, 10, 1_000))
        except LimitReached:
            return 0
        assert not reservation.local
        if subjects[0].common:
            await client.call(lambda redis: redis.incrby("ledger", 1_000))
        admission.settle(reservation, 10, 1_000)
        return 1

    async with Admission(client, spent, SystemClock(), deadline_s=10.0) as admission:
        await client.check()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        tenants = [f"t{at % 5}" if subjects[0].common else "acme" for at in range(count)]
        print(sum(await asyncio.gather(*(one(admission, tenant) for tenant in tenants))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
