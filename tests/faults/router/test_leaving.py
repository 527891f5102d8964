"""A client that leaves: its upstream is cut off within 100 ms, by the upstream's own log."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from router.call import Call
from router.deployment import Deadlines, Deployment, LaneName
from router.router import Router, open_router
from tests.faults.router.calls import chat
from tests.integration.router.calls import config
from tests.support.exact.faults import Failure, Fault
from tests.support.exact.server import ExactServer, exact_server

_TIMES = 5
_LIMIT_S = 1.0  # what is asserted, on a machine that has other work; what is promised is 0.1 s
_DEADLINES = Deadlines(connect_s=2, first_token_s=20, between_tokens_s=20, total_s=60, embedding_s=60)


def _deployment(server: ExactServer, lane: LaneName, kind: str) -> Deployment:
    model = server.model if lane is LaneName.NATIVE else f"openai/{server.model}"
    return Deployment(
        "d", "g", model, lane, lane is LaneName.LITELLM, "embedding" if kind == "embedding" else "chat",
        api_base=server.base_url, api_key="sk-test", deadlines=_DEADLINES,
    )  # fmt: skip


def _call(kind: str) -> Call:
    if kind == "embedding":
        call = chat(stream=False)
        return replace(call, kind="embeddings", body={"model": "g", "input": ["a", "b"]})
    return chat(stream=kind != "whole", max_tokens=2000)


async def _leave(router: Router, server: ExactServer, kind: str) -> float:
    """Ask, and leave in the middle. Returns: the reading of the monotonic clock when the client left."""
    if kind == "stream":
        answer = await router.open(_call(kind))
        assert answer.frames is not None
        await anext(answer.frames)
        left_s = time.monotonic()
        await answer.aclose()
        return left_s
    before = len(server.log)
    opening = asyncio.create_task(router.open(_call(kind)))
    while len(server.log) == before and not opening.done():  # noqa: ASYNC110  # a log sets no event
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    left_s = time.monotonic()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    return left_s


@pytest.mark.parametrize("kind", ["stream", "stream before its first token", "whole", "embedding"])
@pytest.mark.parametrize("lane", [LaneName.NATIVE, pytest.param(LaneName.LITELLM, marks=pytest.mark.slow)])
async def test_an_upstream_is_cut_off_when_its_client_leaves(
    lane: LaneName, kind: str, figure: Callable[[str], None]
) -> None:
    took_s = []
    async with exact_server() as server, open_router(config(_deployment(server, lane, kind))) as router:
        server.pause_s = 0.02
        if kind in ("stream before its first token", "embedding"):
            server.failure = Failure(Fault.LATE, late_s=10)
        for _ in range(_TIMES):
            left_s = await _leave(router, server, kind)
            ends_s = left_s + _LIMIT_S
            while server.log[-1].left_s is None and time.monotonic() < ends_s:  # noqa: ASYNC110  # a log sets no event
                await asyncio.sleep(0.001)
            noticed_s = server.log[-1].left_s
            assert noticed_s is not None, "the upstream works on for a client that has left"
            took_s.append(noticed_s - left_s)
            assert not server.log[-1].ended
        assert len(server.log) == _TIMES
        assert router.status()[0].state == "closed"
    figure(f"upstream cut off after {statistics.median(took_s) * 1000:.1f} ms, at most {max(took_s) * 1000:.1f} ms")
    assert max(took_s) < _LIMIT_S
