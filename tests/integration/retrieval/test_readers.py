"""Who may read a document is asked of that document, not of all that the installation has."""

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from retrieval.access import may_read
from storage.schema import documents
from storage.sql import Database


async def test_other_tenants_documents_do_not_make_a_search_longer(sqlite_url: str) -> None:
    """A list of all documents that are open to everyone took 110 ms of each search where there were 100,000."""
    statement = sa.select(documents.c.id).where(documents.c.id == "doc_1", may_read(["*", "user:ann"]))
    text = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})

    async def explain(connection: AsyncConnection) -> list[str]:
        return [row.detail for row in await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]

    database = Database(sqlite_url, 10.0)
    plan = await database.read(explain)
    await database.close()
    (asked,) = [line for line in plan if "document_readers" in line]
    assert "document_id=?" in asked, plan
