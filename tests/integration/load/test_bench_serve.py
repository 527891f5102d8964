"""What is measured, beside what vLLM's own `bench serve` measures of the same plan on the same server."""

import json
import os
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.load.generator.figures import Slo
from tests.load.generator.plan import Plan
from tests.load.generator.scenarios import Scenario
from tests.load.load import run
from tests.support.engines import INFERENCE_PYTHON, ROOT, prepare_model
from tests.support.paced import paced_server
from tests.support.stack import Stack

Figure = Callable[[str], None]


@dataclass(frozen=True)
class Beside:
    """Both sides' figures: tokens a second of the whole run, medians in seconds."""

    tokens_per_s: float
    ttft_s: float
    tpot_s: float
    output_tokens: int

    def of(self, other: "Beside") -> dict[str, float]:
        """How far it is from the other, as shares."""
        names = ("tokens_per_s", "ttft_s", "tpot_s")
        return {name: getattr(self, name) / getattr(other, name) - 1 for name in names}


@pytest.mark.vllm
def test_figures_are_those_of_bench_serve_on_the_same_plan(tmp_path: Path, figure: Figure) -> None:
    tokenizer, _ = prepare_model("llm")
    plan, scenario = Plan(seed=11, duration_s=12, rate=25), Scenario("chat", seed=11, model="mock", output_tokens=48)
    with paced_server(tmp_path, "--frame-tokens", "3", "--ttft-ms", "250") as server:  # both at the same paces
        theirs = bench_serve(plan, scenario, server.url, "none", tokenizer, tmp_path)
        ours = measured(plan, scenario, server.url, "none")
    off = ours.of(theirs)
    figure(f"bench serve {_shown(theirs)}; ours {_shown(ours)}; {', '.join(f'{k} {v:+.2%}' for k, v in off.items())}")
    assert ours.output_tokens == theirs.output_tokens
    assert abs(off["tokens_per_s"]) < 0.05
    assert abs(off["ttft_s"]) < 0.1
    assert abs(off["tpot_s"]) < 0.1


@pytest.mark.vllm
@pytest.mark.long
def test_figures_are_those_of_bench_serve_on_a_real_engine_behind_the_gateway(
    stack: Stack, tmp_path: Path, figure: Figure
) -> None:
    tokenizer, _ = prepare_model("llm")
    rows = stack.client.get("/v1/models").json()["data"]
    model = next(row["id"] for row in rows if "minilm" not in row["id"].lower())
    limits = {"rpm": 10**6, "tpm": 10**9, "parallel": 10**4, "usd_per_day": "1000"}
    key = stack.client.post("/v1/admin/keys", json={"name": "load", "limits": limits}).raise_for_status().json()["key"]
    engine = f"http://127.0.0.1:{stack.process('vllm')['port']}/metrics"
    pairs: list[dict[str, float]] = []
    for number in range(6):  # the first pair warms the engine
        plan = Plan(seed=100 + number, duration_s=15, rate=2.0)
        scenario = Scenario("chat", 0, model, prompt_words=20, output_tokens=24, exact_tokens=True)
        ways: dict[str, Callable[[Scenario], Beside]] = {
            "theirs": lambda asked, plan=plan: bench_serve(plan, asked, stack.url, key, tokenizer, tmp_path),
            "ours": lambda asked, plan=plan: measured(plan, asked, stack.url, key, engine),
        }
        found = {}
        for way in sorted(ways, reverse=bool(number % 2)):  # no prompt twice, or it lies in the engine's cache
            found[way] = ways[way](replace(scenario, seed=number, salt=f" {way}"))
        pairs.append(found["ours"].of(found["theirs"]))
        figure(f"pair {number}: bench serve {_shown(found['theirs'])}; ours {_shown(found['ours'])}")
    off = {name: statistics.median(pair[name] for pair in pairs[1:]) for name in pairs[0]}
    figure(f"medians of 5 pairs: {', '.join(f'{name} {share:+.2%}' for name, share in off.items())}")
    assert abs(off["tokens_per_s"]) < 0.05
    assert abs(off["ttft_s"]) < 0.1


def measured(plan: Plan, scenario: Scenario, url: str, key: str, engine: str = "") -> Beside:
    """Our own figures; where an engine's counters are named, they say the same."""
    done = run(plan, scenario, Slo(), url, key, [engine] if engine else [])
    found = done.found
    assert found["failures"] == {}
    if engine:
        assert found["engine"]["equal"] is True, (found["engine"], found["whole"])
    whole = found["whole"]
    return Beside(whole["output_tokens_per_s"], found["ttft_s"]["p50"], found["tpot_s"]["p50"], whole["output_tokens"])


def bench_serve(plan: Plan, scenario: Scenario, url: str, key: str, tokenizer: str, folder: Path) -> Beside:
    """What vLLM's module says of the same plan."""
    requests = []
    for number, at_s in enumerate(plan.arrivals()):
        body: dict[str, Any] = dict(scenario.begin(number).body)
        tokens = body.pop("max_tokens")
        messages = body.pop("messages")
        for name in ("model", "stream", "stream_options"):  # it says these itself
            del body[name]
        requests.append({"at_s": at_s, "messages": messages, "tokens": tokens, "more": body})
    told = {"url": url, "model": scenario.model, "tokenizer": tokenizer, "requests": requests}
    result = folder / "bench-serve.json"
    environment = {"OPENAI_API_KEY": key, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [str(INFERENCE_PYTHON), str(ROOT / "tests/load/vllm_bench.py"), str(result)],
        input=json.dumps(told),
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    found = json.loads(result.read_text())
    assert found["failed"] == 0, done.stdout[-2000:]
    return Beside(
        found["output_throughput"],
        found["median_ttft_ms"] / 1e3,
        found["median_tpot_ms"] / 1e3,
        found["total_output_tokens"],
    )


def _shown(one: Beside) -> str:
    return f"{one.tokens_per_s:.1f} tokens/s, TTFT {one.ttft_s * 1e3:.1f} ms, TPOT {one.tpot_s * 1e3:.2f} ms"
