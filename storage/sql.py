"""The SQL engine: SQLite in WAL mode, or PostgreSQL, behind one deadline and one breaker."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import sqlalchemy.exc
from sqlalchemy import Connection, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.dependency import Dependency
from storage import sqlite as once_there

T = TypeVar("T")

_OUTAGES = (OSError, sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError)
# Of PostgreSQL's codes: the connection is gone, the server has no room, is shutting down or starting, its disk fails.
_GONE = ("08", "53", "57P", "58")


class Database:
    """Runs transactions; whoever opens it closes it."""

    def __init__(self, url: str, deadline_s: float) -> None:
        self._engine = _engine(url)
        self._dependency = Dependency("sql", deadline_s, _OUTAGES)

    @property
    def dependency(self) -> Dependency:
        return self._dependency

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` on one consistent snapshot and commit nothing.

        Raises: DependencyError: SQL is away or past its deadline.
        """

        async def run() -> T:
            async with self._connected() as connection:
                if not self.is_sqlite:
                    await connection.execution_options(isolation_level="REPEATABLE READ")
                return await work(connection)

        return await self._dependency.call(run)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]], deadline_s: float | None = None) -> T:
        """Run `work` in one transaction, which commits when it returns and rolls back when it raises.

        On SQLite the transaction takes the write lock at its start, so that what it reads stays true.

        Args:
            deadline_s: for work that is known to be long; None: as usual.

        Raises: DependencyError: SQL is away or past its deadline.
        """

        async def run() -> T:
            async with self._connected() as connection:
                # The dictionary itself is kept: asking a connection that a cancel has broken for it would reconnect.
                info = connection.sync_connection.info  # type: ignore[union-attr]  # open, so it is set
                info["write"] = True
                try:
                    async with connection.begin():
                        return await work(connection)
                finally:
                    info.pop("write", None)

        return await self._dependency.call(run, deadline_s)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection. Raises: ConnectionError: it went, or the server did, in the middle of a statement."""
        try:
            async with self._engine.connect() as connection:
                yield connection
        except sqlalchemy.exc.DBAPIError as error:
            if error.connection_invalidated or str(getattr(error.orig, "sqlstate", None)).startswith(_GONE):
                raise ConnectionError("the connection was cut") from error
            raise

    def insert_or_ignore(self, table: Any) -> Any:
        """An INSERT that leaves a row alone whose key is taken, in this database's dialect."""
        insert = sqlite.insert if self.is_sqlite else postgresql.insert
        return insert(table).on_conflict_do_nothing()

    def upsert(self, table: Any) -> Any:
        """An INSERT of this database's dialect, to be given `.on_conflict_do_update(...)`."""
        return (sqlite.insert if self.is_sqlite else postgresql.insert)(table)

    async def check(self) -> None:
        """Ask for nothing, to learn whether SQL answers. Raises: DependencyError."""

        async def ask(connection: AsyncConnection) -> None:
            await connection.execute(text("SELECT 1"))

        await self.read(ask)

    async def close(self) -> None:
        await self._engine.dispose()


def _engine(url: str) -> AsyncEngine:
    """What is written stays out of the errors' texts, which are logged."""
    if url.startswith("sqlite"):
        engine = create_async_engine(make_url(url).set(drivername=once_there.DRIVER), hide_parameters=True)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    return create_async_engine(url, pool_pre_ping=True, hide_parameters=True)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Leave BEGIN to `_begin_sqlite`: the driver's own comes late and takes no write lock."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=4000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("write") else "BEGIN")
