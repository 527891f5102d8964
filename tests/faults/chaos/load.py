"""Mixed load of two tenants: chats and streams on both lanes, questions, and documents that come in.

Each operation ends in a word that says what its client saw. `GOOD` is what it asked for, `CLEAR` is an answer that says
what is missing, and anything else is what no client may see.
"""

import asyncio
import bisect
import itertools
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from tests.support.exact import model as exact

EXACT, HOSTED, TELLING = "exact", "hosted", "telling"  # model groups
CHAT, QUERY, INGEST = "/v1/chat/completions", "/v1/query", "/v1/ingest"
COLLECTION = "tales"
KINDS = ("chat", "stream", "hosted chat", "hosted stream", "question", "question stream", "document")
GOOD = frozenset({"whole"})
CLEAR = frozenset({"degraded", "error event", "429", "502", "503", "504"})
PATIENCE_S = 60.0
TOKENS = 12
_NUMBERS = itertools.count()  # names of operations are unique in a run


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks; `word` stands in all of its documents, and in nobody else's."""

    id: str
    key: str
    word: str


@dataclass(slots=True)
class Operation:
    """What one client asked for; times on the monotonic clock.

    Attributes:
        usage: tokens in and out, as the client was told.
    """

    kind: str
    name: str
    tenant: Tenant
    began_s: float
    ended_s: float = 0.0
    outcome: str = ""
    usage: tuple[int, int] | None = None


@dataclass
class Seen:
    """All operations, and the documents that were sent.

    Attributes:
        sent: document title to its tenant; `accepted` are those of which the gateway said that it has them.
        foreign: what was shown to a tenant that it must not see.
    """

    operations: list[Operation] = field(default_factory=list)
    sent: dict[str, Tenant] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)

    def since(self, began_s: float) -> Iterator[Operation]:
        return (one for one in self.operations if one.began_s >= began_s)

    def met(self, touches: list[float], since_s: float) -> list[Operation]:
        """Operations that were under way at a touch; `touches` rise."""

        def touched(one: Operation) -> bool:
            first = bisect.bisect_left(touches, one.began_s)
            return first < len(touches) and touches[first] <= one.ended_s

        return [one for one in self.operations if one.ended_s >= since_s and touched(one)]

    def outcomes(self) -> Counter[str]:
        return Counter(one.outcome for one in self.operations)


class Load:
    """Clients that ask until the block ends; open it with `load`."""

    def __init__(self, url: Callable[[], str], tenants: list[Tenant], pause_s: float, keep: int | None) -> None:
        self._url = url
        self._tenants = tenants
        self._pause_s = pause_s
        self._keep = keep
        self._shelf: deque[tuple[str, str]] = deque()  # titles and ids, the oldest first
        self._halt = asyncio.Event()
        self.seen = Seen()

    async def run(self) -> None:
        ways: list[tuple[str, Callable[[httpx.AsyncClient, Operation], Awaitable[str]]]] = [
            ("chat", self._chat),
            ("stream", self._stream),
            ("hosted chat", self._chat),
            ("hosted stream", self._stream),
            ("question", self._question),
            ("question stream", self._question),
            ("document", self._document),
        ]
        async with asyncio.TaskGroup() as group:
            for tenant in self._tenants:
                for kind, act in ways:
                    group.create_task(self._repeat(tenant, kind, act))

    def halt(self) -> None:
        self._halt.set()

    async def _repeat(
        self, tenant: Tenant, kind: str, act: Callable[[httpx.AsyncClient, Operation], Awaitable[str]]
    ) -> None:
        async with httpx.AsyncClient(headers={"x-api-key": tenant.key}, timeout=PATIENCE_S) as client:
            while not self._halt.is_set():
                name = f"{tenant.word}-{kind.replace(' ', '-')}-{next(_NUMBERS)}"
                one = Operation(kind, name, tenant, time.monotonic())
                try:
                    one.outcome = await act(client, one)
                except httpx.TimeoutException:
                    one.outcome = "never answered"
                except (httpx.TransportError, orjson.JSONDecodeError) as error:
                    one.outcome = f"broken: {type(error).__name__}"
                one.ended_s = time.monotonic()
                self.seen.operations.append(one)
                await asyncio.sleep(self._pause_s)

    async def _post(self, client: httpx.AsyncClient, one: Operation, path: str, body: Mapping[str, Any]) -> Any:
        headers = {"x-request-id": one.name}
        answer = await client.post(f"{self._url()}{path}", json=body, headers=headers)
        if any(other.word in answer.text for other in self._tenants if other is not one.tenant):
            self.seen.foreign.append(f"{one.name}: {answer.text[:300]}")
        return answer

    def _body(self, one: Operation) -> dict[str, Any]:
        said = [{"role": "user", "content": f"Tell of {one.name}."}]
        group = HOSTED if one.kind.startswith("hosted") else EXACT
        return {"model": group, "messages": said, "max_tokens": TOKENS, "user": one.name}

    async def _chat(self, client: httpx.AsyncClient, one: Operation) -> str:
        body = self._body(one)
        answer = await self._post(client, one, CHAT, body)
        if answer.status_code != 200:
            return str(answer.status_code)
        told = answer.json()
        one.usage = (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"])
        return _judged(body, told["choices"][0]["message"]["content"])

    async def _stream(self, client: httpx.AsyncClient, one: Operation) -> str:
        body = {**self._body(one), "stream": True, "stream_options": {"include_usage": True}}
        answer = await self._post(client, one, CHAT, body)
        if answer.status_code != 200:
            return str(answer.status_code)
        text, error, done = "", False, False
        for line in answer.text.splitlines():
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                frame = orjson.loads(line[6:])
                error = error or "error" in frame
                text += "".join(choice["delta"].get("content") or "" for choice in frame.get("choices", ()))
                if used := frame.get("usage"):
                    one.usage = (used["prompt_tokens"], used["completion_tokens"])
        if error:
            return "error event"
        return _judged(body, text) if done else "a silent stop"

    async def _question(self, client: httpx.AsyncClient, one: Operation) -> str:
        body = {"query": f"Where does the {one.tenant.word} owl sleep in {one.name}?", "collection": COLLECTION}
        streamed = one.kind.endswith("stream")
        answer = await self._post(client, one, QUERY, {**body, "stream": streamed})
        if answer.status_code != 200:
            return str(answer.status_code)
        done = answer.json() if not streamed else None
        if streamed:
            *_, last = [event for event in answer.text.split("\n\n") if event]
            name, data = (line.partition(": ")[2] for line in last.split("\n"))
            if name == "error":
                return "error event"
            if name != "done":
                return "a silent stop"
            done = orjson.loads(data)
        assert done is not None
        if done["degraded"]:
            return "degraded" if done.get("degraded_reason") else "degraded without a reason"
        return "whole" if "bell tower" in done["answer"] and done["citations"] else f"wrong: {done['answer'][:100]}"

    async def _document(self, client: httpx.AsyncClient, one: Operation) -> str:
        """Send one document and wait for its job's end; while nobody can say, ask again."""
        content = f"# {one.name}\n\nThe {one.tenant.word} owl of {one.name} sleeps in the bell tower."
        self.seen.sent[one.name] = one.tenant
        body = {"collection": COLLECTION, "documents": [{"title": one.name, "content": content}]}
        answer = await self._post(client, one, INGEST, body)
        if answer.status_code != 202:
            return str(answer.status_code)
        self.seen.accepted[one.name] = answer.json()["document_ids"][0]
        limit_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit_s:
            try:
                job = await client.get(f"{self._url()}/v1/jobs/{answer.json()['job_id']}")
            except httpx.TransportError:  # what the client hears of its job is not what becomes of it
                await asyncio.sleep(0.2)
                continue
            if job.status_code == 200 and (status := job.json()["status"]) not in ("queued", "running"):
                if status == "succeeded":
                    await self._tidy(client, one.name, answer.json()["document_ids"][0])
                return "whole" if status == "succeeded" else f"job {status}: {job.text[:300]}"
            if job.status_code not in (200, 429, 503, 504):
                return f"job {job.status_code}"
            await asyncio.sleep(0.2)
        return "a job that does not end"

    async def _tidy(self, client: httpx.AsyncClient, title: str, document_id: str) -> None:
        """Delete the oldest where there are more of a tenant than are to be kept."""
        if self._keep is None:
            return
        mine = self.seen.sent[title]
        self._shelf.append((title, document_id))
        there = [one for one in self._shelf if self.seen.sent[one[0]] is mine]
        if len(there) > self._keep:
            gone = await client.delete(f"{self._url()}/v1/collections/{COLLECTION}/documents/{there[0][1]}")
            if gone.status_code == 200:
                self._shelf.remove(there[0])
                del self.seen.accepted[there[0][0]]


@asynccontextmanager
async def load(
    url: Callable[[], str], tenants: list[Tenant], pause_s: float = 0.15, keep: int | None = None
) -> AsyncIterator[Seen]:
    """Ask until the block ends, and wait then for what is under way.

    Args:
        url: asked for each call, so that clients can be led through a proxy.
        keep: documents of a tenant that are left; older ones are deleted. None: all of them.
    """
    clients = Load(url, tenants, pause_s, keep)
    task = asyncio.create_task(clients.run())
    try:
        yield clients.seen
    finally:
        clients.halt()
        await task


async def recovered(seen: Seen, since_s: float, recovery_s: float = 60.0) -> float:
    """Wait until each kind of operation has ended well that began since then. Returns: seconds that took."""
    limit_s = time.monotonic() + recovery_s
    while True:
        well = {one.kind for one in seen.since(since_s) if one.outcome in GOOD}
        if well >= set(KINDS):
            return time.monotonic() - since_s
        if time.monotonic() > limit_s:
            last = [(one.kind, one.outcome) for one in seen.since(since_s) if one.kind not in well][-12:]
            raise AssertionError(f"not right again after {recovery_s:g} s: {set(KINDS) - well}, {last}")
        await asyncio.sleep(0.1)


def _judged(body: dict[str, Any], text: str) -> str:
    told = exact.answer(EXACT, exact.read_chat(body))
    return "whole" if text == told.text else f"wrong: {text!r} is not {told.text!r}"
