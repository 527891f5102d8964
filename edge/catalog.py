"""The catalog of an export: the tables that a search asks, with one collection, in a file that never changes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from core.reach import Reach
from storage.schema import (
    collections,
    documents,
    metadata,
    revision_terms,
    revisions,
    tenants,
    term_frequencies,
)
from storage.sql import Database

TENANT = "edge"
FILE = "catalog.db"
_TABLES = (tenants, collections, documents, revisions, revision_terms, term_frequencies)
_DEADLINE_S = 10.0

Record = Mapping[str, Any]


class CatalogWriter:
    """Writes one; used as a context manager."""

    def __init__(self, path: Path) -> None:
        self._engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
        metadata.create_all(self._engine, tables=list(_TABLES))
        self._connection = self._engine.connect()

    def __enter__(self) -> "CatalogWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._engine.dispose()

    def collection(self, record: Record, now_s: float) -> None:
        self._collection_id = record["id"]
        self._insert(tenants, {"id": TENANT, "name": TENANT, "created_at": now_s})
        self._insert(
            collections,
            {
                "id": record["id"],
                "tenant_id": TENANT,
                "name": record["name"],
                "live_name": record["name"],
                "description": record["description"],
                "metadata": record["metadata"],
                "chunking": record["chunking"],
                "embedding_space": record["embedding_model"],
                "dimensions": record["dimensions"],
                "version": record["version"],
                "chunks": record["chunks"],
                "average_terms": record["average_terms"],
                "language": record["language"],
                "search": record["search"],
                "answers": record["answers"],
                "prompt_version": record["prompt_version"],
                "reach": _reach(record).row(),
                "created_at": record["created_at"],
            },
        )

    def document(self, record: Record) -> None:
        self._insert(
            documents,
            {
                "id": record["id"],
                "collection_id": self._collection_id,
                "tenant_id": TENANT,
                "filename": record["filename"],
                "media_type": record["media_type"],
                "sha256": record["sha256"],
                "source_key": "",
                "metadata": record["metadata"],
                "file_id": record["file_id"],
                "status": "ready",
                "version": record["version"],
                "revision_id": record["revision_id"],
                "created_at": record["created_at"],
                "updated_at": record["created_at"],
                "expires_at": record["expires_at"],
            },
        )
        self._insert(
            revisions,
            {
                "id": record["revision_id"],
                "document_id": record["id"],
                "collection_id": self._collection_id,
                "number": record["version"],
                "text_key": "",
                "pages": record["pages"],
                "characters": len(record["text"]),
                "chunks": record["chunks"],
                "terms": 0,  # what indexing counts, and no search
                "visible_from": 0,
                "created_at": record["created_at"],
            },
        )
        self._insert(revision_terms, {"revision_id": record["revision_id"], "terms": record["terms"]})

    def statistics(self, terms: Mapping[str, int]) -> None:
        rows = [{"collection_id": self._collection_id, "term": term, "chunks": count} for term, count in terms.items()]
        if rows:
            self._insert(term_frequencies, rows)

    def finish(self) -> None:
        """Keep what was written."""
        self._connection.commit()
        self._connection.exec_driver_sql("VACUUM")

    def _insert(self, table: sa.Table, values: Record | Sequence[Record]) -> None:
        self._connection.execute(sa.insert(table), values)


def _reach(record: Record) -> Reach:
    return Reach(*(None if record[name] is None else frozenset(record[name]) for name in ("providers", "regions")))


def open_catalog(folder: Path) -> Database:
    """The catalog of a folder, only to be read, also where nothing can be written."""
    file = quote(quote(str((folder / FILE).resolve())))  # once for SQLite's address, once for SQLAlchemy's around it
    return Database(f"sqlite+aiosqlite:///file:{file}?mode=ro&immutable=1&uri=true", _DEADLINE_S)
