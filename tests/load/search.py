"""`./stoker bench search`: how long a filtered hybrid search takes, while no document comes in and while many do.

A whole stack on real parts for each shape (`50x2000`: 50 collections of 2,000 chunks); rounds alternate between the
two, so that a slow minute meets both. Collections are filled with made vectors (`tests/load/filler.py`); documents that
come in are embedded. Beside it stands how much of what exact search finds the index finds.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import uvloop
from numpy.typing import NDArray

from tests.load.client import Connection
from tests.support.engines import start_embeddings
from tests.support.milvus import accepts
from tests.support.network import free_port
from tests.support.process import running
from tests.support.stack import ROOT, Stack, start_stack

_PARAGRAPHS = 20  # of a document, each of them a chunk
_LONG = 100  # paragraphs of a document that was there before
_CHUNKING = {"characters": 250, "tokens": 64}
_AT_ONCE = 25  # documents in one call
_YEARS = range(2015, 2025)
_COMPARED = 100  # searches whose answers are compared with exact search


class Writer:
    """Texts in the words of our own documentation, each as often as there, that nobody has written before."""

    def __init__(self, seed: int) -> None:
        text = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
        counted = Counter(re.findall(r"[a-z]{2,}", text.lower()))
        self._words, self._weights = list(counted), list(counted.values())
        self.of = random.Random(seed)

    def words(self, count: int) -> str:
        return " ".join(self.of.choices(self._words, self._weights, k=count))

    def documents(self, count: int, paragraphs: int) -> list[dict[str, Any]]:
        return [
            {
                "title": f"note {self.of.randrange(10**12)}",
                "content": "\n\n".join(self.words(24).capitalize() + "." for _ in range(paragraphs)),
                "metadata": {"year": self.of.choice(_YEARS)},
            }
            for _ in range(count)
        ]

    def question(self, collection: str, **more: Any) -> dict[str, Any]:
        """A hybrid search among some two thirds of a collection."""
        since = {"type": "gte", "key": "year", "value": self.of.choice(_YEARS[2:5])}
        return {"collection": collection, "query": self.words(6), "filter": since, "top_k": 10, **more}


@dataclass
class Phase:
    """Searches of one kind: seconds each took, over all rounds; how many had only one leg; chunks that came in."""

    name: str
    seconds: list[float] = field(default_factory=list)
    degraded: int = 0
    chunks: int = 0
    lasted_s: float = 0.0

    def percentile(self, share: int) -> float:
        return statistics.quantiles(self.seconds, n=100)[share - 1]


def _request(port: int, key: str, question: dict[str, Any]) -> bytes:
    body = httpx.Request("POST", "http://x/", json=question).content
    head = (
        f"POST /v1/search HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def search(stack: Stack, questions: Sequence[dict[str, Any]], phase: Phase) -> list[dict[str, Any]]:
    """One search after the other, as one person would. Returns: the answers."""
    port = int(stack.url.rpartition(":")[2])
    connection = await Connection.open(port)
    answers = []
    for question in questions:
        reply = await connection.ask(_request(port, stack.admin_key, question))
        if reply.status != 200:
            raise RuntimeError(f"status {reply.status}: {reply.body[-300:]!r}")
        phase.seconds.append(reply.total_s)
        answers.append(json.loads(reply.body))
        phase.degraded += answers[-1]["degraded"]
    connection.close()
    return answers


class Flood:
    """Documents that come in all the time while the block runs; what is not in by then is cancelled."""

    def __init__(self, client: httpx.AsyncClient, writer: Writer, collections: Sequence[str]) -> None:
        self._client = client
        self._writer = writer
        self._collections = collections
        self._jobs: list[str] = []

    async def __aenter__(self) -> None:
        for _ in range(2):
            await self._send()
        while not await self._has_begun():  # noqa: ASYNC110  # another process sets no event of ours
            await asyncio.sleep(0.1)
        self._task = asyncio.create_task(self._keep_coming())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for job in self._jobs:
            await self._client.delete(f"/v1/jobs/{job}")
        await asyncio.sleep(3)  # what was under way ends, and is swept up

    async def _send(self) -> None:
        collection = self._writer.of.choice(self._collections)
        body = {"collection": collection, "documents": self._writer.documents(_AT_ONCE, _PARAGRAPHS)}
        answer = await self._client.post("/v1/ingest", json=body)
        self._jobs.append(answer.raise_for_status().json()["job_id"])

    async def _keep_coming(self) -> None:
        while True:
            last = (await self._client.get(f"/v1/jobs/{self._jobs[-1]}")).json()
            if any(document["status"] != "queued" for document in last["documents"]):
                await self._send()  # the last lot has begun: the next waits behind it
            await asyncio.sleep(0.5)

    async def _has_begun(self) -> bool:
        first = (await self._client.get(f"/v1/jobs/{self._jobs[-2]}")).json()
        return any(document["status"] == "ready" for document in first["documents"])


@dataclass
class Compared:
    """What dense searches found, by document and place, to be compared with exact search once the stack is down."""

    collection_id: str
    since: int
    vector: NDArray[np.float32]
    found: set[tuple[str, int]]


def fill(stack: Stack, shape: "Shape", writer: Writer) -> tuple[dict[str, str], set[str]]:
    """Put the documents in. Returns: the collections' ids by their names, and the ids of the documents."""
    known: dict[str, str] = {}
    there: set[str] = set()
    for number in range(shape.collections):
        name = f"bench{number}"
        made = stack.client.post("/v1/collections", json={"name": name, "chunking": _CHUNKING}).raise_for_status()
        known[name] = made.json()["id"]
        missing = -(-shape.chunks // _LONG)
        while missing > 0:
            there |= set(stack.ingest(name, writer.documents(min(missing, _AT_ONCE), _LONG)))
            missing -= _AT_ONCE
    return known, there


async def compare(stack: Stack, writer: Writer, known: Mapping[str, str]) -> list[Compared]:
    """Search densely, and keep what was found."""
    names = list(known)
    asked = [writer.question(writer.of.choice(names), mode="dense") for _ in range(_COMPARED)]
    answers = await search(stack, asked, Phase("compared"))
    model = stack.client.get(f"/v1/collections/{names[0]}").json()["embedding_model"]
    compared = []
    for question, answer in zip(asked, answers, strict=True):
        embedded = stack.client.post("/v1/embeddings", json={"model": model, "input": question["query"]})
        vector = np.array(embedded.raise_for_status().json()["data"][0]["embedding"], np.float32)
        found = {(passage["document_id"], passage["start"]) for passage in answer["data"]}
        compared.append(Compared(known[question["collection"]], question["filter"]["value"], vector, found))
    return compared


async def measure(
    stack: Stack, writer: Writer, known: Mapping[str, str], rounds: int, searches: int
) -> tuple[list[Phase], list[Compared]]:
    """Search the collections, first to compare, then in both phases."""
    names = list(known)
    await asyncio.sleep(10)  # what came last is flushed, and merged

    def questions(count: int) -> list[dict[str, Any]]:
        return [writer.question(writer.of.choice(names)) for _ in range(count)]

    idle, busy = Phase("no document comes in"), Phase("documents come in")
    first = Phase("first")
    await search(stack, [writer.question(name) for name in names], first)
    print(f"the first search of a collection after a start: at most {max(first.seconds) * 1e3:.0f} ms", flush=True)
    compared = await compare(stack, writer, known)
    async with httpx.AsyncClient(base_url=stack.url, headers=stack.client.headers, timeout=120) as client:

        async def chunks() -> int:
            each = [(await client.get(f"/v1/collections/{name}")).json()["chunks"] for name in names]
            return int(sum(each))

        for _ in range(rounds):
            await search(stack, questions(searches), idle)
            async with Flood(client, writer, names):
                before, began_s = await chunks(), time.perf_counter()
                await search(stack, questions(searches), busy)
                busy.lasted_s += time.perf_counter() - began_s
                busy.chunks += await chunks() - before
    return [idle, busy], compared


def recall(folder: Path, compared: Sequence[Compared], there: Set[str]) -> float:
    """Of the 10 rows that exact search finds, the share that was found.

    Args:
        folder: Milvus Lite's, of a stack that is down.
        there: documents that were there when it was compared.
    """
    shares = []
    for collection_id in {each.collection_id for each in compared}:
        files = [file for file in folder.rglob("*.parquet") if collection_id in file.parts and "delta" not in file.name]
        rows = {}
        for file in files:
            table = pq.read_table(file, columns=["id", "document_id", "start", "metadata", "dense"])
            rows |= {row["id"]: row for row in table.to_pylist() if row["document_id"] in there}
        vectors = np.array([row["dense"] for row in rows.values()], np.float32)
        years = np.array([json.loads(row["metadata"])["year"] for row in rows.values()])
        places = [(row["document_id"], row["start"]) for row in rows.values()]
        for each in (each for each in compared if each.collection_id == collection_id):
            scores = np.where(years >= each.since, vectors @ each.vector, -np.inf)
            best = {places[at] for at in np.argsort(-scores, kind="stable")[:10]}
            shares.append(len(best & each.found) / len(best))
    return statistics.mean(shares)


@dataclass(frozen=True)
class Shape:
    """So many collections of so many chunks."""

    collections: int
    chunks: int

    @classmethod
    def read(cls, text: str) -> "Shape":
        collections, _, chunks = text.partition("x")
        return cls(int(collections), int(chunks))

    def __str__(self) -> str:
        return f"{self.collections} x {self.chunks:,}"


def _print(shape: Shape, phases: Sequence[Phase], found: float) -> None:
    for phase in phases:
        cells = [str(shape), phase.name, *(f"{phase.percentile(share) * 1e3:.1f}" for share in (50, 90, 99))]
        rate = phase.chunks / phase.lasted_s if phase.lasted_s else 0.0
        print("| " + " | ".join([*cells, f"{rate:.1f}", f"{found:.3f}", str(phase.degraded)]) + " |", flush=True)
    idle, busy = phases
    print(
        f"{shape}: p99 while documents come in is {busy.percentile(99) / idle.percentile(99):.2f} times the idle one; "
        f"{len(idle.seconds)} searches of each kind",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--searches", type=int, default=200, help="of each kind in each round")
    parser.add_argument(
        "--shapes", default="1x1000", help="collections x chunks of each, with commas between: 1x1000,1x10000,50x2000"
    )
    arguments = parser.parse_args()
    shapes = [Shape.read(text) for text in arguments.shapes.split(",")]
    print(
        "| collections | | p50 ms | p90 ms | p99 ms | chunks/s coming in | recall@10 | degraded |\n"
        + "|"
        + " --- |" * 8
    )
    for shape in shapes:
        with TemporaryDirectory() as name:
            config = Path(name) / "stoker.yaml"
            config.write_text(
                "model_list:\n  - model_name: absent\n    litellm_params:\n      model: hosted_vllm/absent\n"
                f"      api_base: http://127.0.0.1:{free_port()}/v1\n"
            )
            flags = ("--engine", "none", "--no-demo", "--config", str(config))
            data, writer = Path(name) / "data", Writer(7)  # the same texts in each run
            with (
                start_embeddings(Path(name)) as real,
                _filler(Path(name), real.url) as url,
                start_stack(data, *flags, env={"STOKER_EMBEDDING_URL": url}) as stack,
            ):
                known, there = fill(stack, shape, writer)
            with start_stack(data, *flags) as stack:
                phases, compared = uvloop.run(measure(stack, writer, known, arguments.rounds, arguments.searches))
            _print(shape, phases, recall(data / "milvus", compared, there))


@contextmanager
def _filler(folder: Path, real_url: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "tests.load.filler", str(port), real_url]
    with running(command, folder / "filler.log", lambda: accepts(port)):
        yield f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    main()
