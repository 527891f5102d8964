"""Four workers under load, one killed by `kill -9` in the middle: Prometheus's totals are the load generator's own."""

import asyncio
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from monitoring.rules import book, names
from monitoring.rules.form import Alert
from tests.integration.monitoring.load import ABSENT, ANSWERING, CHAT, GHOST, HOLD, MODELS, SPOKEN, Counted, Lane, Load
from tests.integration.monitoring.prometheus import PANELS, SCRAPE_S, answers, ask, prometheus
from tests.integration.retrieval.conftest import Servers, servers
from tests.support.gateway import Gateway, entry, gateway, models, workers
from tests.support.network import free_port
from tests.support.openai_server import Fault, OpenAiServer, openai_server_in_thread
from tests.support.process import running

__all__ = ["servers"]

_LANES = 16
_BEFORE, _AFTER = 250, 250  # requests that end before the kill, and once another worker has come
_PATIENCE_S = 60.0

NOTHING = {
    "sum by (model_group, fallback) (rate(stoker_fallbacks_total[$__rate_interval]))": "no group has a fallback",
    "sum by (deployment, how) (rate(stoker_rescues_total[$__rate_interval]))": "the gateway died, no engine did",
    "stoker-gpus: Refused for overload": "the engine has no bound",
    "stoker-rag: False hits of other words, at most": "the semantic cache is off",
    "stoker-rag: Checks of hits of other words": "the semantic cache is off",
    "stoker-rag: Orphans removed": "they are looked for once an hour",
    "stoker-rag: Daily evaluation of search": "no collection is evaluated every day",
    "stoker-rag: Age of daily evaluations": "no collection is evaluated every day",
    "StokerSearchGotWorse": "no collection is evaluated every day",
    "stoker-cost: What `auto` chooses": "there is no model `auto`",
    "stoker-cost: Experiments, USD an hour": "there is no experiment",
    "StokerEngineWedged": "the engine tells nothing of itself by which it could be seen to stand still",
}
"""Panels and alerts, or queries of panels with several, that have nothing to tell of this load, and why."""

SOMETIMES = {
    "stoker-sla: Alerts": "a slow machine takes so long that the absent engine is an alert",
    "max by (deployment, reason) (stoker_deployment_ejected) > 0": "or that it is ejected",
}
"""Those that may have."""

pytestmark = pytest.mark.slow

Totals = dict[str, dict[tuple[str, ...], int]]

_TOLD = {
    "requests": ("stoker_requests_total", ("route", "method", "status")),
    "timed requests": ("stoker_request_seconds_count", ("route",)),
    "tokens": ("stoker_tokens_total", ("model_group", "direction")),
    "first tokens": ("stoker_time_to_first_token_seconds_count", ("model_group",)),
    "questions": ("stoker_answers_total", ("degraded",)),
    "documents": ("stoker_ingested_documents_total", ("status",)),
}


def says(_name: str, body: dict[str, Any]) -> str | Fault | None:
    """The model answers with the first line that it is shown, or with what no source says, or falls silent."""
    shown = str(body["messages"][-1]["content"])
    if HOLD in shown:
        return Fault.HANG_MID_STREAM
    if GHOST in shown:
        return "Seventeen green elephants danced in Lisbon."
    return shown.split("<text>\n", 1)[1].split("\n", 1)[0] if "<text>\n" in shown else None


@pytest.fixture
def engine() -> Iterator[OpenAiServer]:
    with openai_server_in_thread() as server:
        server.script = says
        yield server


@pytest.fixture
def gate(servers: Servers, engine: OpenAiServer, tmp_path: Path) -> Iterator[Gateway]:
    settings = {
        "STOKER_WORKERS": "4",
        "STOKER_MILVUS_URI": servers.milvus_uri,
        "STOKER_EMBEDDING_URL": servers.embedding_url,
        "STOKER_EMBEDDING_DEADLINE_S": "15",
        "STOKER_SEARCH_DEADLINE_S": "12",
        "STOKER_ANSWER_MODEL": ANSWERING,
        "STOKER_ANSWER_CACHE_S": "3600",
        "STOKER_POLL_S": "0.2",
    }
    priced = ("0.000001", "0.000002")
    configuration = models(
        entry(SPOKEN, engine.base_url, *priced),
        entry(ANSWERING, engine.base_url, *priced),
        entry(ABSENT, f"http://127.0.0.1:{free_port()}/v1"),
        "stoker: {deadlines: {between_tokens_s: 300}}\n",  # a stream is held open until its worker is killed
    )
    with gateway(tmp_path / "g", 1, settings=settings, configuration=configuration) as made:
        worker = {
            **settings,
            "STOKER_DATA_DIR": str(made.folder),
            "STOKER_REDIS_URL": made.redis_url,
            "PROMETHEUS_MULTIPROC_DIR": str(made.folder / "metrics"),
        }
        with running([sys.executable, "-m", "retrieval.worker"], tmp_path / "worker.log", lambda: True, worker):
            yield made


@pytest.fixture
def address(gate: Gateway, servers: Servers, tmp_path: Path) -> Iterator[str]:
    """A Prometheus that reads the gateway and the embedding server, and recorded engines and GPUs."""
    told, embeds = free_port(), urlsplit(servers.embedding_url).port
    assert embeds is not None
    teller = [sys.executable, "-m", "tests.integration.monitoring.telling", str(told)]
    targets = {
        "stoker": (gate.port, "/metrics"),
        "embedding": (embeds, "/metrics"),
        "vllm": (told, "/engine"),
        "gpu": (told, "/gpu"),
    }
    (tmp_path / "prometheus").mkdir()
    with ExitStack() as stack:
        stack.enter_context(running(teller, tmp_path / "telling.log", lambda: answers(f"http://127.0.0.1:{told}/gpu")))
        yield stack.enter_context(prometheus(tmp_path / "prometheus", targets))


async def until(look: Callable[[], bool], what: str) -> None:
    limit_s = time.monotonic() + _PATIENCE_S
    while not look():  # processes of others set no event
        assert time.monotonic() < limit_s, what
        await asyncio.sleep(0.05)


async def storm(gate: Gateway) -> tuple[Load, int, int]:
    """Load, a kill in its middle, and load again. Returns: it, who was killed and who came."""
    load = Load(gate)
    await load.furnish()
    lanes = [load.lane() for _ in range(_LANES)]
    tasks = [asyncio.create_task(load.ask(lane)) for lane in lanes]
    ingesting = load.lanes[0]

    def begin(lane: Lane) -> None:
        lanes.append(lane)
        tasks.append(asyncio.create_task(load.ask(lane)))

    async def ended(count: int) -> None:
        await until(lambda: load.counted.requests.total() >= count, f"{load.counted.requests.total()} requests ended")

    def holding() -> bool:
        return all(lane.holding for lane in lanes if lane.worker == victim)

    await ended(_BEFORE)
    there = workers(gate.pid)
    assert len(there) == 4
    for worker in set(there) - load.counted.by_worker.keys():
        begin(await reach(load, worker))
    mine = Counter(lane.worker for lane in lanes if lane.worker != ingesting.worker)
    victim = mine.most_common(1)[0][0]
    assert victim is not None
    load.victim = victim
    await until(holding, "streams of the worker that is to be killed are not open")
    own = load.counted.by_worker[victim]
    await until(lambda: counted_by(gate, victim) == own, f"its own file says {counted_by(gate, victim)}, and we {own}")
    os.kill(victim, signal.SIGKILL)
    await until(lambda: len(set(workers(gate.pid)) - {victim}) == 4, "no worker came in its place")
    (came,) = set(workers(gate.pid)) - set(there)
    await load.ingest(ingesting, 1)
    begin(await reach(load, came))
    await ended(load.counted.requests.total() + _AFTER)
    load.over = True
    await asyncio.gather(*tasks)
    for lane in load.lanes:
        await lane.close()
    return load, victim, came


def counted_by(gate: Gateway, pid: int) -> Counter[tuple[str, str, str]]:
    """What one process has written of requests to /v1."""
    found: Counter[tuple[str, str, str]] = Counter()
    for family in MultiProcessCollector.merge([str(gate.folder / "metrics" / f"counter_{pid}.db")]):
        for sample in family.samples:
            if sample.name == "stoker_requests_total" and sample.labels["route"].startswith("/v1/"):
                name = (sample.labels["route"], sample.labels["method"], sample.labels["status"])
                found[name] += int(sample.value)
    return found


async def reach(load: Load, worker: int) -> Lane:
    """Open connections until the worker has one: each is to take part. Returns: that one."""
    limit_s = time.monotonic() + _PATIENCE_S
    while True:
        lane = load.lane()
        await lane.call("GET", MODELS)
        if lane.worker == worker:
            return lane
        assert time.monotonic() < limit_s, f"the worker {worker} takes no connection"


def wanted(counted: Counted) -> Totals:
    routes: Counter[tuple[str, ...]] = Counter()
    for (route, _, _), count in counted.requests.items():
        routes[route,] += count
    tokens = {name: count for name, count in counted.tokens.items() if count}
    return {
        "requests": dict(counted.requests),
        "timed requests": dict(routes),
        "tokens": dict(tokens),
        "first tokens": {(SPOKEN,): counted.streams[CHAT]},
        "questions": {(name,): count for name, count in counted.questions.items()},
        "documents": {(name,): count for name, count in counted.documents.items()},
    }


def totals(address: str) -> Totals:
    """The raw values of counters, summed over all series, without those that are 0."""
    found: Totals = {}
    for what, (name, labels) in _TOLD.items():
        chosen = '{route=~"/v1/.*"}' if "route" in labels else f'{{model_group!="{ABSENT}"}}'
        if what == "first tokens":
            chosen = f'{{model_group="{SPOKEN}"}}'
        said = ask(address, f"sum by ({', '.join(labels)}) ({name}{chosen})")
        values = {tuple(one["metric"][label] for label in labels): int(float(one["value"][1])) for one in said}
        found[what] = {key: value for key, value in values.items() if value}
    return found


def test_prometheus_says_what_the_load_generator_saw(
    gate: Gateway, address: str, figure: Callable[[str], None]
) -> None:
    _settle(lambda: bool(ask(address, 'up{job="stoker"} == 1')))
    assert not any(totals(address).values()), "nothing was asked yet"
    began_s = time.monotonic()
    load, victim, came = asyncio.run(storm(gate))
    spent_s, counted = time.monotonic() - began_s, load.counted
    _settle(lambda: totals(address) == wanted(counted))
    assert totals(address) == wanted(counted)
    assert set(counted.cut) == {CHAT}
    assert counted.cut[CHAT] > 0, "the kill cut nothing"
    refused = counted.requests[CHAT, "POST", "429"]
    assert refused > 0
    assert counted.documents == {"ready": 6, "failed": 2}
    assert min(counted.streams.total(), counted.wholes.total(), *counted.questions.values()) > 5
    assert counted.questions.keys() == {"true", "false"}
    counters = [name for name in names.own() if name.endswith(("_total", "_bucket", "_count", "_sum"))]
    assert [name for name in counters if ask(address, f"max(resets({name}[10m])) > 0")] == [], "a counter went back"
    _settle(lambda: _now(address, "sum(stoker_requests_running)") == 1)
    assert _now(address, "sum(stoker_requests_running)") == 1, "more runs than the scrape itself"
    figure(
        f"{counted.requests.total()} requests in {spent_s:.0f} s over {len(counted.by_worker)} workers "
        f"({', '.join(str(each.total()) for each in counted.by_worker.values())}), one of them killed: "
        f"{counted.wholes.total()} whole answers, {counted.streams.total()} streams, {refused} refused, "
        f"{counted.questions.total()} questions, {counted.documents.total()} documents, "
        f"{sum(counted.tokens.values())} tokens; {counted.cut.total()} in flight at the killed worker; "
        "Prometheus's totals differ by 0"
    )
    assert victim != came
    _settle(lambda: _empty(address) - SOMETIMES.keys() == NOTHING.keys())
    assert _empty(address) - SOMETIMES.keys() == NOTHING.keys()
    _settle(lambda: _checks(gate) > 0)
    assert _checks(gate) > 0, "no check of the gateway was good"


def _settle(holds: Callable[[], bool]) -> None:
    """Wait for scrapes until it holds; whoever asked looks then what does not."""
    limit_s = time.monotonic() + 20
    while not holds() and time.monotonic() < limit_s:
        time.sleep(SCRAPE_S)


def _now(address: str, query: str) -> float:
    (found,) = ask(address, query)
    return float(found["value"][1])


def _checks(gate: Gateway) -> int:
    """How often the keeper found this gateway ready."""
    told = httpx.get(f"{gate.url}/v1/admin/sla", params={"days": 2}, headers={"x-api-key": gate.key}, timeout=30)
    return int(told.raise_for_status().json()["total"]["good_checks"])


def _empty(address: str) -> set[str]:
    """Expressions that find nothing. Of an alert the two sides are looked at: that it is quiet is no lack of data."""
    alerts = [(rule.name, rule.expr) for group in book.groups() for rule in group.rules if isinstance(rule, Alert)]
    judged = [(name, re.sub(r"(?<=\s)([<>]|==)(?=\s)", r"\1 bool", expr)) for name, expr in alerts]
    asked: dict[str, list[str]] = {}
    for name, query in (*PANELS, *judged):
        asked.setdefault(name, []).append(query)
    empty = {name: [query for query in queries if not ask(address, query)] for name, queries in asked.items()}
    return {query if len(asked[name]) > 1 else name for name, queries in empty.items() for query in queries}
