"""All of SQL as it was at one moment, in files; and a database filled from them.

SQLite is copied by its online backup into one file. PostgreSQL's tables are read by COPY in one transaction that sees
one snapshot, and filled in one transaction, so that a database has all of them or nothing. Neither holds up writers,
and neither needs a tool of the database's own version.

DumpRefused   what is there can't be dumped, or nothing may be filled in; says why
"""

import asyncio
import gzip
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import asyncpg  # type: ignore[import-untyped]  # has no stubs
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from storage.migrate import migrate
from storage.schema import metadata

T = TypeVar("T")
Kind = Literal["sqlite", "postgresql"]

_FILE = "stoker.db"
_CONNECT_S = 10
_REVISION = text("SELECT version_num FROM alembic_version")


class DumpRefused(Exception):
    """The database does not do what it was asked for."""


@dataclass(frozen=True, slots=True)
class Dumped:
    """A table in a dump; its columns stand in the file in this order."""

    name: str
    columns: list[str]
    rows: int


@dataclass(frozen=True, slots=True)
class Dump(Generic[T]):
    """What was written.

    Attributes:
        revision: of the schema.
        tables: so that each stands behind those that it refers to.
        seen: what was asked of the same moment.
    """

    kind: Kind
    revision: str
    tables: list[Dumped]
    seen: T


def kind_of(url: str) -> Kind:
    """Which database an address names."""
    return "sqlite" if make_url(url).get_backend_name() == "sqlite" else "postgresql"


async def dump(url: str, folder: Path, look: Callable[[AsyncConnection], Awaitable[T]]) -> Dump[T]:
    """Write everything into `folder`, and look at the same moment through `look`.

    Raises: DumpRefused: there is no database, or it has no schema of ours.
    """
    os.makedirs(folder, 0o700, exist_ok=True)
    if kind_of(url) == "postgresql":
        async with _connected(url, "REPEATABLE READ") as connection:
            return Dump(
                "postgresql", await _revision(connection), await _copy_out(connection, folder), await look(connection)
            )
    await asyncio.to_thread(_copy_sqlite, _file_of(url), folder / _FILE)
    async with _connected(f"sqlite+aiosqlite:///{folder / _FILE}") as connection:
        return Dump("sqlite", await _revision(connection), await _counted(connection), await look(connection))


async def is_empty(url: str) -> bool:
    """Whether nobody has kept anything there: no database, no tables, or tables without a tenant.

    Raises: DumpRefused: it can't be reached.
    """
    if kind_of(url) == "sqlite" and not _file_of(url).exists():
        return True
    async with _connected(url) as connection:
        there = await connection.run_sync(lambda sync: sync.dialect.has_table(sync, "tenants"))
        return not there or (await connection.execute(text("SELECT 1 FROM tenants LIMIT 1"))).first() is None


async def holds(url: str, tables: list[Dumped]) -> bool:
    """Whether a database has at least as many rows of each table as a dump of them. Raises: DumpRefused."""
    async with _connected(url) as connection:
        there = {table.name: table.rows for table in await _counted(connection)}
    return all(there.get(table.name, 0) >= table.rows for table in tables)


async def fill(url: str, folder: Path, kind: Kind, revision: str, tables: list[Dumped]) -> None:
    """Fill an empty database: all of it, or nothing; then bring its schema up to today's.

    Raises: DumpRefused: the dump is of another kind of database, or this one refuses it.
    """
    if kind_of(url) != kind:
        raise DumpRefused(f"the dump is of {kind}, and STOKER_DATABASE_URL names {kind_of(url)}")
    if kind == "sqlite":
        await asyncio.to_thread(_place_sqlite, folder / _FILE, _file_of(url))
        return
    await asyncio.to_thread(migrate, url, revision)
    try:
        async with _connected(url) as connection:
            for table in tables:
                with gzip.open(_copied(folder, table.name), "rb") as source:
                    await (await _driver(connection)).copy_to_table(table.name, source=source, columns=table.columns)
            await connection.commit()
    except OSError as error:
        raise DumpRefused(f"the dump can't be read: {error}") from error
    await asyncio.to_thread(migrate, url)


async def _copy_out(connection: AsyncConnection, folder: Path) -> list[Dumped]:
    done = []
    for table in metadata.sorted_tables:
        columns = [column.name for column in table.columns]
        with gzip.open(_copied(folder, table.name), "wb", compresslevel=1) as file:
            said = await (await _driver(connection)).copy_from_table(table.name, columns=columns, output=file)
        done.append(Dumped(table.name, columns, int(said.rpartition(" ")[2])))
    return done


async def _counted(connection: AsyncConnection) -> list[Dumped]:
    found = []
    for table in metadata.sorted_tables:
        rows = await connection.scalar(text(f"SELECT count(*) FROM {table.name}"))  # noqa: S608  # our own names
        found.append(Dumped(table.name, [column.name for column in table.columns], rows or 0))
    return found


async def _driver(connection: AsyncConnection) -> Any:
    """asyncpg's own connection, which knows COPY, inside of the transaction that is open."""
    return (await connection.get_raw_connection()).driver_connection


async def _revision(connection: AsyncConnection) -> str:
    found: str | None = await connection.scalar(_REVISION)
    if found is None:
        raise DumpRefused("the database has no schema")
    return found


@asynccontextmanager
async def _connected(url: str, isolation: Any = None) -> AsyncIterator[AsyncConnection]:
    within = {"timeout": _CONNECT_S} if kind_of(url) == "postgresql" else {}
    engine = create_async_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=within)
    try:
        async with engine.connect() as connection:
            if isolation is not None:
                await connection.execution_options(isolation_level=isolation)
            await connection.execute(text("SELECT 1"))  # opens the transaction, of which the driver knows nothing else
            yield connection
    except (OSError, TimeoutError, SQLAlchemyError, asyncpg.PostgresError) as error:
        raise DumpRefused(f"the database refused: {getattr(error, 'orig', None) or error}") from error
    finally:
        await engine.dispose()


def _copied(folder: Path, table: str) -> Path:
    return folder / f"{table}.copy.gz"


def _file_of(url: str) -> Path:
    return Path(make_url(url).database or "")


def _copy_sqlite(source: Path, target: Path) -> None:
    """In one step, which reads one snapshot however much is written meanwhile."""
    target.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True)) as there,
            closing(sqlite3.connect(target)) as copy,
        ):
            there.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise DumpRefused(f"{source}: {error}") from error


def _place_sqlite(source: Path, target: Path) -> None:
    """Beside its place first, where it is brought up to date; a rename shows it."""
    beside = target.with_name(f".{target.name}.restored")
    target.parent.mkdir(parents=True, exist_ok=True)
    _copy_sqlite(source, beside)
    migrate(f"sqlite+aiosqlite:///{beside}")
    handle = os.open(beside, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    os.chmod(beside, 0o600)
    for left in ("-wal", "-shm"):  # of a database without a tenant
        target.with_name(target.name + left).unlink(missing_ok=True)
    os.replace(beside, target)
