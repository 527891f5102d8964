"""Who may read a document: everyone in its tenant, or the users and groups that its access list names.

A document's readers stand in SQL, one row each, and every route asks there on every request; the rows in the vector
index carry them too, so that a search finds enough, but never decide.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from core.principal import Principal, Role
from retrieval.errors import InputInvalid
from storage.schema import document_readers, documents

EVERYONE = "*"
"""The reader that stands for the whole tenant."""

Acl = Mapping[str, Sequence[str]]
"""{"users": [id, ...], "groups": [name, ...]}."""

_KINDS = {"users": "user", "groups": "group"}
_MOST_READERS = 1000
_MOST_NAME = 200
_LONGEST_LIFE_S = 100 * 366 * 86_400


def check_acl(raw: object, param: str = "acl") -> dict[str, list[str]] | None:
    """Take an access list; None stays None: everyone in the tenant.

    Raises: InputInvalid: it is no such list, or too long.
    """
    if raw is None:
        return None
    if not isinstance(raw, dict) or not raw or raw.keys() - _KINDS.keys():
        raise InputInvalid(param, f'{param} is an object such as {{"users": ["usr_1"], "groups": ["sales"]}}.')
    checked = {}
    for kind in _KINDS:
        names = raw.get(kind, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputInvalid(param, f"{param}.{kind} is a list of texts.")
        if any(not 1 <= len(name) <= _MOST_NAME or not name.isprintable() for name in names):
            raise InputInvalid(param, f"A name in {param}.{kind} has 1 to {_MOST_NAME} printable characters.")
        checked[kind] = sorted(set(names))
    if sum(map(len, checked.values())) > _MOST_READERS:
        raise InputInvalid(param, f"{param} names at most {_MOST_READERS} users and groups: use a group.")
    return checked


def check_expiry(seconds: int | None) -> int | None:
    """Take the seconds for which something is to be seen; None: for ever. Raises: InputInvalid: none, or too many."""
    if seconds is not None and not 1 <= seconds <= _LONGEST_LIFE_S:
        raise InputInvalid("expires_after", f"expires_after takes 1 to {_LONGEST_LIFE_S:,} seconds.")
    return seconds


def readers_of(acl: Acl | None) -> list[str]:
    """The readers of a document with this list."""
    if acl is None:
        return [EVERYONE]
    return [f"{word}:{name}" for kind, word in _KINDS.items() for name in acl.get(kind, ())]


def reads_as(principal: Principal) -> list[str] | None:
    """The readers that a caller counts as; None: it manages the tenant and reads everything in it."""
    if principal.role in (Role.ADMIN, Role.MANAGER):
        return None
    own = [f"user:{principal.user_id}"] if principal.user_id is not None else []
    return [EVERYONE, *own, *(f"group:{name}" for name in sorted(principal.groups))]


def may_read(readers: Iterable[str] | sa.BindParameter[Any] | None) -> sa.ColumnElement[bool]:
    """The clause that holds for a row of `documents` that these readers, as `reads_as` gives them, may read.

    Args:
        readers: they, or an expanding parameter for them.
    """
    if readers is None:
        return sa.true()
    wanted = readers if isinstance(readers, sa.BindParameter) else list(readers)
    # Asked of each document by itself: the list of all that are open to `*` is as long as the whole installation's.
    theirs = sa.exists().where(document_readers.c.document_id == documents.c.id, document_readers.c.reader.in_(wanted))
    return theirs.correlate(documents)


def live(now_s: float) -> sa.ColumnElement[bool]:
    """The clause that holds for a row of `documents` that is neither deleted nor expired."""
    return sa.and_(
        documents.c.deleted_at.is_(None), sa.or_(documents.c.expires_at.is_(None), documents.c.expires_at > now_s)
    )


async def set_readers(connection: Any, document_id: str, acl: Acl | None) -> None:
    """Write a document's readers, inside the caller's transaction."""
    await connection.execute(document_readers.delete().where(document_readers.c.document_id == document_id))
    rows = [{"document_id": document_id, "reader": reader} for reader in readers_of(acl)]
    if rows:
        await connection.execute(document_readers.insert(), rows)
