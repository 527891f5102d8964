"""`./stoker bench search`: how long a search takes while documents come in as fast as they can be embedded, and while
none do.

A whole stack on real parts; rounds alternate between the two, so that a slow minute meets both.
"""

import argparse
import asyncio
import random
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import uvloop

from tests.load.client import Connection
from tests.support.network import free_port
from tests.support.stack import Stack, start_stack

_COLLECTION = "bench"
_AT_ONCE = 50  # documents in one call
_WORDS = (
    "harbour lighthouse keeper winter ledger engine valve pressure gauge signal cargo manifest anchor rope tide pilot "
    "chart compass storm lantern crew captain bridge dock crane customs officer invoice tariff grain timber copper salt"
).split()


@dataclass
class Phase:
    """Searches of one kind: seconds each took, over all rounds; how many had only one leg; chunks that came in."""

    name: str
    seconds: list[float] = field(default_factory=list)
    degraded: int = 0
    chunks: int = 0
    lasted_s: float = 0.0

    def percentile(self, share: int) -> float:
        return statistics.quantiles(self.seconds, n=100)[share - 1]


def documents(of: random.Random, count: int) -> list[dict[str, Any]]:
    """Texts of about four chunks that nobody has sent before."""

    def sentence() -> str:
        return " ".join(of.choice(_WORDS) for _ in range(14)).capitalize() + f" {of.randrange(10**6)}."

    def paragraph() -> str:
        return " ".join(sentence() for _ in range(6))

    return [
        {"title": f"note {of.randrange(10**12)}", "content": "\n\n".join(paragraph() for _ in range(5))}
        for _ in range(count)
    ]


def request_of(port: int, key: str, of: random.Random) -> bytes:
    """A hybrid search for a few words."""
    text = " ".join(of.choice(_WORDS) for _ in range(6))
    body = httpx.Request("POST", "http://x/", json={"collection": _COLLECTION, "query": text, "top_k": 10}).content
    head = (
        f"POST /v1/search HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def search(port: int, key: str, of: random.Random, count: int, phase: Phase) -> None:
    """One search after the other, as one person would."""
    connection = await Connection.open(port)
    for _ in range(count):
        reply = await connection.ask(request_of(port, key, of))
        if reply.status != 200:
            raise RuntimeError(f"status {reply.status}: {reply.body[-300:]!r}")
        phase.seconds.append(reply.total_s)
        phase.degraded += b'"degraded":true' in reply.body
    connection.close()


class Flood:
    """Documents that come in all the time while the block runs; what is not in by then is cancelled."""

    def __init__(self, client: httpx.AsyncClient, of: random.Random) -> None:
        self._client = client
        self._of = of
        self._jobs: list[str] = []

    async def __aenter__(self) -> None:
        for _ in range(2):
            await self._send()
        while not await self._has_begun():  # noqa: ASYNC110  # another process sets no event of ours
            await asyncio.sleep(0.1)
        self._task = asyncio.create_task(self._keep_coming())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for job in self._jobs:
            await self._client.delete(f"/v1/jobs/{job}")
        await asyncio.sleep(3)  # what was under way ends, and is swept up

    async def _send(self) -> None:
        body = {"collection": _COLLECTION, "documents": documents(self._of, _AT_ONCE)}
        answer = await self._client.post("/v1/ingest", json=body)
        self._jobs.append(answer.raise_for_status().json()["job_id"])

    async def _keep_coming(self) -> None:
        while True:
            last = (await self._client.get(f"/v1/jobs/{self._jobs[-1]}")).json()
            if any(document["status"] != "queued" for document in last["documents"]):
                await self._send()  # the last lot has begun: the next waits behind it
            await asyncio.sleep(0.5)

    async def _has_begun(self) -> bool:
        first = (await self._client.get(f"/v1/jobs/{self._jobs[-2]}")).json()
        return any(document["status"] == "ready" for document in first["documents"])


async def measure(stack: Stack, rounds: int, searches: int, base: int) -> None:
    """Print both kinds beside each other."""
    of = random.Random(7)  # the same texts in each run
    stack.client.post("/v1/collections", json={"name": _COLLECTION}).raise_for_status()
    for _ in range(0, base, _AT_ONCE):
        stack.ingest(_COLLECTION, documents(of, _AT_ONCE))
    port = int(stack.url.rpartition(":")[2])
    idle, busy = Phase("no document comes in"), Phase("documents come in")
    await search(port, stack.admin_key, of, 30, Phase("warm"))
    async with httpx.AsyncClient(base_url=stack.url, headers=stack.client.headers, timeout=120) as client:

        async def chunks() -> int:
            return int((await client.get(f"/v1/collections/{_COLLECTION}")).json()["chunks"])

        for _ in range(rounds):
            await search(port, stack.admin_key, of, searches, idle)
            async with Flood(client, of):
                before, began_s = await chunks(), time.perf_counter()
                await search(port, stack.admin_key, of, searches, busy)
                busy.lasted_s += time.perf_counter() - began_s
                busy.chunks += await chunks() - before
        total = await chunks()
    print("| | p50 ms | p90 ms | p99 ms | chunks/s coming in | degraded |\n" + "|" + " --- |" * 6)
    for phase in (idle, busy):
        cells = [phase.name, *(f"{phase.percentile(share) * 1e3:.1f}" for share in (50, 90, 99))]
        rate = phase.chunks / phase.lasted_s if phase.lasted_s else 0.0
        print("| " + " | ".join([*cells, f"{rate:.1f}", str(phase.degraded)]) + " |")
    print(
        f"p99 while documents come in is {busy.percentile(99) / idle.percentile(99):.2f} times the idle one; "
        f"{len(idle.seconds)} searches of each kind, {total} chunks at the end"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--searches", type=int, default=200, help="of each kind in each round")
    parser.add_argument("--base", type=int, default=200, help="documents that are there before")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        config = Path(name) / "stoker.yaml"
        config.write_text(
            "model_list:\n  - model_name: absent\n    litellm_params:\n      model: hosted_vllm/absent\n"
            f"      api_base: http://127.0.0.1:{free_port()}/v1\n"
        )
        flags = ("--engine", "none", "--no-demo", "--config", str(config))
        with start_stack(Path(name) / "data", *flags) as stack:
            uvloop.run(measure(stack, arguments.rounds, arguments.searches, arguments.base))


if __name__ == "__main__":
    main()
