"""Who is asking."""

import enum
from dataclasses import dataclass


class Role(enum.StrEnum):
    """What a principal may do; `api/identity.py` holds the table of routes."""

    ADMIN = "admin"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller of one request.

    Attributes:
        tenant_id: the tenant whose data the caller sees, and no other.
        key_id: the key that was shown.
        role: what the caller may do.
    """

    tenant_id: str
    key_id: str
    role: Role
