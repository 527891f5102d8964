"""How much a request can wait."""

import enum


class Priority(enum.StrEnum):
    """The classes, from the one that is served first to the one that is refused first."""

    INTERACTIVE = "interactive"
    NORMAL = "normal"
    BATCH = "batch"

    @property
    def rank(self) -> int:
        """0 is served first."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}


def lower(one: Priority, other: Priority) -> Priority:
    """The one of the two that is served later."""
    return one if one.rank >= other.rank else other
