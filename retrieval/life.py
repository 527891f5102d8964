"""How long a collection lasts: for ever, or for some days after it was last searched or changed.

When its time is up it answers nobody any more, from that second on; that the sweep comes later to its documents changes
nothing of it.
"""

from dataclasses import dataclass
from typing import Any

DAY_S = 86_400.0
NOTED_S = 60.0
"""A use is noted where the last one noted is older: so often at most is a row written because somebody searches."""


@dataclass(frozen=True, slots=True)
class Life:
    """Of one collection.

    Attributes:
        days: since its last use; None: it stays.
        used_at: when it was last used, as noted; None: nobody keeps it, since it stays.
        ended_at: when it expired; None: it has not, or the sweep has not been there.
    """

    days: int | None = None
    used_at: float | None = None
    ended_at: float | None = None

    @classmethod
    def of(cls, row: Any) -> "Life":
        """Out of a row of `collections`."""
        return cls(row.expires_after_days, row.used_at, row.expired_at)

    @property
    def ends_at(self) -> float | None:
        """When it ends, or has ended; None: it stays."""
        if self.ended_at is not None:
            return self.ended_at
        if self.days is None or self.used_at is None:
            return None
        return self.used_at + self.days * DAY_S

    def is_over(self, now_s: float) -> bool:
        """Whether it has expired."""
        return self.ends_at is not None and self.ends_at <= now_s

    def is_to_be_noted(self, now_s: float) -> bool:
        """Whether a use of now is to be written down."""
        return self.days is not None and (self.used_at is None or self.used_at + NOTED_S <= now_s)


FOREVER = Life()
