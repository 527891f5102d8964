"""Which part of a list is asked for: OpenAI's `order`, `after`, `before` and `limit`, as SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """A page of a list that is sorted by ids, which sort by time.

    Attributes:
        after, before: ids of items that the page lies behind and ahead of, in the list's order; with `before` alone it
            is the page right ahead of it.
    """

    limit: int = 20
    newest_first: bool = True
    after: str | None = None
    before: str | None = None

    @property
    def _backwards(self) -> bool:
        return self.before is not None and self.after is None

    def of(self, statement: sa.Select[Any], column: sa.Column[str]) -> sa.Select[Any]:
        """The statement for the page, and one item more: from its end on where the page is found from there."""
        if self.after is not None:
            statement = statement.where(column < self.after if self.newest_first else column > self.after)
        if self.before is not None:
            statement = statement.where(column > self.before if self.newest_first else column < self.before)
        falling = self.newest_first != self._backwards
        return statement.order_by(column.desc() if falling else column).limit(self.limit + 1)

    def page(self, found: Sequence[T]) -> "Page[T]":
        """What came of it, in the list's order."""
        kept = list(found[: self.limit])
        return Page(kept[::-1] if self._backwards else kept, has_more=len(found) > self.limit)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items of a list, and whether there are more of them in the direction in which it is read."""

    items: list[T]
    has_more: bool
