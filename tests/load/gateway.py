"""`./stoker bench gateway`: what a request costs in the gateway, beside the upstream alone and beside a peer.

Mock upstream and client share one core; the gateway's one worker has another to itself. CPU is the worker's own, as the
kernel counts it, so it holds on a noisy machine where requests per second do not.
"""

import argparse
import asyncio
import contextlib
import os
import random
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import uvloop

from tests.load.client import Connection, Reply, chat
from tests.load.mock import MODEL, Spent, serving
from tests.support.gateway import Gateway, answers, gateway
from tests.support.network import free_port
from tests.support.process import running

_CHUNKS = 64
_STREAM_S = _CHUNKS * 0.02


@dataclass(frozen=True)
class Target:
    """Something that answers chat requests.

    Attributes:
        pid: None for the upstream itself, which shares the client's core.
        longer: bytes that are added to prompts.
    """

    name: str
    port: int
    key: str
    pid: int | None
    longer: int = 0

    def chat(self, *, tokens: int, stream: bool = False, pause_ms: int = 0) -> bytes:
        """A request for so many tokens."""
        return chat(self.port, self.key, MODEL, tokens=tokens, stream=stream, pause_ms=pause_ms, longer=self.longer)


@dataclass
class Figures:
    """What one target showed; latencies in seconds, CPU in seconds of the worker."""

    target: Target
    latencies: list[float] = field(default_factory=list)
    requests_per_s: list[float] = field(default_factory=list)
    cpu_request: list[float] = field(default_factory=list)
    cpu_stream: list[float] = field(default_factory=list)
    streams_per_s: list[float] = field(default_factory=list)
    cpu_chunk: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    step_first_s: list[float] = field(default_factory=list)
    burst_first_s: list[float] = field(default_factory=list)
    lost_frames: int = 0
    failed: int = 0


def cpu_s(pid: int | None) -> float:
    """Processor time of a process and its children so far; 0 without a process."""
    if pid is None:
        return 0.0
    return sum(time.clock_gettime(_cpu_clock(each)) for each in (pid, *_children(pid)))


def _cpu_clock(pid: int) -> int:
    """The clock of a process's threads, also of those that have ended, by nanoseconds; Linux, `clock_getcpuclockid`."""
    return (~pid << 3) | 2


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


async def measure(targets: list[Target], rounds: int, requests: int, streams: int) -> list[Figures]:
    """Every target in turn, `rounds` times, so that a slow minute of the machine meets all of them."""
    figures = [Figures(target) for target in targets]
    for one in figures:
        await _warm(one.target)
    for _ in range(rounds):
        for one in figures:
            await _alone(one, requests // 4)
        for one in figures:
            await _full(one, requests)
        for one in figures:
            await _unpaced(one, streams)
        for one in figures:
            await _paced(one)
        for one in figures:
            await _in_step(one)
        for one in figures:
            await _burst(one)
    return figures


async def _warm(target: Target) -> None:
    await _ask_many(target, [target.chat(tokens=4)] * 200, 8)
    await _ask_many(target, [target.chat(tokens=4, stream=True)] * 40, 8)


async def _alone(one: Figures, count: int) -> None:
    request = one.target.chat(tokens=4)
    replies = await _ask_many(one.target, [request] * count, 1)
    _check(one, replies, 0)
    one.latencies += [reply.total_s for reply in replies]


async def _full(one: Figures, count: int) -> None:
    request = one.target.chat(tokens=4)
    used, began = cpu_s(one.target.pid), time.perf_counter()
    replies = await _ask_many(one.target, [request] * count, 32)
    one.requests_per_s.append(count / (time.perf_counter() - began))
    one.cpu_request.append((cpu_s(one.target.pid) - used) / count)
    _check(one, replies, 0)


async def _unpaced(one: Figures, count: int) -> None:
    request = one.target.chat(tokens=_CHUNKS, stream=True)
    used, began = cpu_s(one.target.pid), time.perf_counter()
    replies = await _ask_many(one.target, [request] * count, 8)
    one.streams_per_s.append(count / (time.perf_counter() - began))
    one.cpu_stream.append((cpu_s(one.target.pid) - used) / count)
    _check(one, replies, _CHUNKS)


async def _paced(one: Figures) -> None:
    """64 streams, a frame each 20 ms; each begins at a moment of its own, and all run before the first ends."""
    used = cpu_s(one.target.pid)
    moments = random.Random(len(one.cpu_chunk))  # the same for all sides of a round
    replies = await _stream_64(one.target, [moments.uniform(0, _STREAM_S) for _ in range(64)])
    one.cpu_chunk.append((cpu_s(one.target.pid) - used) / (64 * _CHUNKS))
    one.first_s += [reply.first_s for reply in replies]
    _check(one, replies, _CHUNKS)


async def _in_step(one: Figures) -> None:
    """The same, but each begins 20 ms after the one before it, so in the moment in which all others have a frame."""
    replies = await _stream_64(one.target, [at * _STREAM_S / 64 for at in range(64)])
    one.step_first_s += [reply.first_s for reply in replies]
    _check(one, replies, _CHUNKS)


async def _burst(one: Figures) -> None:
    """The same, but all in one moment."""
    replies = await _stream_64(one.target, [0.0] * 64)
    one.burst_first_s += [reply.first_s for reply in replies]
    _check(one, replies, _CHUNKS)


async def _stream_64(target: Target, begin_s: Sequence[float]) -> list[Reply]:
    request = target.chat(tokens=_CHUNKS, stream=True, pause_ms=20)

    async def one(connection: Connection, after_s: float) -> Reply:
        await asyncio.sleep(after_s)
        reply = await connection.ask(request)
        connection.close()
        return reply

    connections = [await Connection.open(target.port) for _ in range(64)]
    return list(await asyncio.gather(*map(one, connections, begin_s)))


def _check(one: Figures, replies: list[Reply], tokens: int) -> None:
    one.failed += sum(reply.status != 200 for reply in replies)
    one.lost_frames += sum(max(0, tokens - reply.body.count(b'" word"')) for reply in replies if tokens)


async def _ask_many(target: Target, requests: list[bytes], at_once: int) -> list[Reply]:
    left, replies = iter(requests), []

    async def work() -> None:
        connection = await Connection.open(target.port)
        try:
            for request in left:
                replies.append(await connection.ask(request))  # noqa: PERF401  # one after the other
        finally:
            connection.close()

    await asyncio.gather(*(work() for _ in range(at_once)))
    return replies


@contextmanager
def stoker(
    folder: Path,
    upstream: int,
    core: int,
    strategy: str | None = None,
    *,
    name: str = "Stoker",
    settings: Mapping[str, str] | None = None,
    module: str = "api",
) -> Iterator[Target]:
    """The gateway with one worker on one core, everything switched on, in front of the mock.

    Args:
        strategy: by which it chooses between two deployments, both of which are the mock; None: there is one.
        settings: more environment variables.
        module: what runs it.
    """
    # What was just installed may still be on its way to the disk.
    patient = {"STOKER_SQL_DEADLINE_S": "30", **(settings or {})}
    price = "input_cost_per_token: 0.00000015, output_cost_per_token: 0.0000006"
    entry = (
        f"  - model_name: {MODEL}\n"
        f"    litellm_params: {{model: hosted_vllm/{MODEL}, {price}, api_base: 'http://127.0.0.1:{upstream}/v1'}}\n"
    )
    two = f"model_list:\n{entry}{entry}router_settings: {{routing_strategy: {strategy}}}\n" if strategy else ""
    prefix = "taskset", "-c", str(core)
    with gateway(folder, upstream, settings=patient, prefix=prefix, module=module, configuration=two) as one:
        yield Target(f"{name}, {strategy}" if strategy else name, one.port, _limited_key(one), one.pid)


@contextmanager
def watched(folder: Path, upstream: int, core: int, others: int) -> Iterator[list[Target]]:
    """The gateway without metrics, and with traces: five a second, and of every request.

    Args:
        others: the core of whoever takes the traces.
    """
    port = free_port()
    sink = ["taskset", "-c", str(others), sys.executable, "-m", "tests.load.sink", str(port)]
    told = {"STOKER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    ways: list[tuple[str, dict[str, str], str]] = [
        ("Stoker, without metrics", {}, "tests.load.unobserved"),
        ("Stoker, 5 traces/s", told, "api"),
        ("Stoker, all traced", {**told, "STOKER_TRACES_PER_SECOND": "10000"}, "api"),
    ]
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(sink, folder / "sink.log", lambda: _listens(port)))
        yield [
            stack.enter_context(stoker(folder / str(at), upstream, core, name=name, settings=settings, module=module))
            for at, (name, settings, module) in enumerate(ways)
        ]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _limited_key(one: Gateway) -> str:
    """A key of a user in a team; key, user, team, tenant, model and route have limits of every kind, none reached."""
    with httpx.Client(base_url=one.url, headers={"authorization": f"Bearer {one.key}"}) as admin:

        def made(path: str, **fields: object) -> dict[str, str]:
            answer = admin.post(path, json=fields)
            answer.raise_for_status()
            return dict(answer.json())

        limits = {"rpm": 10**8, "tpm": 10**10, "parallel": 10**5, "usd_per_day": "10000", "usd_per_month": "100000"}
        team = made("/v1/admin/teams", name="bench")["id"]
        user = made("/v1/admin/users", name="bench", team=team)["id"]
        key = made("/v1/admin/keys", name="bench", user=user, limits=limits)["key"]
        route = "v1/chat/completions"
        for subject in (f"user/{user}", f"team/{team}", "tenant/default", f"model/{MODEL}", f"route//{route}"):
            admin.put(f"/v1/admin/limits/{subject}", json=limits).raise_for_status()
        return key


@contextmanager
def bare(folder: Path, upstream: int, core: int) -> Iterator[Target]:
    """The yardstick: `tests/load/bare.py` under the same server."""
    port = free_port()
    command = ["taskset", "-c", str(core), sys.executable, "-m", "uvicorn", "tests.load.bare:app", "--port", str(port)]
    with running(
        [*command, "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"],
        folder / "bare.log",
        lambda: answers(port, "/"),
        {"BARE_UPSTREAM": f"http://127.0.0.1:{upstream}"},
    ) as process:
        yield Target("bare aiohttp", port, "none", process.pid)


@contextmanager
def litellm(folder: Path, upstream: int, core: int, python: Path) -> Iterator[Target]:
    """LiteLLM's proxy with a master key and one worker."""
    port, key = free_port(), "sk-bench"
    config = folder / "litellm.yaml"
    config.write_text(
        "model_list:\n"
        f"  - model_name: {MODEL}\n"
        f"    litellm_params: {{model: openai/{MODEL}, api_base: 'http://127.0.0.1:{upstream}/v1', api_key: none}}\n"
        f"general_settings: {{master_key: {key}}}\n"
    )
    command = ["taskset", "-c", str(core), str(python), str(python.parent / "litellm"), "--config", str(config)]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "HOST": "127.0.0.1"}
    with running(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        folder / "litellm.log",
        lambda: answers(port, "/health/liveliness"),
        env,
        timeout_s=180,
    ) as process:
        yield Target("LiteLLM proxy", port, key, process.pid)


def report(all_figures: list[Figures]) -> str:
    """A table; ratios are against the last row, where that is a peer."""
    direct = all_figures[0]
    head = (
        "| | CPU ms/request | req/s at 32 | CPU ms/64-chunk stream | streams/s at 8 | CPU us/paced chunk "
        "| added p50 ms | added p99 ms | added TTFT p50 ms | in step | at once | frames lost | failed |"
    )
    lines = [head, "|" + " --- |" * 13]
    for one in all_figures:
        cells = [
            one.target.name,
            f"{statistics.median(one.cpu_request) * 1e3:.3f}",
            f"{statistics.median(one.requests_per_s):.0f}",
            f"{statistics.median(one.cpu_stream) * 1e3:.2f}",
            f"{statistics.median(one.streams_per_s):.0f}",
            f"{statistics.median(one.cpu_chunk) * 1e6:.0f}",
            f"{(_percentile(one.latencies, 50) - _percentile(direct.latencies, 50)) * 1e3:.2f}",
            f"{(_percentile(one.latencies, 99) - _percentile(direct.latencies, 99)) * 1e3:.2f}",
            f"{(statistics.median(one.first_s) - statistics.median(direct.first_s)) * 1e3:.2f}",
            f"{(statistics.median(one.step_first_s) - statistics.median(direct.step_first_s)) * 1e3:.2f}",
            f"{(statistics.median(one.burst_first_s) - statistics.median(direct.burst_first_s)) * 1e3:.1f}",
            str(one.lost_frames),
            str(one.failed),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


async def _main(arguments: argparse.Namespace, make: Callable[[Path, int], Iterator[list[Target]]]) -> None:
    log: list[Spent] = []
    port = free_port()
    async with serving(port, log):
        with TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            peers = await asyncio.to_thread(stack.enter_context, contextmanager(make)(Path(folder), port))
            targets = [Target("direct", port, "none", None, arguments.longer), *peers]
            figures = await measure(targets, arguments.rounds, arguments.requests, arguments.streams)
            print(report(figures))
            await asyncio.to_thread(stack.close)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3000, help="of a round")
    parser.add_argument("--streams", type=int, default=400, help="of a round, 64 chunks each")
    parser.add_argument("--longer", type=int, default=0, help="bytes that are added to prompts of 66")
    parser.add_argument("--strategy", help="also measure it with two deployments between which it chooses so")
    parser.add_argument("--watched", action="store_true", help="also measure it without metrics, and with traces")
    parser.add_argument("--peer-python", type=Path, help="of an environment with LiteLLM's proxy")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("this needs two processor cores: one for the worker, one for mock and client")
    os.sched_setaffinity(0, {cores[0]})

    def make(folder: Path, upstream: int) -> Iterator[list[Target]]:
        with contextlib.ExitStack() as stack:
            targets = [
                stack.enter_context(bare(folder, upstream, cores[1])),
                stack.enter_context(stoker(folder, upstream, cores[1])),
            ]
            if arguments.strategy:
                chosen = stoker(folder / "strategy", upstream, cores[1], arguments.strategy)
                targets.append(stack.enter_context(chosen))
            if arguments.watched:
                targets += stack.enter_context(watched(folder / "watched", upstream, cores[1], cores[0]))
            if arguments.peer_python:
                targets.append(stack.enter_context(litellm(folder, upstream, cores[1], arguments.peer_python)))
            yield [replace(target, longer=arguments.longer) for target in targets]

    uvloop.run(_main(arguments, make))


if __name__ == "__main__":
    main()
