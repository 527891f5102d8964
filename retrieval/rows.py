"""Rows of one statement, read on a snapshot of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.sql import Database


async def fetch(
    database: Database, statement: Select[*tuple[Any, ...]], asked: Mapping[str, Any] | None = None
) -> Sequence[Any]:
    """All rows, their columns as attributes. Raises: DependencyError: SQL is away.

    Args:
        asked: values of the statement's parameters, if it has any.
    """

    async def find(connection: AsyncConnection) -> Sequence[Any]:
        return (await connection.execute(statement, asked)).all()

    return await database.read(find)
