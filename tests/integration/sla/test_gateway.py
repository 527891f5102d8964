"""The service level of a real gateway, counted by real keepers: the hours hold what a client sent, to the unit."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.sla.counting import read_folder
from monitoring.metrics import clear_folder
from tests.load.mock import MODEL
from tests.support.gateway import Gateway, entry, gateway, mock_upstream, models, workers
from tests.support.network import free_port
from tests.support.process import running

_ABSENT = "absent"  # a model whose engine nobody started
_SENT, _FAILED = 24, 6


def storm(gate: Gateway) -> None:
    """Requests on connections of their own: any worker may have each."""
    for at in range(_SENT):
        model, status = (_ABSENT, 503) if at < _FAILED else (MODEL, 200)
        body = {"model": model, "messages": [{"role": "user", "content": "Say it."}], "max_tokens": 3}
        answer = httpx.post(f"{gate.url}/v1/chat/completions", json=body, headers={"x-api-key": gate.key}, timeout=60)
        assert answer.status_code == status, answer.text


def level(gate: Gateway, route: str) -> dict[str, Any]:
    answer = httpx.get(
        f"{gate.url}/v1/admin/sla", params={"days": 2, "route": route}, headers={"x-api-key": gate.key}, timeout=60
    )
    found: dict[str, Any] = answer.raise_for_status().json()["total"]
    return found


def until(look: Callable[[], bool], seconds: float = 60) -> None:
    limit_s = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < limit_s, f"not within {seconds:g} s"
        time.sleep(0.1)


@pytest.mark.slow
def test_killed_keepers_and_workers_lose_and_double_no_request(
    tmp_path: Path, figure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mock_upstream() as upstream:
        configuration = models(
            entry(MODEL, f"http://127.0.0.1:{upstream.port}/v1").replace("/words", f"/{MODEL}"),
            entry(_ABSENT, f"http://127.0.0.1:{free_port()}/v1"),
        )
        settings = {"STOKER_WORKERS": "2"}
        with gateway(tmp_path / "g", 1, settings=settings, configuration=configuration, keeper=False) as gate:
            env = {
                "STOKER_DATA_DIR": str(gate.folder),
                "STOKER_REDIS_URL": gate.redis_url,
                "STOKER_GATEWAY_URL": gate.url,
                "PROMETHEUS_MULTIPROC_DIR": str(gate.folder / "metrics"),
            }
            command, log = [sys.executable, "-m", "api.keeper"], tmp_path / "keeper.log"
            storm(gate)
            with running(command, log, lambda: level(gate, "chat")["requests"] == _SENT, env) as keeper:
                os.kill(keeper.pid, signal.SIGKILL)
                keeper.wait()
            killed = workers(gate.pid)[0]
            os.kill(killed, signal.SIGKILL)
            until(lambda: len(set(workers(gate.pid)) - {killed}) == 2 and _is_up(gate))
            storm(gate)
            with running(command, log, lambda: level(gate, "chat")["checks"] > 0, env):
                until(lambda: level(gate, "chat")["requests"] >= 2 * _SENT)
            found = level(gate, "chat")
            assert (found["requests"], found["errors"]) == (2 * _SENT, 2 * _FAILED)
            assert found["good_checks"] == 0, "this gateway has no Milvus, and says so"
            assert found["p50_s"] > 0
            assert level(gate, "query")["requests"] == 0
            figure(f"{2 * _SENT} requests, a keeper and a worker killed: the hours hold {found['requests']}")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(gate.folder / "metrics"))
    before = read_folder()
    assert before is not None
    assert before.counts["chat"]["requests"] == 2 * _SENT
    again = read_folder()
    assert again == before
    clear_folder(gate.folder / "metrics")
    after = read_folder()
    assert after is not None
    assert after.folder != before.folder
    assert after.counts == {}


def _is_up(gate: Gateway) -> bool:
    try:
        return httpx.get(f"{gate.url}/health/live", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
