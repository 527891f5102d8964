"""Collections by name, and by id where a vector store is meant: the two are never confused."""

from typing import Any

import sqlalchemy as sa

from storage.schema import collections


class CollectionId(str):
    """A collection's id, where its name may stand too."""

    __slots__ = ()


def is_called(collection: str) -> sa.ColumnElement[bool]:
    """The clause that holds for the row of the living collection of this name, or of this id if it is one."""
    if isinstance(collection, CollectionId):
        return sa.and_(collections.c.id == str(collection), collections.c.deleted_at.is_(None))
    return collections.c.live_name == collection


def of_tenant(tenant_id: Any, collection: str) -> sa.ColumnElement[bool]:
    """The same, within a tenant."""
    return sa.and_(collections.c.tenant_id == tenant_id, is_called(collection))
