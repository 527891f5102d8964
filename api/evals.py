"""POST /v1/evals: how good the search of a collection is, by judged questions."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from api.errors import describe
from api.identity import Caller
from api.record import record_of
from api.search_form import WayRequest
from api.state import State
from core.ids import new_id
from core.principal import Principal
from monitoring.logs import logger
from retrieval.errors import InputInvalid
from retrieval.evaluation.evaluator import Evaluation, Judged, Pipeline, Progress, Score
from retrieval.evaluation.measures import DEPTH
from retrieval.evaluation.statistics import Mean
from retrieval.evaluation.tuning import Tuning
from retrieval.query import Query

routes = APIRouter(prefix="/v1/evals", tags=["Documents"])
_log = logger(__name__)

Event = Progress | Evaluation | Tuning
Events = AsyncGenerator[Progress | Evaluation, None] | AsyncGenerator[Progress | Tuning, None]

_TOLD_EVERY = 10  # searches


class EvalQuery(BaseModel):
    """A question."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1, max_length=8000)


class EvalJudgement(BaseModel):
    """How well a document answers a question: 0 not at all."""

    model_config = ConfigDict(extra="forbid")

    query_id: str
    document: str = Field(min_length=1, max_length=2000)
    grade: int = Field(1, ge=-10, le=100)


class EvalPipeline(WayRequest):
    """A way of searching, under a name."""

    name: str = Field(min_length=1, max_length=100)
    top_k: int = Field(DEPTH, ge=10, le=DEPTH)
    filter: dict[str, Any] | None = None
    fuzzy: bool = False

    def pipeline(self) -> Pipeline:
        return Pipeline(self.name, Query("", "", self.top_k, filter=self.filter, way=self.way(), fuzzy=self.fuzzy))


class JudgedSet(BaseModel):
    """Questions with judgements of documents."""

    model_config = ConfigDict(extra="forbid")

    queries: list[EvalQuery]
    qrels: list[EvalJudgement]
    judged_by: str = Field("filename", max_length=300)

    def judged(self) -> list[Judged]:
        """The questions that have a relevant document. Raises: InputInvalid: there are questions, and none has."""
        grades: dict[str, dict[str, int]] = {}
        for one in self.qrels:
            grades.setdefault(one.query_id, {})[one.document] = one.grade
        found = [
            Judged(query.id, query.text, grades[query.id])
            for query in self.queries
            if any(grade > 0 for grade in grades.get(query.id, {}).values())
        ]
        if self.queries and not found:
            raise InputInvalid(
                "qrels",
                "None of the questions has a relevant document: a judgement names a question by its id, a document, "
                "and a grade above 0.",
            )
        return found


class EvalRequest(JudgedSet):
    """Judged questions, and the ways of searching to compare with the first of them."""

    collection: str = Field(min_length=1, max_length=200)
    pipelines: list[EvalPipeline] = Field(
        default_factory=lambda: [EvalPipeline(name=mode, mode=mode) for mode in ("hybrid", "dense", "lexical")]
    )
    tune: bool = False
    per_query: bool = False
    stream: bool = False


@routes.post("", response_model=None)
async def evaluate(asked: EvalRequest, request: Request, state: State, principal: Caller) -> Response:
    """Search every judged question by every pipeline; a document stands where its best passage stands.

    With `tune`, choose how hybrid search fuses instead: PATCH the collection's `search` with what is answered.
    """
    judged = asked.judged()
    events = _events(asked, judged, state, principal)
    first = await anext(events)  # what is wrong with the request is known by now, and keeps its status
    if asked.stream:
        return StreamingResponse(
            _streamed(asked, first, events, record_of(request).request_id),
            headers={"cache-control": "no-cache"},
            media_type="text/event-stream",
        )
    async for event in events:
        if not isinstance(event, Progress):
            return JSONResponse(_shown(asked, event))
        if await request.is_disconnected():
            await events.aclose()
            break
    return Response(status_code=499)


def _events(asked: EvalRequest, judged: Sequence[Judged], state: State, principal: Principal) -> Events:
    if asked.tune:
        return state.retrieval.evaluator.tune(principal, asked.collection, judged, asked.judged_by)
    pipelines = [one.pipeline() for one in asked.pipelines]
    return state.retrieval.evaluator.run(principal, asked.collection, judged, pipelines, asked.judged_by)


async def _streamed(asked: EvalRequest, first: Event, events: Events, request_id: str) -> AsyncIterator[bytes]:
    yield _frame(asked, first)
    try:
        async for event in events:
            if not isinstance(event, Progress) or event.done % _TOLD_EVERY == 0:
                yield _frame(asked, event)
    except Exception as error:
        _log.error("an evaluation broke off", request_id=request_id, exc_info=error)
        yield b"event: error\ndata: " + orjson.dumps(describe(error)[1]) + b"\n\n"


def _frame(asked: EvalRequest, event: Event) -> bytes:
    if isinstance(event, Progress):
        return b"event: progress\ndata: " + orjson.dumps({"done": event.done, "of": event.of}) + b"\n\n"
    return b"event: done\ndata: " + orjson.dumps(_shown(asked, event)) + b"\n\n"


def _shown(asked: EvalRequest, event: Evaluation | Tuning) -> dict[str, Any]:
    return shown_tuning(asked, event) if isinstance(event, Tuning) else shown(asked, event)


def shown_tuning(asked: EvalRequest, tuning: Tuning) -> dict[str, Any]:
    """What was chosen as clients see it; `search` is what PATCH of the collection takes."""
    names = ("ndcg", "cross_validated", "usual", "dense", "lexical")
    return {
        "id": new_id("eval"),
        "object": "eval.tuning",
        "collection": asked.collection,
        "search": {
            "mode": "hybrid",
            "fusion": {"method": tuning.fusion.method, "dense_weight": tuning.fusion.dense_weight},
        },
        "ndcg@10": {"tuned" if name == "ndcg" else name: round(getattr(tuning, name), 4) for name in names},
    }


def shown(asked: EvalRequest, evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as clients see it."""
    low, high = evaluation.versions
    answer: dict[str, Any] = {
        "id": new_id("eval"),
        "object": "eval",
        "collection": asked.collection,
        "collection_version": high,
        "changed_meanwhile": low != high,
        "queries": len(evaluation.questions),
        "unjudged_queries": len(asked.queries) - len(evaluation.questions),
        "missing_documents": evaluation.missing,
        "missing_examples": list(evaluation.missing_examples),
        "pipelines": [_shown_score(score) for score in evaluation.scores],
        "comparisons": [
            {
                "measure": "ndcg@10",
                "first": one.first,
                "second": one.second,
                "difference": _shown_mean(one.difference.difference),
                "p": round(one.difference.p, 4),
                "better": one.difference.better,
                "worse": one.difference.worse,
            }
            for one in evaluation.comparisons
        ],
    }
    if asked.per_query:
        answer["per_query"] = [
            {
                "query_id": question.id,
                **{
                    score.name: {name: round(some[at], 4) for name, some in score.questions.items()}
                    for score in evaluation.scores
                },
            }
            for at, question in enumerate(evaluation.questions)
        ]
    return answer


def _shown_score(score: Score) -> dict[str, Any]:
    return {
        "name": score.name,
        "measures": {name: _shown_mean(mean) for name, mean in score.measures.items()},
        "degraded_queries": score.degraded,
        "search_ms": {"p50": round(score.p50_ms, 1), "p99": round(score.p99_ms, 1)},
    }


def _shown_mean(mean: Mean) -> dict[str, float]:
    return {"mean": round(mean.mean, 4), "low": round(mean.low, 4), "high": round(mean.high, 4)}
