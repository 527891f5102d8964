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
from collections import Counter
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
from retrieval.exporting import packed
from retrieval.index import Row
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


def _texts(count: int) -> Iterator[str]:
    rng = np.random.default_rng(1)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, int(rng.integers(4, 10)))) for _ in range(_WORDS)])
    share = 1 / np.arange(1, _WORDS + 1)
    share /= share.sum()
    for first in range(0, count, _AT_ONCE):
        for drawn in rng.choice(words, (min(_AT_ONCE, count - first), _OF_CHUNK), p=share):
            yield " ".join(drawn)


@cache
def _terms(word: str) -> list[str]:
    return analyze(word)


def _embedded(model: ModelFolder, texts: list[str]) -> NDArray[np.float32]:
    command = [edge.python(), "-c", _EMBED, str(model.path), model.name]
    done = subprocess.run(
        command, cwd=ROOT, input=json.dumps(texts), capture_output=True, text=True, check=True, timeout=300
    )
    return np.frombuffer(base64.b64decode(done.stdout.splitlines()[-1]), "<f4").reshape(len(texts), -1)


def _records(count: int, model: ModelFolder) -> Iterator[dict[str, Any]]:
    texts = _texts(count)
    sentences = [" ".join(text.split()[:_OF_SENTENCE]) for text in _texts(_SENTENCES)]
    centres = _embedded(model, sentences)
    rng = np.random.default_rng(2)
    head = next(records((), centres.shape[1]))
    yield {**head, "name": "bench", "chunks": count, "embedding_model": model.name}
    frequencies: Counter[str] = Counter()
    for first in range(0, count, _OF_DOCUMENT):
        rows, held, text = [], Counter[str](), ""
        for number in range(min(_OF_DOCUMENT, count - first)):
            at = int(rng.integers(_SENTENCES))
            words = f"{sentences[at]} {next(texts)}"
            noise = rng.standard_normal(centres.shape[1]).astype(np.float32)
            vector = centres[at] + _NOISE * noise / np.linalg.norm(noise)
            terms = [term for word in words.split() for term in _terms(word)]
            held.update(set(terms))
            rows.append(
                Row(
                    id=str(number),
                    revision_id="",
                    document_id="",
                    tenant_id="",
                    collection_id="",
                    acl=(),
                    filename="",
                    start=len(text),
                    end=len(text) + len(words),
                    page=None,
                    text="",
                    metadata={},
                    dense=vector / np.linalg.norm(vector),
                    sparse=bm25.weigh(terms, 65.0),
                )
            )
            text += f"{words}\n"
        frequencies.update(held)
        document = {
            "kind": "document", "id": f"doc_{first}", "revision_id": f"rev_{first}", "version": 1,
            "filename": f"{first}.txt", "media_type": "text/plain", "sha256": "", "metadata": {"first": first},
            "file_id": None, "pages": [], "created_at": 1.0, "expires_at": None, "chunks": len(rows),
            "terms": dict(held), "text": text,
        }  # fmt: skip
        yield document
        yield {"kind": "chunks", "document": document["id"], **packed(rows)}
    yield {"kind": "statistics", "terms": dict(frequencies)}
    yield {"kind": "end", "documents": -(-count // _OF_DOCUMENT), "chunks": count}


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
            asked = [" ".join(rng.choice(text.split(), 6)) for text in islice(_texts(options.chunks), options.searches)]
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
