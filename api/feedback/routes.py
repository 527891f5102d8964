"""/v1/feedback: whether an answer helped."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.conversations.metadata import is_text
from api.errors import RequestInvalid
from api.feedback.store import Count, Only, Rating, Word
from api.identity import Caller
from api.paging import After, Limit, checked_cursor, page
from api.state import State
from monitoring.metrics import FEEDBACK
from monitoring.tally import tally

routes = APIRouter(prefix="/v1/feedback", tags=["Usage"])

_REQUEST_ID = r"^[A-Za-z0-9._:-]{1,128}$"

Rated = Annotated[Rating | None, Query(description="Only words with this rating.")]
Model = Annotated[str | None, Query(max_length=200, description="Only of answers of this model group.")]
Named = Annotated[str | None, Query(max_length=200, description="Only those that name this collection.")]
Days = Annotated[int, Query(ge=1, le=90, description="The last so many days (UTC), today included.")]


class FeedbackRequest(BaseModel):
    """What a reader says of an answer."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(pattern=_REQUEST_ID, description="The answer's `x-request-id`.")
    rating: Rating
    comment: str | None = Field(None, max_length=2000)
    collection: str | None = Field(None, min_length=1, max_length=200, description="Where the answer's passages stand.")


@routes.post("")
async def give_feedback(asked: FeedbackRequest, state: State, principal: Caller) -> dict[str, Any]:
    """Say whether an answer of your tenant helped; saying it again replaces what you said."""
    for name in ("comment", "collection"):
        if not is_text(getattr(asked, name) or ""):
            raise RequestInvalid(f"{name} holds a zero byte or half of a sign", name)
    word = await state.feedback.give(principal, asked.request_id, asked.rating, asked.comment, asked.collection)
    tally.add(FEEDBACK.labels(asked.rating))
    return _shown(word)


@routes.get("")
async def list_feedback(
    state: State,
    principal: Caller,
    after: After = None,
    limit: Limit = 20,
    rating: Rated = None,
    model: Model = None,
    collection: Named = None,
) -> dict[str, Any]:
    """What was said of your tenant's answers, the newest first."""
    only = Only(rating, model, collection)
    cursor = checked_cursor(after, "fb")
    return page(await state.feedback.page(principal.tenant_id, only, cursor, limit + 1), limit, _shown)


@routes.get("/summary")
async def summarise_feedback(state: State, principal: Caller, days: Days = 30) -> dict[str, Any]:
    """How many said that your tenant's answers helped, or didn't, by day and model group."""
    counts = await state.feedback.counts(principal.tenant_id, days)
    return {
        "object": "feedback.summary",
        "days": days,
        "up": sum(count.up for count in counts),
        "down": sum(count.down for count in counts),
        "data": [_counted(count) for count in counts],
    }


def _counted(count: Count) -> dict[str, Any]:
    return {"day": count.day, "model": count.model, "up": count.up, "down": count.down}


def _shown(word: Word) -> dict[str, Any]:
    return {
        "id": word.id,
        "object": "feedback",
        "request_id": word.request_id,
        "who": word.who,
        "rating": word.rating,
        "comment": word.comment,
        "model": word.model,
        "collection": word.collection,
        "created_at": int(word.created_at),
        "updated_at": int(word.updated_at),
    }
