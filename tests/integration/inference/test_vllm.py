"""Real vLLM as the launcher starts it: adapters by name, traces that go on in the engine, streams that end whole."""

import asyncio
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import events
from tests.support.adapters import RANK, make_adapter
from tests.support.engines import Engine, prepare_model, start_vllm
from tests.support.gateway import Gateway, gateway
from tests.support.tracestore import TraceStore, trace_store

pytestmark = [pytest.mark.vllm, pytest.mark.heavy]
NAMES = ("smollm2-135m", "law", "tax")
_STREAM_TOKENS = 80


@dataclass(frozen=True)
class House:
    """An engine with two adapters, a third that nobody has loaded, and a gateway before it."""

    engine: Engine
    gate: Gateway
    third: Path
    traces: TraceStore

    def chat(self, model: str, **fields: Any) -> dict[str, Any]:
        asked = {"model": model, "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 24}
        headers = {"authorization": f"Bearer {self.gate.key}"}
        answer = httpx.post(
            f"{self.gate.url}/v1/chat/completions",
            json=asked | {"temperature": 0} | fields,
            headers=headers,
            timeout=180,
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    place = tmp_path_factory.mktemp("lora")
    model = Path(prepare_model("llm")[0])
    law, tax, third = (make_adapter(model, place / name, seed) for seed, name in enumerate(("law", "tax", "third")))
    flags = ("--lora-modules", json.dumps({"law": str(law), "tax": str(tax)}), "--max-lora-rank", str(RANK))
    with (
        trace_store(tmp_path_factory.mktemp("phoenix")) as traces,
        start_vllm(
            place,
            0,
            flags=(*flags, "--max-loras", "3", "--lora-at-run-time", "true", "--otlp-endpoint", traces.url),
        ) as engine,
    ):
        entries = "".join(
            f"  - model_name: {name}\n    litellm_params: {{model: hosted_vllm/{name}, api_base: '{engine.url}/v1'}}\n"
            for name in NAMES
        )
        told = {"STOKER_OTLP_ENDPOINT": traces.url}
        with gateway(place / "gate", 1, configuration=f"model_list:\n{entries}", settings=told) as gate:
            yield House(engine, gate, third, traces)


def test_adapters_are_models_of_the_gateway_and_each_says_its_own(house: House) -> None:
    listed = {each["id"] for each in httpx.get(f"{house.engine.url}/v1/models").json()["data"]}
    assert listed >= set(NAMES)
    answers = {name: house.chat(name) for name in NAMES}
    assert {name: answer["model"] for name, answer in answers.items()} == {name: name for name in NAMES}
    texts = {answer["choices"][0]["message"]["content"] for answer in answers.values()}
    assert len(texts) == 3, texts


def test_an_adapter_comes_and_goes_while_the_engine_runs(house: House) -> None:
    asked = {"model": "third", "prompt": "Say something.", "max_tokens": 4}
    assert httpx.post(f"{house.engine.url}/v1/completions", json=asked, timeout=60).status_code == 404
    loaded = {"lora_name": "third", "lora_path": str(house.third)}
    assert httpx.post(f"{house.engine.url}/v1/load_lora_adapter", json=loaded, timeout=60).status_code == 200
    assert "third" in httpx.get(f"{house.engine.url}/v1/models").text
    assert httpx.post(f"{house.engine.url}/v1/completions", json=asked, timeout=60).status_code == 200
    unloaded = httpx.post(f"{house.engine.url}/v1/unload_lora_adapter", json={"lora_name": "third"}, timeout=60)
    assert unloaded.status_code == 200
    assert httpx.post(f"{house.engine.url}/v1/completions", json=asked, timeout=60).status_code == 404


def test_what_one_tenant_asked_is_found_for_that_tenant_alone(house: House, figure: Callable[[str], None]) -> None:
    admin = {"authorization": f"Bearer {house.gate.key}"}

    def made(what: str, **fields: str) -> dict[str, Any]:
        answer = httpx.post(f"{house.gate.url}/v1/admin/{what}", json={"name": "other", **fields}, headers=admin)
        return dict(answer.raise_for_status().json())

    def hits() -> float:
        lines = httpx.get(f"{house.engine.url}/metrics").text.splitlines()
        return sum(float(one.rpartition(" ")[2]) for one in lines if one.startswith("vllm:prefix_cache_hits_total"))

    keys = (house.gate.key, made("keys", tenant=made("tenants")["id"], role="member")["key"])
    said = [{"role": "user", "content": f"{uuid.uuid4()}: say it again. " * 40}]
    found = []
    for path in ("chat/completions", "messages"):
        for key in (*keys, *keys):
            before, own = hits(), {"authorization": f"Bearer {key}"}
            asked = {"model": NAMES[0], "messages": said, "max_tokens": 2}
            httpx.post(f"{house.gate.url}/v1/{path}", json=asked, headers=own, timeout=180).raise_for_status()
            found.append(hits() - before)
    figure(f"tokens found in the engine's prefix cache, of two tenants in turn: {found}")
    assert found[:2] == [0, 0]
    assert min(found[2:]) >= 256, "what a tenant asked is there for the tenant"


def test_a_trace_goes_on_in_the_engine(house: House, figure: Callable[[str], None]) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    asked = {"model": NAMES[0], "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 8}
    sent = {"authorization": f"Bearer {house.gate.key}", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    httpx.post(f"{house.gate.url}/v1/chat/completions", json=asked, headers=sent, timeout=180).raise_for_status()
    spans = house.traces.trace("POST /v1/chat/completions", "llm_request", trace_id=trace)
    by_name = {span.name: span for span in spans}
    ours, engine = by_name[f"chat {NAMES[0]}"], by_name["llm_request"]
    assert engine.parent_id == ours.id
    assert ours.begin <= engine.begin <= engine.end <= ours.end
    assert int(engine.attributes["gen_ai.usage.completion_tokens"]) == 8
    assert "Say something" not in str([span.attributes for span in spans])
    figure(f"spans of one chat through gateway and engine: {sorted(span.name for span in spans)}")


async def test_sigterm_lets_every_running_stream_end_whole(house: House, figure: Callable[[str], None]) -> None:
    """The last test of the engine, which it ends."""
    begun, ended = asyncio.Event(), []
    running = 0

    async def stream(client: httpx.AsyncClient, name: str) -> None:
        nonlocal running
        asked = {
            "model": name, "messages": [{"role": "user", "content": f"Tell a long story of {name}."}], "stream": True,
            "max_tokens": _STREAM_TOKENS, "min_tokens": _STREAM_TOKENS, "stream_options": {"include_usage": True},
        }  # fmt: skip
        parts = []
        async with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
            assert answer.status_code == 200
            pieces = answer.aiter_text()
            async for piece in pieces:
                if not parts:
                    running += 1
                    if running == 6:
                        begun.set()
                parts.append(piece)
        ended.append(events("".join(parts)))

    headers = {"authorization": f"Bearer {house.gate.key}"}
    async with httpx.AsyncClient(base_url=house.gate.url, headers=headers, timeout=180) as client:
        streams = [asyncio.create_task(stream(client, name)) for name in NAMES * 2]
        async with asyncio.timeout(180):
            await begun.wait()
        assert not ended, "a stream was over before the signal"
        sent_s = time.monotonic()
        os.kill(house.engine.pid, signal.SIGTERM)
        await asyncio.gather(*streams)
    took_s = time.monotonic() - sent_s
    for found in ended:
        assert found[-1] == "[DONE]"
        assert found[-2]["usage"]["completion_tokens"] == _STREAM_TOKENS
        assert [each["choices"][0]["finish_reason"] for each in found[:-2] if each["choices"]][-1] == "length"
    figure(f"{len(ended)} of 6 streams ended whole, {took_s:.1f} s after SIGTERM")
