"""Cursor pages as OpenAI's lists have them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

T = TypeVar("T")

After = Annotated[str | None, Query(description="Id of the last item of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100, description="Items at most.")]


def page(items: Sequence[T], limit: int, show: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """Make a page of `limit` from up to `limit + 1` items: the one too many says that there are more."""
    data = [show(item) for item in items[:limit]]
    ids = [item["id"] for item in data]
    return {
        "object": "list",
        "data": data,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": len(items) > limit,
    }
