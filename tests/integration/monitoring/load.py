"""A load generator that counts for itself what it asked and what it got: by its own eyes, not by anybody's metrics."""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.gateway import Gateway, workers

CHAT, QUERY, SEARCH, MODELS = "/v1/chat/completions", "/v1/query", "/v1/search", "/v1/models"
HOLD = "hold"  # a prompt that holds this word gets two words and then silence
GHOST = "ghost"  # what a question with this word is answered with, no document says
SPOKEN, ANSWERING, ABSENT = "words", "tales", "absent"  # model groups; the last one's engine was never started
TALES = {
    "owl": "The owl sleeps in the bell tower.",
    "cat": "The cat sleeps on the warm stove.",
    "dog": "The dog sleeps under the stairs.",
}


@dataclass
class Counted:
    """What ended, as its caller saw it; `cut` is what did not.

    Attributes:
        requests: by route, method and status.
        by_worker: the same of each worker, by its process.
        tokens: as usages said, by model group and direction.
        questions: by whether the answer was degraded.
        documents: by how their ingestion ended.
        streams: answers in pieces, by route; `wholes`: in one.
    """

    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    by_worker: dict[int | None, Counter[tuple[str, str, str]]] = field(default_factory=dict)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    wholes: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)

    def end(self, route: str, method: str, status: int, worker: int | None) -> None:
        name = (route, method, str(status))
        self.requests[name] += 1
        self.by_worker.setdefault(worker, Counter())[name] += 1

    def spend(self, group: str, usage: Mapping[str, Any]) -> None:
        self.tokens[group, "in"] += usage["prompt_tokens"]
        self.tokens[group, "out"] += usage["completion_tokens"]


class Lane:
    """One kept connection, and so one worker.

    Attributes:
        worker: the process that has the connection, once it has answered on it.
        holding: a stream is open on it that will not end by itself.
    """

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._connect()

    def _connect(self) -> None:
        self.worker: int | None = None
        self.holding = False
        self._client = httpx.AsyncClient(
            base_url=self._load.gate.url,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=600),
            timeout=60,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self, method: str, path: str, route: str = "", key: str = "", **how: Any) -> httpx.Response | None:
        """Returns: the answer; None: the connection broke before it had ended."""
        headers = {"x-api-key": key or self._load.gate.key}
        try:
            async with self._client.stream(method, path, headers=headers, **how) as answer:
                self._see(answer)
                await answer.aread()
        except httpx.TransportError:
            await self._was_cut(route or path)
            return None
        self._load.counted.end(route or path, method, answer.status_code, self.worker)
        return answer

    async def stream(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns: the data of all events; none where the stream broke or the answer was none."""
        found, headers = [], {"x-api-key": self._load.gate.key}
        try:
            async with self._client.stream("POST", path, headers=headers, json={**body, "stream": True}) as answer:
                self._see(answer)
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        found.append(json.loads(line.removeprefix("data: ")))
                        self.holding = HOLD in str(body) and len(found) > 1
        except httpx.TransportError:
            await self._was_cut(path)
            return []
        self._load.counted.end(path, "POST", answer.status_code, self.worker)
        return found if answer.status_code == 200 else []

    def _see(self, answer: httpx.Response) -> None:
        if self.worker is None:
            client_port = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
            self.worker = worker_of(self._load.gate, client_port)

    async def _was_cut(self, route: str) -> None:
        self._load.counted.cut[route] += 1
        await self.close()
        self._connect()


class Load:
    """Lanes that ask at random until they are told to stop; those of `victim` only hold streams open."""

    def __init__(self, gate: Gateway, seed: int = 11) -> None:
        self.gate = gate
        self.counted = Counted()
        self.lanes: list[Lane] = []
        self.victim: int | None = None
        self.over = False
        self._chance = random.Random(seed)
        self._limited = ""

    def lane(self) -> Lane:
        """One more connection, on which nothing has been asked."""
        self.lanes.append(Lane(self))
        return self.lanes[-1]

    async def furnish(self) -> None:
        """Make what is asked for: a collection, and a key that is soon refused."""
        lane = self.lane()
        made = await lane.call("POST", "/v1/collections", json={"name": "tales"})
        assert made is not None
        assert made.status_code == 201, made.text
        limited = await lane.call("POST", "/v1/admin/keys", json={"name": "limited", "limits": {"rpm": 4, "burst": 4}})
        assert limited is not None
        self._limited = limited.json()["key"]
        await self.ingest(lane, 0)

    async def ask(self, lane: Lane) -> None:
        """Ask again and again."""
        ways: list[Callable[[Lane], Awaitable[None]]] = [
            *[self._whole] * 6, *[self._streamed] * 5, *[self._question] * 3, *[self._question_streamed] * 2,
            *[self._refused] * 2, self._absent, self._search, self._models, self._unknown,
        ]  # fmt: skip
        while not self.over:
            if self.victim is not None and lane.worker == self.victim:
                await lane.stream(CHAT, self._chat(f"{HOLD} the line please"))
            else:
                await self._chance.choice(ways)(lane)

    async def ingest(self, lane: Lane, number: int) -> None:
        """Ingest three documents and one that can't be read, and look until their job has ended."""
        documents = [{"title": f"{name} {number}", "content": text} for name, text in TALES.items()]
        jobs = [
            await lane.call("POST", "/v1/ingest", json={"collection": "tales", "documents": documents}),
            await lane.call(
                "POST", "/v1/ingest", data={"collection": "tales"},
                files={"file": (f"torn-{number}.pdf", b"%PDF-1.7 torn", "application/pdf")},
            ),
        ]  # fmt: skip
        for job in jobs:
            assert job is not None, "this lane's worker is not to be killed"
            assert job.status_code == 202, job.text
            await self._await_job(lane, job.json()["job_id"])

    async def _await_job(self, lane: Lane, job_id: str) -> None:
        while True:
            seen = await lane.call("GET", f"/v1/jobs/{job_id}", "/v1/jobs/{job_id}")
            assert seen is not None
            if (job := seen.json())["status"] in ("succeeded", "failed"):
                self.counted.documents.update(document["status"] for document in job["documents"])
                return
            await asyncio.sleep(0.2)

    def _chat(self, said: str, model: str = SPOKEN) -> dict[str, Any]:
        return {"model": model, "max_tokens": 40, "messages": [{"role": "user", "content": said}]}

    def _said(self) -> str:
        return " ".join(["word"] * self._chance.randint(2, 30))

    async def _whole(self, lane: Lane) -> None:
        answer = await lane.call("POST", CHAT, json=self._chat(self._said()))
        if answer is not None and answer.status_code == 200:
            self.counted.wholes[CHAT] += 1
            self.counted.spend(SPOKEN, answer.json()["usage"])

    async def _streamed(self, lane: Lane) -> None:
        body = {**self._chat(self._said()), "stream_options": {"include_usage": True}}
        if events := await lane.stream(CHAT, body):
            self.counted.streams[CHAT] += 1
            self.counted.spend(SPOKEN, events[-1]["usage"])

    def _asked(self) -> dict[str, Any]:
        who, number = self._chance.choice([*TALES, GHOST]), self._chance.randrange(12)  # some are asked again
        return {"query": f"Where does the {who} sleep in tale {number}?", "collection": "tales"}

    def _answered(self, told: Mapping[str, Any]) -> None:
        self.counted.questions[str(told["degraded"]).lower()] += 1
        self.counted.spend(ANSWERING, told["usage"])

    async def _question(self, lane: Lane) -> None:
        answer = await lane.call("POST", QUERY, json=self._asked())
        if answer is not None and answer.status_code == 200:
            self.counted.wholes[QUERY] += 1
            self._answered(answer.json())

    async def _question_streamed(self, lane: Lane) -> None:
        if events := await lane.stream(QUERY, self._asked()):
            self.counted.streams[QUERY] += 1
            self._answered(events[-1])

    async def _refused(self, lane: Lane) -> None:
        answer = await lane.call("POST", CHAT, key=self._limited, json=self._chat("word"))
        if answer is not None and answer.status_code == 200:
            self.counted.wholes[CHAT] += 1
            self.counted.spend(SPOKEN, answer.json()["usage"])

    async def _absent(self, lane: Lane) -> None:
        await lane.call("POST", CHAT, json=self._chat("word", ABSENT))

    async def _search(self, lane: Lane) -> None:
        await lane.call("POST", SEARCH, json=self._asked())

    async def _models(self, lane: Lane) -> None:
        await lane.call("GET", MODELS)

    async def _unknown(self, lane: Lane) -> None:
        await lane.call("GET", "/v1/collections/nowhere", "/v1/collections/{name}")


def worker_of(gate: Gateway, client_port: int) -> int | None:
    """The worker that has the other end of a connection to the gateway."""
    wanted = [f":{gate.port:04X}", f":{client_port:04X}"]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if [columns[1][-5:], columns[2][-5:]] == wanted:
            for pid in workers(gate.pid):
                if f"socket:[{columns[9]}]" in _open_files(pid):
                    return pid
    return None


def _open_files(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(link))
        except FileNotFoundError:  # closed meanwhile
            continue
    return found
