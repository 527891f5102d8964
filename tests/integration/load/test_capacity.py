"""The gateway in front of a model that can only do so much: a hundred users, and ten times what it can.

The gateway has a core to itself; the model, which only keeps time, and the client share the other one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.load.gateway import cpu_s
from tests.support.gateway import Gateway, gateway
from tests.support.paced import PacedServer, paced_server
from tests.support.process import ROOT

Figure = Callable[[str], None]

pytestmark = [
    pytest.mark.heavy,  # the gate's own tests are those of `router/gate.py`
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core for the gateway, and one for its client"),
]

_QUEUE_S = 1.0
_OUTPUT_TOKENS = 32
_PER_PLACE = 2.1  # answers a second: 0.12 s to the first token and 10 ms for each of 35
_SLO = ("--slo", "ttft=2", "--slo", "tpot=0.05", "--slo", "e2e=3")


@dataclass(frozen=True)
class House:
    """A gateway with one worker on a core of its own, and the model behind it."""

    gateway: Gateway
    model: PacedServer
    key: str
    core: int
    folder: Path

    def load(self, name: str, *flags: str) -> dict[str, Any]:
        """The report of a load."""
        folder = self.folder / name
        output = ("--output-tokens", str(_OUTPUT_TOKENS), "--model", "mock", *_SLO)
        command = [sys.executable, "-m", "tests.load.load", "--url", self.gateway.url, *output, *flags]
        done = subprocess.run(
            ["taskset", "-c", str(self.core), *command, "--report", str(folder), "--timeout", "30"],
            cwd=ROOT,
            env={**os.environ, "LOAD_API_KEY": self.key},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode in (0, 3), done.stdout + done.stderr
        found: dict[str, Any] = json.loads((folder / "report.json").read_text())
        return found


@contextmanager
def house(folder: Path, places: int) -> Iterator[House]:
    cores = sorted(os.sched_getaffinity(0))
    pin = ("taskset", "-c", str(cores[0]))
    pace = ("--places", str(places), "--ttft-ms", "100", "--gap-ms", "10")
    with paced_server(folder / "model", *pace, prefix=pin) as model:
        configuration = (
            "model_list:\n  - model_name: mock\n    litellm_params: {model: hosted_vllm/mock, "
            f"max_parallel_requests: {places}, api_base: '{model.url}/v1'}}\n"
        )
        with gateway(
            folder / "gateway",
            model.port,
            settings={"STOKER_QUEUE_S": str(_QUEUE_S), "STOKER_SQL_DEADLINE_S": "30"},
            prefix=("taskset", "-c", str(cores[1])),
            configuration=configuration,
        ) as one:
            yield House(one, model, _key(one), cores[0], folder)


def test_a_hundred_users_are_served_without_an_error(tmp_path: Path, figure: Figure) -> None:
    with house(tmp_path, places=16) as one:
        found = one.load("users", "--users", "100", "--think", "2.5", "--duration", "20", "--warmup", "4")
    figure(f"100 users: {_shown(found)}")
    assert found["failures"] == {}
    assert found["e2e_s"]["p95"] < 5


def test_ten_times_what_it_can_costs_no_good_answers_and_refusals_are_quick(tmp_path: Path, figure: Figure) -> None:
    places = 6
    with house(tmp_path, places) as one:
        calm = [one.load(f"at-{times}", *_rate(places, times)) for times in (0.9, 1.2)]
        before, used_s = one.gateway.log.count("\n"), cpu_s(one.gateway.pid)
        storm = one.load("at-10", *_rate(places, 10))
        used_s = cpu_s(one.gateway.pid) - used_s
        lines = [json.loads(line) for line in one.gateway.log.splitlines()[before:]]
    requests = [line for line in lines if line.get("event") == "request" and line["route"] == "/v1/chat/completions"]
    refused = [line["duration_ms"] for line in requests if line["status"] in (429, 503)]
    peak = max(found["goodput_per_s"] for found in calm)
    kept = storm["goodput_per_s"] / peak
    p50, p99 = (float(value) for value in np.percentile(refused, (50, 99)))
    for times, found in zip((0.9, 1.2, 10), (*calm, storm), strict=True):
        figure(f"{times:4g} times {places * _PER_PLACE:.1f} requests/s: {_shown(found)}")
    vain = sum(took_ms >= 900 * _QUEUE_S for took_ms in refused)
    figure(
        f"goodput at ten times: {kept:.1%} of the peak; {len(refused)} refusals took {p50:.1f} ms at the median in the "
        f"gateway, {p99:.1f} at p99, and {vain} had waited in vain; {used_s / len(requests) * 1e3:.2f} ms of its "
        "processor for each request"
    )
    assert set(storm["failures"]) <= {"status 503 overloaded"}
    assert kept > 0.75
    assert p50 < 20


def _rate(places: int, times: float) -> tuple[str, ...]:
    return ("--rate", str(places * _PER_PLACE * times), "--duration", "15", "--warmup", "3", "--cooldown", "1")


def _shown(found: dict[str, Any]) -> str:
    failures = ", ".join(f"{count} {what}" for what, count in found["failures"].items()) or "no failure"
    return (
        f"{found['requests']} requests, goodput {found['goodput_per_s']:.1f}/s ({found['good_share']:.0%}), "
        f"{found['output_tokens_per_s']:.0f} tokens/s, e2e p50 {found['e2e_s']['p50']:.2f} s, "
        f"p95 {found['e2e_s']['p95']:.2f} s, TTFT p95 {found['ttft_s']['p95']:.2f} s, {failures}; "
        f"client {max(found['client']['cpu_share']):.0%} of a core"
    )


def _key(one: Gateway) -> str:
    limits = {"rpm": 10**6, "tpm": 10**9, "parallel": 10**4}
    with httpx.Client(base_url=one.url, headers={"authorization": f"Bearer {one.key}"}) as admin:
        made = admin.post("/v1/admin/keys", json={"name": "load", "limits": limits}).raise_for_status()
        return str(made.json()["key"])
