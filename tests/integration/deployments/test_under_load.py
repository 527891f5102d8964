"""Deployments are added, drained and removed, and the configuration is read anew, while 2,000 requests run."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests.load.client import Connection, chat
from tests.load.mock import MODEL
from tests.support.gateway import Gateway, Upstream, mock_upstream

_REQUESTS = 2000
_CLIENTS = 16
_PATIENCE_S = 60.0


def entry(port: int, name: str) -> dict[str, Any]:
    return {
        "model_name": MODEL,
        "litellm_params": {"model": f"hosted_vllm/{MODEL}", "api_base": f"http://127.0.0.1:{port}/v1"},
        "model_info": {"id": name},
    }


async def until(is_so: Callable[[], Any], what: str) -> None:
    by_s = time.monotonic() + _PATIENCE_S
    while not await asyncio.to_thread(is_so):
        assert time.monotonic() < by_s, what
        await asyncio.sleep(0.1)


class Load:
    """Clients that ask one request after the other, every second one for a stream of a quarter second."""

    def __init__(self, standing: Gateway) -> None:
        self._standing = standing
        self._left = _REQUESTS
        self.ended: Counter[str] = Counter()
        self.halted = False

    async def run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(_CLIENTS)))

    async def _client(self) -> None:
        connection = await Connection.open(self._standing.port)
        while self._left > 0 or not self.halted:
            self._left -= 1
            stream = self._left % 2 == 0
            asked = chat(self._standing.port, self._standing.key, MODEL, tokens=8, stream=stream, pause_ms=30)
            reply = await connection.ask(asked)
            whole = reply.body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") if stream else b'"usage"' in reply.body
            failed = reply.status != 200 or not whole or b'"error"' in reply.body
            self.ended["failed" if failed else "stream" if stream else "whole"] += 1
            if failed:
                print(reply.status, reply.body[-300:])
        connection.close()


async def test_none_of_2000_requests_fails(
    standing: Gateway, upstream: Upstream, admin: httpx.Client, figure: Callable[[str], None]
) -> None:
    load, file = Load(standing), standing.folder / "stoker.yaml"
    text = file.read_text()

    def shown(name: str) -> dict[str, Any]:
        said: dict[str, Any] = admin.get(f"/v1/admin/deployments/{name}").raise_for_status().json()
        return said

    with ExitStack() as stack:
        running = asyncio.create_task(load.run())
        acts: Counter[str] = Counter()
        for round_ in range(3):
            name, leaving = f"replica-{round_}", stack.enter_context(ExitStack())
            replica = leaving.enter_context(mock_upstream())
            added = await asyncio.to_thread(admin.post, "/v1/admin/deployments", json=entry(replica.port, name))
            assert added.status_code == 201, added.text
            await until(lambda replica=replica: len(replica.log) > 50, "the new one is given calls")
            await asyncio.to_thread(_rewrite, file, text.replace("input_cost", f"weight: {round_ + 2}, input_cost"))
            await until(lambda weight=round_ + 2: shown(f"{MODEL}-1")["weight"] == weight, "the file is read anew")
            drained = await asyncio.to_thread(admin.patch, f"/v1/admin/deployments/{name}", json={"state": "draining"})
            assert drained.status_code == 200, drained.text
            await until(lambda name=name: shown(name)["state"] == "drained", "it has no calls any more")
            asked = len(replica.log)
            await asyncio.to_thread(leaving.close)  # its server ends
            removed = await asyncio.to_thread(admin.delete, f"/v1/admin/deployments/{name}")
            assert removed.status_code == 200, removed.text
            assert len(replica.log) == asked
            acts.update({"add": 1, "drain": 1, "remove": 1, "reload": 1})
        await asyncio.to_thread(file.write_text, text.replace("hosted_vllm", "model: {"))
        await until(
            lambda: admin.get("/v1/admin/deployments").json()["configuration"]["error"], "a broken file is told of"
        )
        acts["broken file"] += 1
        await asyncio.to_thread(_rewrite, file, text)
        await until(
            lambda: admin.get("/v1/admin/deployments").json()["configuration"]["error"] is None, "and a mended one"
        )
        load.halted = True
        await running
    figure(f"{sum(load.ended.values())} requests while {dict(acts)}: {dict(load.ended)}")
    assert sum(load.ended.values()) >= _REQUESTS
    assert load.ended["failed"] == 0
    told = (await asyncio.to_thread(admin.get, "/metrics")).text
    assert "stoker_rescues_total{" not in told, "no stream had to be rescued either"


def _rewrite(file: Path, text: str) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, file)
