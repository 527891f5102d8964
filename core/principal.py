"""Who is asking."""

import enum
from dataclasses import dataclass, replace

from core.priority import Priority
from core.reach import ANYWHERE, Reach


class Role(enum.StrEnum):
    """What a principal may do; `api/roles.py` holds the table of routes."""

    ADMIN = "admin"  # everything, in every tenant
    MANAGER = "manager"  # everything in the own tenant
    MEMBER = "member"  # use models and documents
    INGEST = "ingest"  # put documents in, and follow its jobs
    READER = "reader"  # search, ask and read documents


class CacheWish(enum.StrEnum):
    """What of a cache will do for a request."""

    OFF = "off"  # nothing
    EXACT = "exact"  # an answer to the very same request
    SEMANTIC = "semantic"  # and one to a question in other words, where documents answer


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller of one request.

    Attributes:
        tenant_id: the tenant whose data the caller sees, and no other.
        key_id: the key that was shown, or that opened the session; None for a user by JWT or identity provider.
        role: what the caller may do.
        user_id: the user that the key, session or JWT belongs to.
        team_id: that user's or key's team.
        groups: the user's groups, as the JWT or the administrator says.
        scopes: patterns of routes such as `chat`, `embeddings`, `collections:read`; None: whatever the role allows.
        reach: where text of this caller may go.
        priority: the highest that a request of this caller has; it may ask for less.
        rescue: where a stream of this caller breaks, another deployment may go on with it.
        cache: what will do for a model request that does not say so itself.
    """

    tenant_id: str
    key_id: str | None
    role: Role
    user_id: str | None = None
    team_id: str | None = None
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None
    reach: Reach = ANYWHERE
    priority: Priority = Priority.NORMAL
    rescue: bool = True
    cache: CacheWish = CacheWish.OFF

    @property
    def who(self) -> str:
        """The user, or else the key, or the tenant: whoever is to be treated alike each time."""
        return self.user_id or self.key_id or self.tenant_id

    def within(self, reach: Reach) -> "Principal":
        """The same caller, whose text goes no further than this allows, too."""
        narrowed = self.reach.narrowed(reach)
        return self if narrowed == self.reach else replace(self, reach=narrowed)
