"""SQLAlchemy's dialect for aiosqlite, with one visit to the connection's thread for each statement.

The usual one goes there four times: to make a cursor, to execute, to fetch and to close. Each visit wakes two threads,
which on a small machine takes longer than the statement itself.
"""

import sqlite3
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
    SQLiteDialect_aiosqlite,
)

DRIVER = "sqlite+oncethere"


@dataclass(slots=True)
class _Done:
    """What is left of a cursor whose statement has ended."""

    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None
    arraysize: int = 1

    def close(self) -> None:
        """Nothing is open."""


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()

    _awaitable_cursor_close = False

    def _make_new_cursor(self, connection: Any) -> Any:  # noqa: ARG002
        return _Done()

    def _aenter_cursor(self, cursor: Any) -> Any:
        return cursor

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        async with self._adapt_connection._execute_mutex:
            there: Any = self._connection
            done, rows = await there._execute(_run, there._conn, operation, parameters or ())
            self._cursor, self._rows = done, deque(rows)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> None:
        async with self._adapt_connection._execute_mutex:
            there: Any = self._connection
            self._cursor = await there._execute(_run_many, there._conn, operation, seq_of_parameters)


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()

    _cursor_cls = _Cursor


class _Module(AsyncAdapt_aiosqlite_dbapi):
    def connect(self, *args: Any, **kwargs: Any) -> AsyncAdapt_aiosqlite_connection:
        usual = super().connect(*args, **kwargs)
        return _Connection(self, usual._connection)


class Dialect(SQLiteDialect_aiosqlite):
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> AsyncAdapt_aiosqlite_dbapi:
        import aiosqlite

        return _Module(aiosqlite, sqlite3)


def _run(connection: sqlite3.Connection, operation: str, parameters: Any) -> tuple[_Done, list[Any]]:
    cursor = connection.execute(operation, parameters)
    try:
        rows = cursor.fetchall() if cursor.description else []
        return _Done(cursor.description, cursor.rowcount, cursor.lastrowid), rows
    finally:
        cursor.close()


def _run_many(connection: sqlite3.Connection, operation: str, parameters: Sequence[Any]) -> _Done:
    cursor = connection.executemany(operation, parameters)
    try:
        return _Done(None, cursor.rowcount, cursor.lastrowid)
    finally:
        cursor.close()


registry.register("sqlite.oncethere", __name__, Dialect.__name__)
