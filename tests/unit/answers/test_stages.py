"""Each stage ends within its deadline, and what can be told without it is told, with the reason."""

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from api.answers.events import Done, Event
from api.answers.pipeline import Answerer
from api.answers.question import Question, Turn, WantedWork
from api.answers.recipes import Said
from api.settings import ApiSettings
from core.clock import Clock
from core.dependency import DependencyTimeout
from core.principal import Principal, Role
from core.reach import ANYWHERE, Reach
from retrieval.errors import InputInvalid
from retrieval.query import Query
from retrieval.search import Passage, SearchResult
from router.counting import Counted
from router.errors import UpstreamFailed
from tests.unit.answers.models import Play, Plays, virtually

TEXT = "The harbour opens at 07:45. Dogs are kept on a leash in the harbour. The pilot wears a red coat."
SAID = "The harbour opens at 07:45."
QUESTION = "When does the harbour open?"


class House:
    """One collection with one document, whose parts take their time.

    Attributes:
        search_s, content_s, count_s: seconds that each part takes.
        queries: what was searched.
        sizes: what was reserved.
        took_s: seconds of the last answer.
    """

    def __init__(self, *plays: Play, search_s: float = 0.2, content_s: float = 0.1, count_s: float = 0.1) -> None:
        self.router = Plays(*(plays or (Play([SAID]),)))
        self.search_s, self.content_s, self.count_s = search_s, content_s, count_s
        self.queries: list[Query] = []
        self.sizes: list[Any] = []
        self.texts = [TEXT]
        self.took_s = 0.0

    async def search(self, _principal: Principal, query: Query) -> SearchResult:
        self.queries.append(query)
        await asyncio.sleep(self.search_s)
        found = [
            Passage(f"doc_{at}", 1, "r", "port.md", text, 0, len(text), None, 1.0, {})
            for at, text in enumerate(self.texts)
        ]
        return SearchResult(found, 1, timings_ms={"rerank": 40.0} if query.way.get("rerank") else {})

    async def content(self, _principal: Principal, _collection: str, document_id: str, _version: int | None) -> str:
        await asyncio.sleep(self.content_s)
        return self.texts[int(document_id.removeprefix("doc_"))]

    async def count_tokens(self, _group: str, messages: Sequence[Mapping[str, str]], *, reach: Reach) -> Counted:
        await asyncio.sleep(self.count_s)
        return Counted(sum(len(message["content"]) for message in messages) // 4, 4096)

    async def admit(self, *asked: Any) -> Any:
        self.sizes.append(asked[-2])

        def nothing(*_: Any, **__: Any) -> None:
            return None

        return SimpleNamespace(
            opened=nothing,
            count=nothing,
            finish=nothing,
            close=nothing,
            switched=nothing,
            nano_usd=0,
            rate_headers=dict,
        )

    async def get(self, *_: object) -> Any:
        return SimpleNamespace(reach=ANYWHERE)

    def ask(self, said: Said | None = None, **fields: Any) -> Done:
        question = Question(**{"text": QUESTION, "collection": "c", "request_id": "req", **fields})

        async def of(*_: object) -> Said:
            return said or Said()

        async def work(clock: Clock) -> list[Event]:
            self.router.count_tokens = self.count_tokens  # type: ignore[method-assign]
            house: Any = SimpleNamespace(searcher=self, documents=self, collections=self)
            parts: list[Any] = [house, self.router, self]
            recipes: Any = SimpleNamespace(of=of)
            answerer = Answerer(*parts, ApiSettings(), clock, recipes)
            identity: Any = SimpleNamespace(principal=Principal("t", "key", Role.READER))
            began_s = clock.monotonic()
            try:
                return [event async for event in answerer.answer(identity, question)]
            finally:
                self.took_s = clock.monotonic() - began_s

        done = virtually(work)[-1]
        assert isinstance(done, Done)
        return done


def deadlines(**stages: float) -> Said:
    return Said({"deadlines_s": stages})


def test_an_answer_tells_how_long_each_stage_took() -> None:
    done = House().ask(rerank=True)
    assert (done.answer, done.degraded_reason) == (SAID, None)
    told = done.timings_ms
    assert set(told) == {"retrieve", "rerank", "pack", "generate", "verify", "total"}
    assert told["retrieve"] == pytest.approx(200)
    assert told["rerank"] == pytest.approx(40)
    assert told["pack"] == pytest.approx(100)
    assert told["verify"] == pytest.approx(100)
    assert told["total"] == pytest.approx(500)


def test_a_late_search_is_an_error_in_time_since_nothing_can_be_told() -> None:
    house = House(search_s=60.0)
    with pytest.raises(DependencyTimeout, match=r"no passages were found within 1\.5 s"):
        house.ask(deadlines(retrieve=1.5))
    assert house.took_s == pytest.approx(1.5)


def test_the_rerankers_deadline_goes_with_the_query() -> None:
    house = House()
    house.ask(deadlines(rerank=0.7), mode="lexical", rerank=True, rerank_top_n=2)
    (query,) = house.queries
    assert (query.rerank_deadline_s, query.mode, query.way, query.rerank_top_n) == (0.7, "lexical", {"rerank": True}, 2)


def test_a_late_tokenizer_is_left_out() -> None:
    house = House(count_s=60.0)
    done = house.ask(deadlines(pack=0.5))
    assert (done.answer, done.degraded_reason) == (SAID, None), "so little surely fits"
    assert house.took_s == pytest.approx(0.2 + 0.5 + 0.1 + 0.1)
    house = House(count_s=60.0)
    house.texts = [f"{TEXT} {'More of it. ' * 40}"]
    done = house.ask(Said({"pack": "passages", "max_context_tokens": 200, "deadlines_s": {"pack": 0.5}}))
    assert done.answer == SAID
    assert "no tokenizer answered in time" in str(done.degraded_reason)


def test_a_late_model_is_asked_again_and_then_the_sources_are_quoted() -> None:
    house = House(Play(opens_s=60.0), Play(opens_s=60.0))
    done = house.ask(deadlines(generate=4))
    assert done.answer == SAID
    assert "no model answered: it sent no token within 2 s" in str(done.degraded_reason)
    assert len(house.router.calls) == 2
    assert house.took_s == pytest.approx(0.2 + 0.1 + 4.0 + 0.1)


def test_a_second_answer_from_fewer_sources_says_so() -> None:
    house = House(Play(refused=UpstreamFailed("d", "answered 500")), Play([SAID]))
    house.texts = [TEXT, "The harbour master opens letters at noon. Nobody else does."]
    done = house.ask(Said({"passages": 2}))
    assert done.answer == SAID
    assert done.degraded_reason == "the model answered only when it was shown fewer sources"
    assert [call.body["messages"][0]["content"].count("<text>") for call in house.router.calls] == [2, 1]


def test_documents_that_cannot_be_looked_at_in_time_are_not_waited_for() -> None:
    house = House(content_s=60.0)
    done = house.ask(Said({"verify": "mark", "deadlines_s": {"verify": 0.8}}))
    assert (done.answer, done.citations, done.unsupported) == (SAID, (), ((0, len(SAID)),))
    assert "sources could not be looked at within 0.8 s" in str(done.degraded_reason)
    assert house.took_s == pytest.approx(0.2 + 0.1 + 0.1 + 0.8)


def test_where_nothing_is_left_to_tell_then_it_is_an_error_and_not_said_that_they_are_silent() -> None:
    house = House(content_s=60.0)
    with pytest.raises(DependencyTimeout, match="sources could not be looked at"):
        house.ask(deadlines(verify=0.8))
    assert house.took_s == pytest.approx(0.2 + 0.1 + 0.1 + 0.8)


def test_late_work_on_the_question_is_left_out() -> None:
    turns = (Turn("user", "Hello."), Turn("assistant", "Hello."))
    for said, work in (
        (Said({"rewrite": True, "deadlines_s": {"rewrite": 0.6}}), WantedWork()),
        (deadlines(rewrite=0.6), WantedWork(rewrite=True)),
    ):
        house = House(Play(opens_s=60.0), Play([SAID]))
        done = house.ask(said, turns=turns, work=work)
        assert done.answer == SAID
        assert done.work is not None
        assert "not done within the 0.6 s" in done.work.failed["rewrite"]
        assert house.took_s == pytest.approx(0.6 + 0.2 + 0.1 + 0.1 + 0.1)


def test_a_collections_wish_to_rewrite_changes_nothing_without_earlier_turns_or_where_it_is_not_wanted() -> None:
    for fields in ({}, {"turns": (Turn("user", "Hello."),), "work": WantedWork(rewrite=False)}):
        house = House()
        assert house.ask(Said({"rewrite": True}), **fields).work is None
        assert len(house.router.calls) == 1


def test_quotes_are_told_without_a_model_and_are_not_degraded() -> None:
    house = House()
    done = house.ask(Said({"generate": "quote"}))
    assert (done.answer, done.model, done.degraded_reason) == (SAID, None, None)
    assert (house.router.calls, house.sizes) == ([], [])


def test_the_template_and_the_system_are_what_the_model_is_told() -> None:
    house = House()
    done = house.ask(Said({}, "Read {sources}. Tell: {question}", 4), system="Be brief.")
    system, user = house.router.calls[0].body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert user["content"].startswith("Read <text>")
    assert user["content"].endswith(f"Tell: {QUESTION}")
    assert done.prompt_version == 4


def test_the_reservation_covers_both_calls() -> None:
    house = House(Play(refused=UpstreamFailed("d", "answered 500")), Play([SAID]))
    house.ask(Said({"pack": "passages", "max_context_tokens": 300, "passages": 5}), max_tokens=50)
    (size,) = house.sizes
    sent = [sum(len(message["content"].encode()) for message in call.body["messages"]) for call in house.router.calls]
    assert size.prompt_bytes >= sum(sent)
    assert size.completion_tokens == 100


@pytest.mark.parametrize("text", [" ", "\u200b\n", "\U000e0041"])
def test_a_question_of_nothing_is_refused_before_anything_is_done(text: str) -> None:
    house = House()
    with pytest.raises(InputInvalid, match="The question is empty"):
        house.ask(text=text)
    assert (house.queries, house.sizes) == ([], [])


def test_what_is_searched_and_asked_is_the_question_without_what_nobody_sees() -> None:
    house = House()
    house.ask(text=f" {QUESTION}\u200b ")
    assert house.queries[0].text == QUESTION
    assert house.router.calls[0].body["messages"][-1]["content"].endswith(QUESTION)
