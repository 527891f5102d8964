"""`./stoker bench embeddings`: the embedding server beside plain `SentenceTransformer.encode`, and beside Infinity.

All run in one go, on the same texts, in rounds whose order changes, so that a slow minute meets everybody.
"""

import argparse
import asyncio
import base64
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from retrieval.evaluation.measures import ndcg
from tests.load.client import Connection
from tests.support.collections import NAMES, Judged, load
from tests.support.engines import INFERENCE_PYTHON, ROOT, prepare_model, start_embeddings
from tests.support.network import free_port
from tests.support.process import running

Rows = NDArray[np.float32]

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_WORDS = (
    "harbour lighthouse keeper winter ledger engine valve pressure gauge signal cargo manifest anchor rope tide pilot "
    "chart compass storm lantern crew captain bridge dock crane customs officer invoice tariff grain timber copper salt"
).split()
_CLIENTS = (1, 4, 16)
_MIXES = {"short": (4, 16), "mixed": (4, 180), "long": (150, 180)}  # words; of mixed most are short


@dataclass(slots=True)
class Texts:
    """Texts of one mix, and how many tokens they have together."""

    name: str
    texts: list[str]


def texts_of(mix: str, count: int, of: random.Random) -> Texts:
    """Texts whose lengths are those of a mix; the same for the same seed."""
    least, most = _MIXES[mix]

    def words() -> int:
        if mix != "mixed":
            return of.randint(least, most)
        return min(most, max(least, int(of.lognormvariate(3.7, 0.9))))  # median 40, as chunks of documents have it

    return Texts(
        mix, [" ".join(of.choice(_WORDS) for _ in range(words())) + f" {of.randrange(10**6)}." for _ in range(count)]
    )


class Plain:
    """`encode` in a process of its own."""

    name = "plain encode, float32, batch 32"

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @classmethod
    @contextmanager
    def started(cls, folder: str) -> Iterator["Plain"]:
        command = [str(INFERENCE_PYTHON), "-m", "tests.load.plain_encode", folder]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            try:
                plain = cls(process)
                plain._read()
                yield plain
            finally:
                process.kill()

    async def embed(self, texts: Sequence[str]) -> tuple[float, Rows]:
        """Returns: seconds, and rows."""
        return await asyncio.to_thread(self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> tuple[float, Rows]:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps({"texts": texts}) + b"\n")
        self._process.stdin.flush()
        answer = self._read()
        rows = np.frombuffer(base64.b64decode(answer["rows"]), "<f4").reshape(len(texts), answer["dimensions"])
        return answer["seconds"], rows

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("plain encode ended")
        found: dict[str, Any] = json.loads(line)
        return found


class Server:
    """A server that speaks OpenAI's `/v1/embeddings`.

    Args:
        batch: texts in one request.

    Attributes:
        clients: that send texts at once.
        tokens: of the texts that were sent last, as the server counts them.
    """

    def __init__(
        self, name: str, port: int, model: str, path: str = "/v1/embeddings", clients: int = 4, batch: int = 64
    ) -> None:
        self.name = name
        self._port, self._model, self._path = port, model, path
        self._batch = batch
        self.clients = clients
        self.tokens = 0

    def request(self, texts: Sequence[str], purpose: str | None = None) -> bytes:
        asked = {"model": self._model, "input": list(texts), "encoding_format": "base64"}
        body = orjson.dumps(asked | ({"input_type": purpose, "truncate": "END"} if purpose else {}))
        return self._post(self._path, body)

    def _post(self, path: str, body: bytes) -> bytes:
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def embed(self, texts: Sequence[str]) -> tuple[float, Rows]:
        """All texts, from all clients at once. Returns: seconds, and rows."""
        took_s, bodies = await self.send(texts)
        self.tokens = sum(orjson.loads(body)["usage"]["prompt_tokens"] for body in bodies)
        return took_s, np.concatenate([_rows(body) for body in bodies])

    async def send(self, texts: Sequence[str]) -> tuple[float, list[bytes]]:
        """The same, unread: who times something else meanwhile must not be held up by reading."""
        parts: list[tuple[int, bytes]] = [
            (first, self.request(texts[first : first + self._batch], "document" if self.name == "Stoker" else None))
            for first in range(0, len(texts), self._batch)
        ]
        found: dict[int, bytes] = {}
        left = iter(parts)

        async def client() -> None:
            connection = await Connection.open(self._port)
            for first, request in left:
                reply = await connection.ask(request)
                if reply.status != 200:
                    raise RuntimeError(f"{self.name}: status {reply.status}: {reply.body[-300:]!r}")
                found[first] = reply.body
            connection.close()

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(self.clients)))
        took_s = time.perf_counter() - began
        return took_s, [found[first] for first, _ in parts]

    async def ranked(self, judged: Judged, query: str, documents: Sequence[str]) -> list[str]:
        """Documents ranked by late interaction."""
        texts = [judged.documents[one] for one in documents]
        asked = {"model": f"{self._model}-late-interaction", "query": judged.queries[query], "documents": texts}
        connection = await Connection.open(self._port)
        reply = await connection.ask(self._post("/v1/rerank", orjson.dumps({**asked, "truncate": "END"})))
        connection.close()
        if reply.status != 200:
            raise RuntimeError(f"{self.name}: status {reply.status}: {reply.body[-300:]!r}")
        return [documents[result["index"]] for result in orjson.loads(reply.body)["results"]]

    async def single(self, questions: Sequence[str], pause_s: float) -> list[float]:
        """One question after the other. Returns: seconds that each took."""
        connection = await Connection.open(self._port)
        seconds = []
        for question in questions:
            reply = await connection.ask(self.request([question], "query" if self.name == "Stoker" else None))
            if reply.status != 200:
                raise RuntimeError(f"{self.name}: status {reply.status}: {reply.body[-300:]!r}")
            seconds.append(reply.total_s)
            await asyncio.sleep(pause_s)
        connection.close()
        return seconds


def _rows(body: bytes) -> Rows:
    items = sorted(orjson.loads(body)["data"], key=lambda item: item["index"])
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in items]
    return np.stack(rows)


@dataclass(slots=True)
class Found:
    """Texts a second by round."""

    texts_per_s: list[float] = field(default_factory=list)
    cosine: float = 1.0


async def throughput(sides: Sequence[Plain | Server], ours: Server, mixes: Sequence[Texts], rounds: int) -> None:
    """Print texts and tokens a second of each side on each mix: medians of the rounds, and how many times the first
    side's. Tokens are counted by our server.
    """
    print("| texts | side | texts/s | tokens/s | of plain | mean cosine to plain |\n|" + " --- |" * 6, flush=True)
    for mix in mixes:
        found = {side.name: Found() for side in sides}
        true_rows: Rows | None = None
        for turn in range(rounds):
            for side in sides if turn % 2 == 0 else [sides[0], *reversed(sides[1:])]:
                seconds, rows = await side.embed(mix.texts)
                found[side.name].texts_per_s.append(len(mix.texts) / seconds)
                if true_rows is None:
                    true_rows = rows
                found[side.name].cosine = float(np.mean(np.sum(_normal(rows) * _normal(true_rows), axis=1)))
        plain = found[sides[0].name].texts_per_s
        for side in sides:
            speeds = found[side.name].texts_per_s
            ratio = statistics.median(own / other for own, other in zip(speeds, plain, strict=True))
            speed = statistics.median(speeds)
            print(
                f"| {mix.name} | {side.name} | {speed:.1f} | {speed * ours.tokens / len(mix.texts):.0f} | "
                f"{ratio:.2f} | {found[side.name].cosine:.5f} |",
                flush=True,
            )


async def concurrency(server: Server, mix: Texts, rounds: int) -> None:
    """Print texts and tokens a second by the number of clients that send at once."""
    usual = server.clients
    print(f"\n| clients, {mix.name} texts | texts/s | tokens/s |\n| --- | --- | --- |", flush=True)
    for server.clients in _CLIENTS:
        seconds = statistics.median([(await server.embed(mix.texts))[0] for _ in range(rounds)])
        print(f"| {server.clients} | {len(mix.texts) / seconds:.1f} | {server.tokens / seconds:.0f} |", flush=True)
    server.clients = usual


async def questions_during_bulk(server: Server, bulk: Texts, count: int) -> None:
    """Print how long single questions take while nothing else is to do, and during bulk work."""
    of = random.Random(5)
    questions = [" ".join(of.choice(_WORDS) for _ in range(9)) + "?" for _ in range(count)]
    await server.single(questions[:20], 0)
    idle = await server.single(questions, 0.005)
    halt = asyncio.Event()
    done = 0

    async def work() -> None:
        nonlocal done
        while not halt.is_set():
            await server.send(bulk.texts)
            done += len(bulk.texts)

    working = asyncio.create_task(work())
    await asyncio.sleep(0.5)
    began = time.perf_counter()
    busy = await server.single(questions, 0.005)
    halt.set()
    await working
    speed = done / (time.perf_counter() - began)
    print("\n| single questions | p50 ms | p99 ms |\n| --- | --- | --- |")
    for name, seconds in (("idle", idle), ("during bulk work", busy)):
        cuts = statistics.quantiles(seconds, n=100)
        print(f"| {name} | {cuts[49] * 1e3:.1f} | {cuts[98] * 1e3:.1f} |")
    ratio = statistics.quantiles(busy, n=100)[98] / statistics.quantiles(idle, n=100)[98]
    print(
        f"{server.name}: p99 during bulk work {ratio:.2f} times the idle one; bulk went on at {speed:.0f} texts/s",
        flush=True,
    )


async def quality(sides: Sequence[Plain | Server], name: str, judged: Judged) -> None:
    """Print nDCG@10 of a search by vectors alone, each side embedding documents and queries; and of the server's first
    20, ranked anew by late interaction.
    """
    documents = [one for one, text in judged.documents.items() if text.strip()]  # some say nothing
    queries = list(judged.queries)
    for side in sides:
        _, rows = await side.embed([judged.documents[one] for one in documents])
        _, asked = await side.embed([judged.queries[one] for one in queries])
        best = np.argsort(-(_normal(asked) @ _normal(rows).T), axis=1)[:, :20]
        found = {query: [documents[place] for place in places] for query, places in zip(queries, best, strict=True)}
        _say_quality(name, judged, side.name, found)
        if isinstance(side, Server):
            ranked = {query: await side.ranked(judged, query, found[query]) for query in queries}
            _say_quality(name, judged, f"{side.name}, its first 20 ranked by late interaction", ranked)


def _say_quality(name: str, judged: Judged, side: str, found: Mapping[str, Sequence[str]]) -> None:
    scores = [ndcg(documents, judged.relevant[query]) for query, documents in found.items()]
    of = f"{name}, {len(judged.documents)} documents, {len(scores)} queries"
    print(f"{of}: {side}: nDCG@10 {np.mean(scores):.4f}", flush=True)


def _normal(rows: Rows) -> Rows:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@contextmanager
def infinity(python: str, folder: str, log: Path, flags: Sequence[str], name: str) -> Iterator[Server]:
    """Infinity with these flags, ready to answer."""
    port = free_port()
    command = [
        str(Path(python).with_name("infinity_emb")), "v2", "--model-id", folder, "--served-model-name", "peer",
        "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--no-bettertransformer", *flags,
    ]  # fmt: skip
    environment = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with running(command, log, lambda: _answers(port), environment, 240):
        yield Server(f"Infinity {name}", port, "peer", "/embeddings")


def _answers(port: int) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def cpu() -> str:
    """What of the processor matters here."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    cores = len(os.sched_getaffinity(0))
    return (
        f"{model}, {cores} cores, {' '.join(flag for flag in _FLAGS if flag in flags) or 'none of ' + ' '.join(_FLAGS)}"
    )


async def measure(options: argparse.Namespace) -> None:
    print(cpu(), flush=True)
    of = random.Random(7)
    mixes = [texts_of(mix, options.texts if mix != "long" else options.texts // 3, of) for mix in _MIXES]
    folder, model = prepare_model("embedding")
    with TemporaryDirectory() as place, ExitStack() as stack:
        engine = stack.enter_context(start_embeddings(Path(place)))
        ours = Server("Stoker", int(engine.url.rpartition(":")[2]), model)
        sides: list[Plain | Server] = [stack.enter_context(Plain.started(folder)), ours]
        if options.peer_python:
            for name, flags in _INFINITY.items():
                log = Path(place) / name
                sides.append(stack.enter_context(infinity(options.peer_python, folder, log, flags, name)))
        for side in sides[1:]:
            await side.embed(mixes[0].texts[:64])
        await throughput(sides, ours, mixes, options.rounds)
        await concurrency(ours, mixes[1], options.rounds)
        await questions_during_bulk(ours, mixes[1], options.questions)
        for name in NAMES if options.collections else ():
            judged = load(name)
            if judged is None:
                print(f"{name}: the folder of shared data is not there")
            else:
                await quality(sides[:2], name, judged)


_INFINITY = {
    "torch float32": ("--engine", "torch", "--dtype", "float32"),
    "torch bfloat16": ("--engine", "torch", "--dtype", "bfloat16"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1000, help="of each mix; a third of that of long ones")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--collections", action="store_true", help="nDCG@10 on the shared collections, too")
    parser.add_argument("--peer-python", help="of the environment that holds Infinity")
    uvloop.run(measure(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
