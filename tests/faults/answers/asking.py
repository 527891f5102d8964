"""Clients that ask one question after the other, in one piece and streamed, and what became of each."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import httpx

Kind = Literal["whole", "degraded", "503", "bad"]

QUESTION = "When does the ferry to Wellhaven leave?"
PATIENCE_S = 60.0  # beyond this an answer counts as one that never came


@dataclass(frozen=True, slots=True)
class Told:
    """One answer; `began_s` on the monotonic clock.

    Attributes:
        kind: `bad` is what a client must never see.
        why: the reason of what is not whole.
    """

    began_s: float
    took_s: float
    streamed: bool
    kind: Kind
    why: str = ""


@dataclass
class Load:
    """All answers so far."""

    told: list[Told] = field(default_factory=list)

    def since(self, began_s: float) -> list[Told]:
        """Those that were asked for since then."""
        return [one for one in self.told if one.began_s >= began_s]

    def within(self, since_s: float, until_s: float) -> list[Told]:
        """Those that were under way at some time in between."""
        return [one for one in self.told if one.began_s < until_s and one.began_s + one.took_s >= since_s]


def kinds(told: Iterable[Told]) -> Counter[str]:
    return Counter(one.kind for one in told)


@asynccontextmanager
async def load(url: str, key: str, collection: str, clients: int = 6, pause_s: float = 0.2) -> AsyncIterator[Load]:
    """Ask until the block ends, each client in turns for one piece and for a stream."""
    found, halt = Load(), asyncio.Event()
    body = {"query": QUESTION, "collection": collection}

    async def work(client: httpx.AsyncClient, first: int) -> None:
        for number in count(first):
            if halt.is_set():
                return
            found.told.append(await _asked(client, {**body, "stream": number % 2 == 1}))
            await asyncio.sleep(pause_s)

    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S) as client:
        tasks = [asyncio.create_task(work(client, first)) for first in range(clients)]
        try:
            yield found
        finally:
            halt.set()
            await asyncio.gather(*tasks)


async def _asked(client: httpx.AsyncClient, body: dict[str, Any]) -> Told:
    began_s, kind, why = time.monotonic(), "bad", ""
    try:
        answer = await client.post("/v1/query", json=body)
        kind, why = _read(answer, streamed=body["stream"])
    except httpx.HTTPError as error:
        why = f"{type(error).__name__}: {error}"
    return Told(began_s, time.monotonic() - began_s, body["stream"], kind, why)  # type: ignore[arg-type]


def _read(answer: httpx.Response, *, streamed: bool) -> tuple[str, str]:
    """What kind of answer it is, and why it is not whole."""
    if answer.status_code == 503:
        return _refusal(answer.json(), retry="retry-after" in answer.headers)
    if answer.status_code != 200:
        return "bad", f"{answer.status_code} {answer.text}"
    if not streamed:
        return _answer(answer.json())
    *_, last = [event for event in answer.text.split("\n\n") if event]
    name, data = (line.partition(": ")[2] for line in last.split("\n"))
    if name == "done":
        return _answer(json.loads(data))
    if name == "error":  # the status was sent long before
        return _refusal(json.loads(data), retry=True)
    return "bad", f"the stream stopped at {last[:200]}"


def _answer(done: dict[str, Any]) -> tuple[str, str]:
    if not done["degraded"]:
        return ("whole", "") if done["citations"] and "07:45" in done["answer"] else ("bad", str(done))
    return ("degraded", done["degraded_reason"]) if done.get("degraded_reason") else ("bad", str(done))


def _refusal(body: dict[str, Any], *, retry: bool) -> tuple[str, str]:
    error = body["error"]
    clear = retry and error["type"] == "service_unavailable" and error["message"]
    return ("503" if clear else "bad"), str(error["message"] if clear else body)
