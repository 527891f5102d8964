"""An edge's searches at many chunks, and what it takes of memory.

    python -m tests.load.edge --chunks 100000 --searches 200 [--graph]

Texts are drawn from a seeded vocabulary in which few words are common. Embedding 100,000 texts would take half an hour,
so vectors are drawn, too: each is that of one of 64 sentences, which the real model embeds, with seeded noise. What a
search does is real: the question goes over HTTP, is embedded, and is looked for by vectors and by words.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import indexing
from edge.exporting import ModelFolder, write
from retrieval import bm25
from retrieval.analyzer import analyze
from tests.support import edge
from tests.support.engines import prepare_model
from tests.support.process import ROOT
from tests.unit.edge.records import records

_SENTENCES, _WORDS, _OF_CHUNK, _OF_DOCUMENT = 64, 20_000, 45, 100
_OF_SENTENCE = 12
_AT_ONCE = 1000
_NOISE = 0.5  # length of it, beside the sentence's vector of 1
_EMBED = """
import asyncio, base64, json, sys
from pathlib import Path
from edge.embedding import open_embedding
from retrieval.hosted import Space
folder, name, texts = Path(sys.argv[1]), sys.argv[2], json.load(sys.stdin)
async def main():
    async with open_embedding(folder, name) as (embedder, _):
        rows = await embedder.embed(texts, Space(name, 0))
    print(base64.b64encode(rows.astype("<f4").tobytes()).decode())
asyncio.run(main())
"""


@cache
def _words() -> NDArray[np.str_]:
    """The vocabulary, the commonest first."""
    rng = np.random.default_rng(1)
    drawn = rng.choice(np.array(list("abcdefghijklmnopqrstuvwxyz")), (_WORDS, 9))
    return np.array(["".join(each[:length]) for each, length in zip(drawn, rng.integers(4, 10, _WORDS), strict=True)])


def _lines(count: int) -> Iterator[NDArray[np.int64]]:
    """Texts, as places in the vocabulary; the second word is half as common as the first, the third a third."""
    rng = np.random.default_rng(4)
    share = 1 / np.arange(1, _WORDS + 1)
    for first in range(0, count, _AT_ONCE):
        yield from rng.choice(_WORDS, (min(_AT_ONCE, count - first), _OF_CHUNK), p=share / share.sum())


def _embedded(model: ModelFolder, texts: list[str]) -> NDArray[np.float32]:
    command = [edge.python(), "-c", _EMBED, str(model.path), model.name]
    done = subprocess.run(
        command, cwd=ROOT, input=json.dumps(texts), capture_output=True, text=True, check=True, timeout=300
    )
    return np.frombuffer(base64.b64decode(done.stdout.splitlines()[-1]), "<f4").reshape(len(texts), -1)


def _records(count: int, model: ModelFolder) -> Iterator[dict[str, Any]]:
    """An export of documents of a hundred chunks each."""
    words, terms = _words(), [analyze(word) for word in _words()]  # none of a word that is too common
    indexes = np.array([bm25.term_index(each[0]) if each else 0 for each in terms], "<u4")
    said = np.array([bool(each) for each in terms])
    lines = _lines(count + _SENTENCES)
    sentences = [line[:_OF_SENTENCE] for line in islice(lines, _SENTENCES)]
    centres = _embedded(model, [" ".join(words[sentence]) for sentence in sentences])
    rng = np.random.default_rng(2)
    yield {**next(records((), centres.shape[1])), "name": "bench", "chunks": count, "embedding_model": model.name}
    held = np.zeros(len(words), np.int64)
    _, document, template, *_ = records(("",), centres.shape[1])
    for first in range(0, count, _OF_DOCUMENT):
        number = min(_OF_DOCUMENT, count - first)
        of = rng.integers(_SENTENCES, size=number)
        noise = rng.standard_normal((number, centres.shape[1])).astype(np.float32)
        vectors = centres[of] + _NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        drawn = [np.concatenate([sentences[at], line]) for at, line in zip(of, islice(lines, number), strict=True)]
        texts = [" ".join(words[each]) for each in drawn]
        ends = np.cumsum([len(text) + 1 for text in texts]) - 1
        found = [np.unique(each[said[each]], return_counts=True) for each in drawn]
        for which, _ in found:
            held[which] += 1
        weights = np.concatenate([often * (bm25.K1 + 1) / (often + bm25.K1) for _, often in found])
        name = f"doc_{first}"
        about = {"id": name, "revision_id": f"rev_{first}", "filename": f"{first}.txt", "terms": {}}
        yield {**document, **about, "metadata": {"first": first}, "chunks": number, "text": "\n".join(texts)}
        yield {
            **template,
            "document": name,
            "start": (ends - [len(text) for text in texts]).tolist(),
            "end": ends.tolist(),
            "page": [None] * number,
            "dense": _base64(vectors.astype("<f4")),
            "held": [len(which) for which, _ in found],
            "terms": _base64(indexes[np.concatenate([which for which, _ in found])]),
            "weights": _base64(weights.astype("<f4")),
        }
    yield {"kind": "statistics", "terms": {terms[at][0]: int(held[at]) for at in np.flatnonzero(held)}}
    yield {"kind": "end", "documents": -(-count // _OF_DOCUMENT), "chunks": count}


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _memory(pid: int) -> dict[str, int]:
    """MiB by what they hold."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) // 1024 for name in ("VmRSS", "RssAnon", "RssFile")}


def _processor_s(pid: int) -> float:
    """Seconds of processors that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--graph", action="store_true", help="a graph (HNSW) at any size")
    options = parser.parse_args()
    if options.graph:
        indexing.MOST_FLAT = 0
    folder, name = prepare_model("embedding")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "bench.edge"
        began_s = time.perf_counter()
        model = ModelFolder(Path(folder), name)
        manifest = write(_records(options.chunks, model), place, model, None, "bench", time.time())
        print(
            f"{manifest.index['chunks']:,} chunks, {manifest.index['kind']}, {manifest.bytes / 2**20:.0f} MiB; "
            f"written in {time.perf_counter() - began_s:.0f} s"
        )
        began_s = time.perf_counter()
        with edge.serve(place, Path(temporary) / "log", timeout_s=300) as served:
            print(f"ready after {time.perf_counter() - began_s:.1f} s; memory {_memory(served.pid)} MiB")
            rng = np.random.default_rng(3)
            asked = [" ".join(_words()[rng.choice(line, 6)]) for line in _lines(options.searches)]
            for mode in ("hybrid", "dense", "lexical"):
                taken: list[float] = []
                before_s = _processor_s(served.pid)
                for question in asked:
                    began_s = time.perf_counter()
                    body = {"query": question, "collection": "bench", "mode": mode}
                    answer = served.client.post("/v1/search", json=body)
                    taken.append(1000 * (time.perf_counter() - began_s))
                    assert answer.status_code == 200, answer.text
                    assert answer.json()["data"]
                p95 = statistics.quantiles(taken, n=20)[-1]
                used_ms = 1000 * (_processor_s(served.pid) - before_s) / len(taken)
                print(
                    f"{mode}: p50 {statistics.median(taken):.1f} ms, p95 {p95:.1f} ms, {used_ms:.1f} ms of the "
                    f"processors each; {len(taken)} searches"
                )
            print(f"memory after them {_memory(served.pid)} MiB")


if __name__ == "__main__":
    main()
