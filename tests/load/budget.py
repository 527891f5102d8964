"""`./stoker bench budget`: processor time of the rooms that a model request passes, each by itself, in microseconds.

What the whole request takes beyond their sum (`./stoker bench gateway`) is HTTP on both sides, the event loop, and the
system calls that send and receive.
"""

import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

_ROUNDS, _COUNT = 30, 200
_KINDS = ("key", "user", "team", "tenant", "model", "route")
_LIMITS = {"rpm": 10**8, "tpm": 10**10, "parallel": 10**5, "usd_per_day": "10000", "usd_per_month": "100000"}


def timed(work: Callable[[], object]) -> float:
    """Median of microseconds a call."""
    found = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_COUNT):
            work()
        found.append((time.process_time() - began) / _COUNT * 1e6)
    return statistics.median(found)


async def timed_turns(work: Callable[[], Awaitable[object]]) -> float:
    """The same of what 25 requests do in one turn of the event loop."""
    found = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_COUNT // 25):
            await asyncio.gather(*(work() for _ in range(25)))
        found.append((time.process_time() - began) / _COUNT * 1e6)
    return statistics.median(found)


async def measure(folder: Path) -> dict[str, float]:
    """Every room's microseconds, in the order in which a request passes them."""
    # Imported here: the metrics read where they are kept when they are made.
    from api.admission.admission import Admission, Ask, Reservation
    from api.admission.headers import rate_headers
    from api.fields import completion_bound, model_of, read_json_object, sort_fields
    from api.hot.routes import ROUTES
    from api.ledger.ledger import Ledger
    from core.clock import SystemClock
    from core.money import Price
    from core.usage import Usage
    from monitoring.record import RequestRecord, finish
    from storage.redis import RedisClient
    from tests.load.client import chat
    from tests.support.database import fresh_sqlite
    from tests.support.gate import open_gate
    from tests.support.ledger import a_line, finished
    from tests.support.valkey import valkey_server

    url = fresh_sqlite(folder / "stoker.db")
    path, model, clock = "/v1/chat/completions", "small", SystemClock()
    body = chat(8080, "key", model, tokens=4).partition(b"\r\n\r\n")[2]
    route, found = ROUTES[path], {}
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(open_gate(url, folder))
        team = (await gate.made("/v1/admin/teams", name="bench"))["id"]
        user = (await gate.made("/v1/admin/users", name="bench", team=team))["id"]
        key = await gate.key(user=user, limits=_LIMITS)
        for subject in (f"user/{user}", f"team/{team}", "tenant/default", f"model/{model}", f"route/{path}"):
            await gate.call("PUT", f"/v1/admin/limits/{subject}", json=_LIMITS)
        identities = gate.directory.identities
        identity = await identities.identify(key["key"])
        found["identity, known to the worker"] = timed(lambda: identities.cached(key["key"]))

        def fields() -> None:
            kept, _ = sort_fields(read_json_object(body), route.fields)
            route.check(kept)
            model_of(kept)
            completion_bound(kept)

        found["fields"] = timed(fields)
        redis_url = await asyncio.to_thread(stack.enter_context, valkey_server(folder / "valkey"))
        redis = RedisClient(redis_url, 1.0)
        stack.push_async_callback(redis.close)

        async def nothing_spent(*_: object) -> int:
            return 0

        admission = await stack.enter_async_context(Admission(redis, nothing_spent, clock))
        numbers, held = itertools.count(), list[Reservation]()

        async def reserve() -> None:
            subjects = identity.subjects_of(model, path)
            ask = Ask("default", f"req_{next(numbers)}", subjects, 200, 5_000, key["id"], identity.generation)
            held.append(await admission.admit(ask))

        found["admission: all limits checked and reserved by the script, 25 at once"] = await timed_turns(reserve)
        if len(held[0].metered.meters) != 5 * len(_KINDS):
            raise RuntimeError(f"{len(held[0].metered.meters)} limits hold instead of {5 * len(_KINDS)}")
        found["rate headers"] = timed(lambda: rate_headers(held[0].rate))

        async def settle() -> None:
            admission.settle(held.pop(), 100, 4_000)

        found["admission: settled, 25 at once"] = await timed_turns(settle)
        ledger = Ledger(folder / "ledger", clock)
        stack.callback(ledger.close)
        line = a_line("0123456789abcdef01234567.req_1")
        begun = [ledger.begin(line, Price()) for _ in range(_COUNT * _ROUNDS)]
        found["ledger: a line in the journal"] = timed(lambda: begun.pop().finish(finished(line)))
        found["ledger: a slot"] = timed(lambda: ledger.begin(line, Price()).drop())

        def record() -> None:
            one = RequestRecord("req_1", "POST", 0.0, path, 200, "default", key["id"], model, "small-1")
            one.usage = Usage(9, 4)
            finish(one, 0.001)

        found["metrics and log line"] = timed(record)
        while admission.unsettled:  # noqa: ASYNC110  # an empty queue sets no event
            await asyncio.sleep(0.01)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "metrics").mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
        shown, log = os.dup(2), os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 2)  # the log's lines are written, but not shown
        try:
            found = uvloop.run(measure(folder))
        finally:
            os.dup2(shown, 2)
    for room, took_us in found.items():
        print(f"| {room} | {took_us:.1f} |")
    print(f"| all of these | {sum(found.values()):.0f} |")


if __name__ == "__main__":
    main()
