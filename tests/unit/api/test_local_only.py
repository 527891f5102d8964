"""What a key that keeps its data in the house asks of the router: no hosted provider, on any way to a model."""

from types import SimpleNamespace
from typing import Any, cast, get_args

import httpx
import pytest
from fastapi import FastAPI

from api.answers.pipeline import Answerer
from api.answers.question import Question, Step, Turn, WantedWork
from api.answers.recipe import Recipe
from api.chat import conversing
from api.errors import FilterUnreadable
from api.hot.door import HotDoor
from api.hot.routes import ROUTES
from api.identities import Identity
from api.responses.keeping import Earlier, Keeper
from api.responses.request import read
from api.responses.responder import Responder, Wishes
from api.responses.searching import Found
from api.settings import ApiSettings
from core.clock import ManualClock
from core.money import Price
from core.principal import Principal, Role
from core.priority import Priority
from core.reach import ANYWHERE, HOME, Reach
from retrieval.metadata_fields import FieldSummary
from router.call import Call
from router.errors import NoDeployment
from router.router import Bound

SETTINGS = ApiSettings()


class Router:
    """Keeps the calls, and answers none."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def bound(self, group: str) -> Bound:
        return Bound(Price(), 16)

    def models(self) -> list[object]:
        return []

    def require(self, group: str) -> None:
        """There is every group."""

    async def open(self, call: Call) -> object:
        self.calls.append(call)
        raise NoDeployment(call.group, "this is a test", 1.0)


class Metering:
    """Admits everybody."""

    async def admit(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(close=lambda *_, **__: None)


class Fields:
    """Every collection has one key of metadata."""

    async def of(self, *_: object) -> dict[str, FieldSummary]:
        return {"year": FieldSummary(frozenset({"number"}), 1, (2024,))}


def far(local_only: bool) -> Reach:
    return HOME if local_only else ANYWHERE


def principal(local_only: bool) -> Principal:
    return Principal("t", "key_1", Role.MEMBER, reach=far(local_only), priority=Priority.BATCH, rescue=False)


@pytest.mark.parametrize("local_only", [False, True])
async def test_a_key_that_keeps_its_data_in_the_house_allows_no_hosted_provider(local_only: bool) -> None:
    router, app = Router(), FastAPI()
    identities = SimpleNamespace(cached=lambda _: Identity(principal(local_only)))
    metering: Any = Metering()
    unused: Any = None
    responder = Responder(
        cast(Any, router), metering, Keeper(unused, unused, unused, unused), unused, unused, SETTINGS, ManualClock()
    )
    app.state.stoker = SimpleNamespace(
        identities=identities, router=router, metering=metering, responder=responder, auto=None
    )
    body = {
        "model": "m",
        "messages": [{}],
        "prompt": "p",
        "input": "i",
        "max_tokens": 1,
        "query": "q",
        "documents": ["d"],
    }
    transport = httpx.ASGITransport(app=HotDoor(app, SETTINGS))
    async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
        for path in ROUTES:
            fields = body if path != "/v1/responses" else {"model": "m", "input": "i"}
            assert (await client.post(path, json=fields, headers={"x-api-key": "k"})).status_code == 503
    assert [call.reach.local_only for call in router.calls] == [local_only] * len(ROUTES)


@pytest.mark.parametrize("local_only", [False, True])
def test_its_questions_allow_none_either(local_only: bool) -> None:
    unused: Any = None
    answerer = Answerer(unused, unused, unused, SETTINGS, ManualClock())
    question = Question("When?", "port", "req_1")
    call = answerer._call(principal(local_only), question, Recipe.of(SETTINGS), "m", [], "req_1")
    assert call.reach.local_only is local_only


class Kept:
    """Collections of which each is local only, or none."""

    def __init__(self, local_only: bool) -> None:
        self._local_only = local_only

    async def get(self, _principal: Principal, _name: str) -> Any:
        return SimpleNamespace(reach=far(self._local_only))


@pytest.mark.parametrize(("local_only", "collection"), [(False, False), (True, False), (False, True)])
async def test_nor_does_any_step_that_works_on_them(local_only: bool, collection: bool) -> None:
    router: Any = Router()
    metering: Any = Metering()
    retrieval: Any = SimpleNamespace(metadata_fields=Fields(), collections=Kept(collection))
    answerer = Answerer(retrieval, router, metering, SETTINGS, ManualClock())
    everything = WantedWork(rewrite=True, multi_query=4, hyde=True, self_query=True)
    question = Question("And when?", "port", "req_1", model="m", turns=(Turn("user", "Hello."),), work=everything)
    with pytest.raises(FilterUnreadable):
        await anext(answerer.answer(Identity(principal(local_only)), question))
    assert [call.request_id for call in router.calls] == [f"req_1.{step}" for step in get_args(Step)]
    assert [call.reach.local_only for call in router.calls] == [local_only or collection] * len(router.calls)
    assert {(call.priority, call.rescue) for call in router.calls} == {(Priority.BATCH, False)}


class Before:
    """What came before a response."""

    def __init__(self, local_only: bool) -> None:
        self._local_only = local_only

    async def earlier(self, *_: object) -> Earlier:
        return Earlier((), far(self._local_only))


class Searching:
    """Vector stores of which one is local only, or none."""

    def __init__(self, local_only: bool) -> None:
        self._local_only = local_only

    async def search(self, *_: object) -> Found:
        return Found("When?", reach=far(self._local_only))


@pytest.mark.parametrize("key", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("store", [False, True])
async def test_nor_does_a_response_with_its_earlier_turns_and_its_documents(
    key: bool, before: bool, store: bool
) -> None:
    router: Any = Router()
    unused: Any = None
    parts: tuple[Any, ...] = (router, Metering(), Before(before), Searching(store), unused, SETTINGS, ManualClock())
    tool = {"type": "file_search", "vector_store_ids": ["col_1"]}
    asked, _ = read({"model": "m", "input": "When?", "conversation": "conv_1", "tools": [tool]})
    wishes = Wishes("req_1", Priority.BATCH, False, lambda: False)
    with pytest.raises(NoDeployment):
        async with Responder(*parts).answering(Identity(principal(key)), asked, wishes):
            pass
    (call,) = router.calls
    assert call.reach.local_only is (key or before or store)
    assert (call.priority, call.rescue) == (Priority.BATCH, False)


class Talks:
    """One conversation, in which nothing was said."""

    def __init__(self, local_only: bool) -> None:
        self._local_only = local_only

    async def newest(self, *_: object) -> tuple[object, list[Any], bool]:
        return SimpleNamespace(reach=far(self._local_only), items=0), [], False


@pytest.mark.parametrize("key", [False, True])
@pytest.mark.parametrize("before", [False, True])
async def test_nor_does_a_chat_in_a_conversation(key: bool, before: bool) -> None:
    router, talks = Router(), Talks(before)
    body = {"model": "m", "messages": [{"role": "user", "content": "When?"}]}
    turn = await conversing.open_turn(cast(Any, talks), Identity(principal(key)), "conv_1", body)
    with pytest.raises(NoDeployment):
        await conversing._open(cast(Any, router), turn, "m", "req_1")
    (call,) = router.calls
    assert call.reach.local_only is (key or before)
    assert (call.priority, call.rescue) == (Priority.BATCH, False)
