"""Evaluations on real parts: what they count, and what they refuse."""

from dataclasses import replace
from typing import Any

import pytest

from core.principal import Principal, Role
from retrieval.errors import CollectionNotFound, InputInvalid
from retrieval.evaluation.evaluator import Evaluation, Judged, Pipeline, Progress
from retrieval.intake import NewFile
from retrieval.query import Query
from retrieval.status import JobStatus
from tests.integration.retrieval.conftest import House

pytestmark = pytest.mark.slow  # each test has a collection of its own in the index

LEXICAL, DENSE = (Pipeline(mode, Query("", "", 100, mode=mode)) for mode in ("lexical", "dense"))  # type: ignore[arg-type]
QUESTIONS = [
    Judged("1", "the fee at the pier", {"pier.md": 2, "tide.md": 0}),
    Judged("2", "four metres in spring", {"tide.md": 1}),
    Judged("3", "zzz", {"cook.md": 1}),
]


@pytest.fixture
async def port(house: House) -> House:
    await house.retrieval.collections.create(house.principal, "port")
    files = [
        NewFile("pier.md", None, b"Visitors moor at pier K for a fee of 14 crowns.", {"key": "a"}),
        NewFile("tide.md", None, b"The tide rises by four metres in spring.", {"key": "b"}, acl={"users": ["ann"]}),
        NewFile("cook.md", None, b"Boil the rice for twelve minutes.", {"key": "c"}),
    ]
    async with house.worker():
        assert (await house.send("port", files)).status is JobStatus.SUCCEEDED
    return house


async def evaluated(house: House, *pipelines: Pipeline, who: Principal | None = None, **how: Any) -> Evaluation:
    questions = how.pop("questions", QUESTIONS)
    run = house.retrieval.evaluator.run(who or house.principal, "port", questions, pipelines or (LEXICAL,), **how)
    *progress, last = [event async for event in run]
    assert isinstance(last, Evaluation)
    total = len(questions) * len(pipelines or (LEXICAL,))
    assert progress == [Progress(done, total) for done in range(1, total + 1)]
    return last


async def test_each_measure_is_what_it_would_be_by_hand(port: House) -> None:
    found = await evaluated(port, LEXICAL, DENSE)
    lexical, dense = found.scores
    for measure in ("ndcg@10", "recall@100", "mrr", "map"):
        assert lexical.questions[measure] == [1.0, 1.0, 0.0], measure
        assert lexical.measures[measure].mean == pytest.approx(2 / 3)
    assert dense.questions["recall@100"] == [1.0, 1.0, 1.0]
    assert dense.questions["mrr"][2] in (1.0, 1 / 2, 1 / 3)
    (compared,) = found.comparisons
    assert (compared.first, compared.second) == ("lexical", "dense")
    assert compared.difference.better == 1
    assert (found.missing, lexical.degraded, found.versions[0]) == (0, 0, found.versions[1])
    assert 0 < lexical.p50_ms <= lexical.p99_ms


async def test_judgements_may_call_a_document_by_its_metadata_or_its_id(port: House) -> None:
    by_key = [Judged("1", "the fee at the pier", {"a": 1}), Judged("2", "four metres in spring", {"b": 1})]
    found = await evaluated(port, questions=by_key, judged_by="metadata.key")
    assert found.scores[0].questions["mrr"] == [1.0, 1.0]
    ids = {one.filename: one.id for one in await port.retrieval.documents.list(port.principal, "port")}
    by_id = [Judged("1", "the fee at the pier", {ids["pier.md"]: 1})]
    assert (await evaluated(port, questions=by_id, judged_by="id")).scores[0].questions["mrr"] == [1.0]


async def test_what_a_caller_may_not_read_is_missing_and_is_not_told(port: House) -> None:
    bob = Principal(port.principal.tenant_id, "key_b", Role.MEMBER, user_id="bob")
    found = await evaluated(port, who=bob)
    assert (found.missing, list(found.missing_examples)) == (1, ["tide.md"])  # a name that the caller has sent
    assert found.scores[0].questions["ndcg@10"] == [1.0, 0.0, 0.0]
    with pytest.raises(InputInvalid) as caught:
        await evaluated(port, who=bob, questions=[QUESTIONS[1]])
    assert "by filename there is 'cook.md', 'pier.md';" in str(caught.value)


async def test_while_a_leg_is_away_the_figures_say_so(port: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError("away")

    monkeypatch.setattr(port.retrieval.embedder, "_post", refuse)
    found = await evaluated(port, Pipeline("hybrid", Query("", "")))
    assert found.scores[0].degraded == len(QUESTIONS)


@pytest.mark.parametrize(
    ("questions", "pipelines", "judged_by", "param"),
    [
        ([], [LEXICAL], "filename", "queries"),
        ([QUESTIONS[0]] * 2, [LEXICAL], "filename", "queries"),
        ([replace(QUESTIONS[0], id=str(number)) for number in range(2001)], [LEXICAL], "filename", "queries"),
        (QUESTIONS, [], "filename", "pipelines"),
        (QUESTIONS, [LEXICAL, LEXICAL], "filename", "pipelines"),
        ([replace(QUESTIONS[0], grades={"pier.md": 0})], [LEXICAL], "filename", "qrels"),
        (QUESTIONS, [LEXICAL], "name", "judged_by"),
        (QUESTIONS, [LEXICAL], "metadata.", "judged_by"),
        (QUESTIONS, [LEXICAL], "id", "judged_by"),
    ],
)
async def test_what_cannot_be_evaluated_is_refused_before_the_first_search(
    port: House, questions: list[Judged], pipelines: list[Pipeline], judged_by: str, param: str
) -> None:
    run = port.retrieval.evaluator.run(port.principal, "port", questions, pipelines, judged_by)
    with pytest.raises(InputInvalid) as caught:
        await anext(run)
    assert caught.value.param == param


async def test_a_collection_that_is_not_there_cannot_be_evaluated(port: House) -> None:
    run = port.retrieval.evaluator.run(port.principal, "nothing", QUESTIONS, [LEXICAL])
    with pytest.raises(CollectionNotFound):
        await anext(run)
