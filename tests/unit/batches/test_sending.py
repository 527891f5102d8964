"""A line is sent in the name of whoever its batch belongs to, and as what waits longest."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from api.answers.recipes import Said
from api.batches.sending import ENDPOINTS, Sender
from api.hot.routes import ROUTES
from api.identities import Identity
from api.responses.keeping import Keeper
from api.responses.responder import Responder
from api.settings import ApiSettings
from api.state import AppState
from core.clock import ManualClock
from core.principal import Principal, Role
from core.priority import Priority
from retrieval.search import Passage, SearchResult
from tests.unit.api.test_grounding import QUESTION, TEXT, TRUE, Model
from tests.unit.api.test_local_only import Metering, Router, far

BODY = '{"model":"m","messages":[{}],"prompt":"p","input":"i","max_tokens":1,"query":"q","documents":["d"]}'
BODIES = {"/v1/responses": '{"model":"m","input":"i"}'}


def sender(router: Any, more: Mapping[str, Any] | None = None, **settings: Any) -> Sender:
    """One whose state has nothing else in it but `more`."""
    nothing: Any = SimpleNamespace(collections=None, documents=None)
    metering: Any = Metering()
    known = ApiSettings(**settings)
    keeper = Keeper(nothing, nothing, nothing, nothing)
    names = set(AppState.__dataclass_fields__)
    parts = dict.fromkeys(names, nothing) | {"settings": known, "router": router, "line_metering": metering}
    parts["responder"] = Responder(router, nothing, keeper, nothing, nothing, known, ManualClock())
    return Sender(AppState(**parts | dict(more or {})))


def identity(**fields: Any) -> Identity:
    return Identity(Principal("t", "key_1", fields.pop("role", Role.MEMBER), **fields))


@pytest.mark.parametrize("local_only", [False, True])
async def test_what_may_not_leave_the_house_does_not_do_so_in_a_batch(local_only: bool) -> None:
    router = Router()
    for endpoint in ENDPOINTS:
        body = BODIES.get(endpoint, BODY)
        reply = await sender(router).send(identity(reach=far(local_only)), endpoint, body, "batch_1-1-1")
        assert (reply.status, reply.retry_after_s) == (503, 1.0)
    assert [call.reach.local_only for call in router.calls] == [local_only] * len(ENDPOINTS)


@pytest.mark.parametrize("allowed", list(Priority))
async def test_every_line_waits_as_batches_do_whatever_its_key_may(allowed: Priority) -> None:
    router = Router()
    await sender(router).send(identity(priority=allowed), ENDPOINTS[0], BODY, "batch_1-1-1")
    assert [(call.priority, call.request_id, call.stream) for call in router.calls] == [
        (Priority.BATCH, "batch_1-1-1", False)
    ]


async def test_a_role_that_was_taken_away_meanwhile_sends_nothing() -> None:
    router = Router()
    reply = await sender(router).send(identity(role=Role.READER), ENDPOINTS[0], BODY, "batch_1-1-1")
    assert (reply.status, reply.body["error"]["code"]) == (403, "role_not_allowed")
    narrow = identity(scopes=frozenset({"batches"}))
    assert (await sender(router).send(narrow, ENDPOINTS[0], BODY, "batch_1-1-1")).status == 403
    assert router.calls == []


async def test_a_stream_is_refused_as_what_is_wrong_with_this_line() -> None:
    router = Router()
    reply = await sender(router).send(identity(), ENDPOINTS[0], '{"stream":true}', "batch_1-1-1")
    assert (reply.status, reply.body["error"]["param"]) == (400, "stream")
    assert router.calls == []


class Silent(Router):
    """Answers nobody, and notes whose waiting was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.cancelled = 0

    async def open(self, call: Any) -> object:
        self.calls.append(call)
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return None


async def test_who_waits_for_a_line_can_be_cancelled_and_the_upstream_is() -> None:
    router = Silent()
    task = asyncio.create_task(sender(router).send(identity(), ENDPOINTS[0], BODY, "batch_1-1-1"))
    await router.begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert router.cancelled == 1


async def test_a_deadline_is_an_answer_and_cancels_nobody_else() -> None:
    router = Silent()
    reply = await sender(router, request_deadline_s=0.05).send(identity(), ENDPOINTS[0], BODY, "batch_1-1-1")
    assert (reply.status, reply.body["error"]["code"]) == (504, "request_too_long")
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


def test_every_endpoint_is_one_of_the_hot_path() -> None:
    assert set(ENDPOINTS) == {path for path, route in ROUTES.items() if not route.anthropic}


async def test_an_answer_from_documents_is_billed_as_its_batchs_lines_are() -> None:
    heard: list[tuple[str, str, str]] = []

    class LineMetering:
        async def admit(self, _identity: Identity, route: str, group: str, request_id: str, *_: Any) -> Any:
            heard.append((route, group, request_id))
            deeds = dict.fromkeys(("opened", "count", "switched", "finish", "close"), _nothing)
            return SimpleNamespace(**deeds, nano_usd=0, rate_headers=dict)

    class Chats(Model):
        def require(self, _group: str) -> None:
            """There is every group."""

    async def search(*_: Any) -> SearchResult:
        return SearchResult([Passage("doc", 1, "rev", "port.md", TEXT, 0, len(TEXT), None, 1.0, {})], 1)

    async def content(*_: Any) -> str:
        return TEXT

    router: Any = Chats(TRUE)
    retrieval = SimpleNamespace(
        searcher=SimpleNamespace(search=search), documents=SimpleNamespace(content=content), collections=None
    )

    async def unsaid(*_: Any) -> Said:
        return Said()

    recipes = SimpleNamespace(of=unsaid)
    parts: dict[str, Any] = {
        "retrieval": retrieval,
        "recipes": recipes,
        "line_metering": LineMetering(),
        "clock": ManualClock(),
    }
    body = {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "retrieval": {"collection": "port"}}
    line = orjson.dumps(body).decode()
    reply = await sender(router, parts).send(identity(), "/v1/chat/completions", line, "batch_1-1-1")
    assert reply.status == 200, reply.body
    assert [one["quote"] for one in reply.body["choices"][0]["message"]["citations"]] == [TRUE]
    assert heard == [("/v1/chat/completions", "m", "batch_1-1-1")]


def _nothing(*_: Any, **__: Any) -> None:
    """Takes whatever a reservation is told."""
