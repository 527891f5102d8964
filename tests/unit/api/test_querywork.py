"""The steps of query work, with the asking of a model told in advance, on a virtual clock."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from api.admission.errors import Dimension, LimitReached
from api.answers.queryprompts import Prompt
from api.answers.querywork import QueryWorker
from api.answers.question import QueryWork, Question, Step, StepFailed, Turn, WantedWork
from api.answers.recipe import Recipe
from api.answers.retrieving import query_of
from api.errors import FilterUnreadable
from api.settings import ApiSettings
from core.clock import Clock
from core.limits import Limits, Subject, SubjectKind
from retrieval.metadata_fields import FieldSummary
from retrieval.query import Query
from tests.simulation.loop import LoopClock, VirtualLoop

T = TypeVar("T")

TURNS = (Turn("user", "When does the ferry leave?"), Turn("assistant", "At nine."))
REWRITTEN = "What does the ferry cost in winter?"
YEAR = {"type": "gte", "key": "year", "value": 2024}
FIELDS = {"year": FieldSummary(frozenset({"number"}), 3, (2023, 2024))}
EVERYTHING = WantedWork(rewrite=True, multi_query=2, hyde=True, self_query=True)
GOOD: Mapping[Step, object] = {
    "rewrite": REWRITTEN,
    "multi_query": json.dumps({"queries": ["price of the boat", "winter fare"]}),
    "hyde": "In winter the ferry costs nine crowns.",
    "self_query": json.dumps({"filter": YEAR}),
}
LIMIT = LimitReached(Subject(SubjectKind.KEY, "k", Limits()), Dimension.TOKENS, 60, 2.0)


class Script:
    """A model that says what it is told to, and takes its time.

    Attributes:
        says: by step; an exception is raised.
        takes_s: by step.
        asked: steps in the order in which they were asked, with the time and the data that they were shown.
        ended: steps in the order in which they ended, whether well or not.
    """

    def __init__(self, says: Mapping[Step, object] = GOOD, **takes_s: float) -> None:
        self.says = says
        self.takes_s = takes_s
        self.asked: list[tuple[Step, float, dict[str, Any]]] = []
        self.ended: list[Step] = []

    async def __call__(self, step: Step, prompt: Prompt) -> str:
        self.asked.append((step, asyncio.get_running_loop().time(), json.loads(prompt.content.split("\n")[1])))
        try:
            await asyncio.sleep(self.takes_s.get(step, 0.1))
            said = self.says[step]
            if isinstance(said, Exception):
                raise said
            return str(said)
        finally:
            self.ended.append(step)

    @property
    def steps(self) -> list[Step]:
        return [step for step, _, _ in self.asked]


def virtually(work: Callable[[Clock], Coroutine[Any, Any, T]]) -> T:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work(LoopClock(loop)))
    finally:
        loop.close()


def do(
    script: Script,
    wanted: WantedWork = EVERYTHING,
    *,
    fields: Mapping[str, FieldSummary] = FIELDS,
    turns: tuple[Turn, ...] = TURNS,
    own: dict[str, Any] | None = None,
    within_s: float = 10.0,
    laps: dict[str, float] | None = None,
) -> QueryWork:
    question = Question("And what does it cost?", "c", "req_1", filter=own, turns=turns, work=wanted)

    async def work(clock: Clock) -> QueryWork:
        def lap(step: str, began_s: float) -> None:
            if laps is not None:
                laps[step] = clock.monotonic() - began_s

        began_s = clock.monotonic()
        try:
            return await QueryWorker(question, script, clock, 10.0, lap).work(fields)
        finally:
            assert clock.monotonic() - began_s <= within_s + 0.01

    return virtually(work)


def test_the_question_is_rewritten_first_and_then_everything_else_runs_at_once() -> None:
    script, laps = Script(multi_query=2.0, hyde=3.0, self_query=1.0, rewrite=0.5), {}
    done = do(script, laps=laps)
    assert done == QueryWork(
        REWRITTEN, ("price of the boat", "winter fare"), "In winter the ferry costs nine crowns.", YEAR, {}
    )
    began = {step: at_s - script.asked[0][1] for step, at_s, _ in script.asked}
    assert began == pytest.approx({"rewrite": 0, "multi_query": 0.5, "hyde": 0.5, "self_query": 0.5})
    assert laps == pytest.approx({"rewrite": 0.5, "multi_query": 2.0, "hyde": 3.0, "self_query": 1.0})
    assert {data["question"] for step, _, data in script.asked if step != "rewrite"} == {REWRITTEN}


def test_nothing_is_asked_that_nobody_wants() -> None:
    for wanted, steps in (
        (WantedWork(), []),
        (WantedWork(rewrite=True), ["rewrite"]),
        (WantedWork(multi_query=1), ["multi_query"]),
        (WantedWork(hyde=True), ["hyde"]),
        (WantedWork(self_query=True), ["self_query"]),
    ):
        script = Script()
        done = do(script, wanted)
        assert script.steps == steps
        assert (done.question == REWRITTEN) is bool(wanted.rewrite)
        assert len(done.queries) == wanted.multi_query
        assert (done.hypothetical is not None) is wanted.hyde
        assert (done.filter is not None) is wanted.self_query


def test_the_first_question_of_a_conversation_is_not_rewritten() -> None:
    script = Script()
    done = do(script, WantedWork(rewrite=True), turns=())
    assert (script.steps, done.question, done.failed) == ([], "And what does it cost?", {})


def test_documents_without_metadata_have_no_filter() -> None:
    script = Script()
    assert do(script, WantedWork(self_query=True), fields={}).filter is None
    assert script.steps == []


@pytest.mark.parametrize("step", ["rewrite", "multi_query", "hyde"])
@pytest.mark.parametrize(
    ("said", "takes_s"),
    [(StepFailed("no model answered: it is away"), 0.1), ("", 0.1), ("x" * 9000, 0.1), ("never", 1e9)],
    ids=["away", "empty", "absurd", "late"],
)
def test_a_step_that_helps_is_left_out_where_it_fails_and_named(step: Step, said: object, takes_s: float) -> None:
    done = do(Script({**GOOD, step: said}, **{step: takes_s}), WantedWork(rewrite=True, multi_query=2, hyde=True))
    late = takes_s > 10
    # Who is late leaves the others no time only where they wait for it.
    left_out = {"rewrite", "multi_query", "hyde"} if late and step == "rewrite" else {step}
    assert set(done.failed) == left_out
    assert all(done.failed.values())
    assert (done.question == REWRITTEN) is ("rewrite" not in left_out)
    assert bool(done.queries) is ("multi_query" not in left_out)
    assert bool(done.hypothetical) is ("hyde" not in left_out)
    if late:
        assert "10 s" in done.failed[step]


def test_the_deadline_is_for_all_steps_together_and_nobody_is_asked_after_it() -> None:
    script = Script(rewrite=9.0, multi_query=0.9, hyde=2.0)
    done = do(script, WantedWork(rewrite=True, multi_query=2, hyde=True))
    assert set(done.failed) == {"hyde"}
    assert done.queries
    late = Script(rewrite=1e9)
    done = do(late, WantedWork(rewrite=True, multi_query=2, hyde=True))
    assert set(done.failed) == {"rewrite", "multi_query", "hyde"}
    assert late.steps == ["rewrite"]


@pytest.mark.parametrize(
    ("said", "takes_s", "why"),
    [
        (StepFailed("no model answered: it is away"), 0.1, "it is away"),
        ("", 0.1, "no JSON"),
        ("There is no filter.", 0.1, "no JSON"),
        (json.dumps({"filter": {"type": "eq", "key": "salary", "value": 1}}), 0.1, "no document carries"),
        (json.dumps({"filter": {"type": "eq", "key": "year", "value": "2024"}}), 0.1, "number, with text"),
        (json.dumps({"filter": {}}), 0.1, "is no filter"),
        ("never", 1e9, "10 s"),
    ],
)
def test_a_filter_that_cannot_be_read_ends_the_question_and_the_other_steps(
    said: object, takes_s: float, why: str
) -> None:
    script = Script({**GOOD, "self_query": said}, self_query=takes_s, hyde=9.0)
    with pytest.raises(FilterUnreadable, match=why) as caught:
        do(script, within_s=10.0 if takes_s > 10 else 0.2)
    assert 'give "filter" yourself, or leave self_query out' in str(caught.value)
    assert caught.value.param == "query_work.self_query"
    assert sorted(script.ended) == ["hyde", "multi_query", "rewrite", "self_query"], (
        "nothing goes on behind an error, or is waited for"
    )


def test_no_filter_is_an_answer_too() -> None:
    done = do(Script({**GOOD, "self_query": '{"filter": null}'}))
    assert (done.filter, done.failed) == (None, {})


def test_a_filter_that_does_not_go_with_the_callers_own_ends_the_question() -> None:
    own = {"type": "in", "key": "year", "value": list(range(200))}
    with pytest.raises(FilterUnreadable, match="at most 200"):
        do(Script(), own=own)


def test_what_was_made_of_a_question_is_what_is_searched() -> None:
    question = Question("What does it cost?", "c", "req_1", top_k=7, filter=YEAR, use_cache="exact")
    recipe = Recipe.of(ApiSettings())
    plain = Query("c", "What does it cost?", 7, filter=YEAR, rerank_deadline_s=5.0)
    assert query_of(question, recipe, None) == query_of(question, recipe, QueryWork("What does it cost?")) == plain
    work = QueryWork("What does it cost?", ("its price",), "It costs nine crowns.", YEAR)
    more = {"wordings": ("its price",), "hypothetical": "It costs nine crowns."}
    assert query_of(question, recipe, work) == replace(plain, **more)
    assert query_of(replace(question, use_cache=False), recipe, None) == replace(plain, anew=True)


@pytest.mark.parametrize("step", list(GOOD))
def test_a_limit_refuses_the_whole_question_whichever_step_meets_it(step: Step) -> None:
    script = Script({**GOOD, step: LIMIT})
    with pytest.raises(LimitReached):
        do(script)
    assert len(script.ended) == len(script.asked)
