"""/v1/collections/{name}/evaluation: a judged set by which a collection is evaluated every day."""

from typing import Any

from fastapi import APIRouter

from api.evals import JudgedSet
from api.identity import Caller
from api.paging import After, Limit, checked_cursor, page
from api.state import State
from retrieval.evaluation.daily import Result, Setting

routes = APIRouter(prefix="/v1/collections/{name}/evaluation", tags=["Documents"])


@routes.put("")
async def put_evaluation(name: str, asked: JudgedSet, state: State, principal: Caller) -> dict[str, Any]:
    """Evaluate the collection's search by this judged set every day, and soon for the first time."""
    return _shown(await state.retrieval.daily.put(principal, name, asked.judged(), asked.judged_by))


@routes.get("")
async def get_evaluation(name: str, state: State, principal: Caller) -> dict[str, Any]:
    """Whether the collection is evaluated every day, and what came of it last."""
    return _shown(await state.retrieval.daily.get(principal, name))


@routes.delete("")
async def delete_evaluation(name: str, state: State, principal: Caller) -> dict[str, Any]:
    """Evaluate the collection no more; what came of it so far stays."""
    await state.retrieval.daily.remove(principal, name)
    return {"object": "collection.evaluation.deleted", "collection": name, "deleted": True}


@routes.get("/results")
async def list_results(
    name: str, state: State, principal: Caller, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """What came of each day's evaluation, the newest first."""
    cursor = checked_cursor(after, "eval")
    return page(await state.retrieval.daily.results(principal, name, cursor, limit + 1), limit, _shown_result)


def _shown(setting: Setting) -> dict[str, Any]:
    return {
        "object": "collection.evaluation",
        "collection": setting.collection,
        "queries": setting.questions,
        "judged_by": setting.judged_by,
        "created_by": setting.created_by,
        "created_at": int(setting.created_at),
        "next_at": int(setting.due_at),
        "last": None if setting.last is None else _shown_result(setting.last),
    }


def _shown_result(result: Result) -> dict[str, Any]:
    return {
        "id": result.id,
        "object": "collection.evaluation.result",
        "outcome": result.outcome,
        "reason": result.reason,
        "at": int(result.at),
        **(result.figures or {}),
    }
