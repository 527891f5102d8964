"""A model that is asked for more than it can: as many answers come in time as without overload, the dearest first."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from aiohttp import web

from core.priority import Priority
from tests.load.client import Connection, chat
from tests.load.mock import MODEL
from tests.support.gateway import Gateway, gateway
from tests.support.network import free_port

pytestmark = pytest.mark.heavy  # the gate's own tests are those of `router/gate.py`

_PLACES = 6
_TAKES_S = 0.2  # so the model answers 30 requests a second
_PATIENCE_S = 2.0  # of a client
_SECONDS = 6.0


@asynccontextmanager
async def engine(port: int) -> AsyncIterator[None]:
    """A model that computes so many requests at once, and lets all others wait in line."""
    places = asyncio.Semaphore(_PLACES)

    async def answer(_request: web.Request) -> web.Response:
        async with places:
            await asyncio.sleep(_TAKES_S)
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choice = {"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}
        return web.json_response({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


@contextmanager
def standing(folder: Path, port: int, *, gated: bool) -> Iterator[Gateway]:
    bound = f"max_parallel_requests: {_PLACES}, " if gated else ""
    configuration = (
        f"model_list:\n  - model_name: {MODEL}\n"
        f"    litellm_params: {{model: hosted_vllm/{MODEL}, {bound}api_base: 'http://127.0.0.1:{port}/v1'}}\n"
    )
    with gateway(folder, port, settings={"STOKER_QUEUE_S": "1.2"}, configuration=configuration, keeper=False) as one:
        yield one


class Kind(NamedTuple):
    """A caller: what the key may, and what the request asks for."""

    key: Priority
    asked: str = ""


DEAR, NORMAL, CHEAP = (Kind(priority) for priority in Priority)
HUMBLE, BOLD = Kind(Priority.INTERACTIVE, "batch"), Kind(Priority.BATCH, "interactive")
_WEIGHTS = {DEAR: 2, NORMAL: 4, CHEAP: 2, HUMBLE: 1, BOLD: 1}


@dataclass
class Seen:
    """How the requests of each kind ended: good, late, or refused."""

    ended: Counter[tuple[Kind, str]] = field(default_factory=Counter)

    @property
    def good(self) -> int:
        return sum(count for (_, how), count in self.ended.items() if how == "good")

    def share(self, kind: Kind) -> float:
        """Percent of a kind's requests that were answered in time."""
        return 100 * self.ended[kind, "good"] / sum(count for (who, _), count in self.ended.items() if who == kind)


async def offer(gate: Gateway, keys: dict[Priority, str], per_s: float) -> Seen:
    """Requests at a rate that does not wait for answers; a client that has waited too long leaves."""
    seen = Seen()
    chance = random.Random(4)

    async def one(kind: Kind) -> None:
        connection = await Connection.open(gate.port)
        try:
            request = chat(gate.port, keys[kind.key], MODEL, tokens=1, priority=kind.asked)
            reply = await asyncio.wait_for(connection.ask(request), _PATIENCE_S)
        except TimeoutError:
            seen.ended[kind, "late"] += 1
        else:
            seen.ended[kind, {200: "good", 503: "refused"}.get(reply.status, str(reply.status))] += 1
        finally:
            connection.close()

    tasks = []
    began = time.monotonic()
    for number in range(int(per_s * _SECONDS)):
        await asyncio.sleep(max(0.0, began + number / per_s - time.monotonic()))
        tasks.append(asyncio.create_task(one(chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0])))
    await asyncio.gather(*tasks)
    return seen


async def test_overload_costs_no_good_answers_and_the_cheapest_are_refused_first(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    capacity = _PLACES / _TAKES_S
    found: dict[tuple[bool, float], Seen] = {}
    port = free_port()
    async with engine(port):
        for gated in (True, False):
            with contextlib.ExitStack() as stack:
                gate = await asyncio.to_thread(stack.enter_context, standing(tmp_path / f"{gated}", port, gated=gated))
                keys = await asyncio.to_thread(_keys, gate)
                for load in (0.8, 3.0):
                    found[gated, load] = await offer(gate, keys, capacity * load)
                    await asyncio.sleep(1)
                await asyncio.to_thread(stack.close)
    for gated in (True, False):
        calm, storm = found[gated, 0.8], found[gated, 3.0]
        shares = ", ".join(f"{' as '.join(filter(None, kind))} {storm.share(kind):.0f} %" for kind in _WEIGHTS)
        figure(
            f"{'with' if gated else 'without'} a gate: {calm.good} good answers at 0.8 times what the model can, "
            f"{storm.good} at 3 times ({shares})"
        )
    calm, storm = found[True, 0.8], found[True, 3.0]
    assert {how for _, how in calm.ended | storm.ended} <= {"good", "late", "refused"}
    assert storm.good >= 0.7 * calm.good
    assert storm.share(DEAR) > 60, "the dearest are not answered first"  # without a gate: some 9 %
    assert storm.share(DEAR) >= storm.share(NORMAL) >= storm.share(CHEAP)
    assert max(map(storm.share, (CHEAP, HUMBLE, BOLD))) < 60, "a request asked for more than its key may"


def _keys(gate: Gateway) -> dict[Priority, str]:
    limits = {"rpm": 10**6, "tpm": 10**9, "parallel": 10**4}
    with httpx.Client(base_url=gate.url, headers={"authorization": f"Bearer {gate.key}"}) as admin:
        return {
            priority: admin.post(
                "/v1/admin/keys", json={"name": priority, "limits": limits, "priority": priority}
            ).json()["key"]
            for priority in Priority
        }
