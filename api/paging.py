"""Cursor pages as OpenAI's lists have them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

from api.errors import RequestInvalid
from core.ids import is_id

T = TypeVar("T")

After = Annotated[str | None, Query(description="Id of the last item of the page before.")]
Named = Annotated[str, Query(max_length=200, description="Only items in whose name this stands, in any case.")]
Limit = Annotated[int, Query(ge=1, le=100, description="Items at most.")]


def checked_cursor(cursor: str | None, prefix: str, param: str = "after") -> str | None:
    """A cursor where it is an id of this kind. Raises: RequestInvalid."""
    if cursor is not None and not is_id(cursor, prefix):
        raise RequestInvalid(f"{param} is the id of an item of this list", param)
    return cursor


def page(items: Sequence[T], limit: int, show: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """Make a page of `limit` from up to `limit + 1` items: the one too many says that there are more."""
    return whole_page(items[:limit], show, has_more=len(items) > limit)


def whole_page(items: Sequence[T], show: Callable[[T], dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Make a page of these items."""
    data = [show(item) for item in items]
    ids = [item["id"] for item in data]
    return {
        "object": "list",
        "data": data,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": has_more,
    }
