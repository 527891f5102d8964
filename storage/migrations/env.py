"""Alembic's entry: runs migrations on the URL that `storage.sql.migrate` hands over."""

import asyncio

from alembic import context
from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from storage.schema import metadata


def _run(connection: Connection) -> None:
    # One revision's locks must not be held while the next one works.
    context.configure(
        connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()


def _begin_ourselves(engine: Engine) -> None:
    """Have a revision be one transaction: Python's driver begins none for what changes tables.

    Half a revision, left by a kill, could neither be gone on with nor begun again.
    """

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _migrate(url: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        _begin_ourselves(engine.sync_engine)
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_migrate(context.config.attributes["url"]))
