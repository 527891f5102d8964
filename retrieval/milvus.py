"""The vector index: the only file that imports pymilvus. Milvus Lite's server and a Milvus server speak the same.

A Stoker collection has a Milvus collection of its own, named by its id and the index's generation, or shares one with
others of its embedding space. Rows are written under a revision id and never changed; whether a reader may see them is
the catalog's to say.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]  # has no stubs
import numpy as np
from numpy.typing import NDArray
from pymilvus import AsyncMilvusClient, DataType, MilvusClient
from pymilvus.client.cache import CollectionTsCache, GlobalCache, SchemaCache
from pymilvus.exceptions import MilvusException

from core.dependency import Dependency
from retrieval.errors import IndexRefused
from retrieval.expression import METADATA_FIELD, Scope, of_collections, of_revisions, of_strangers
from retrieval.index import GENERATION, Hit, Place, Row

T = TypeVar("T")

_NO_PAGE = -1
_NOT_LOADED = 101
_COLLECTION_MISSING = 100
_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    2,  # pymilvus: "Fail connecting to server"
}
_MADE_BY_ANOTHER_S = 2.0  # until what another worker makes at the same time is there
_SHOWN = ["id", "revision_id", "document_id", "filename", "start", "end", "page", "text", METADATA_FIELD]
_WHOLE = [*_SHOWN, "tenant_id", "collection_id", "acl", "dense", "sparse"]
_LOOKED_AT = 256  # rows by a search of the graph: with 64, one of eight of the best ten of 100,000 is missed
_FEW_ROWS = 32  # cost a search no more than a segment of their own would
_DELETED_AT_ONCE = 100  # revisions in one expression
_COMPARED_AT_ONCE = 500
_REMEMBERED = 256  # collections whose schema pymilvus keeps; another one costs an insert a call more
_ANSWERED_AT_ONCE = 1000  # rows


class MilvusAway(OSError):
    """What pymilvus raised means that the server is away, not that it refused."""


@dataclass(frozen=True, slots=True)
class _Unflushed:
    """Rows that are in no segment yet, and when the last of them came, by the monotonic clock."""

    rows: int
    at_s: float


def owner_of(name: str) -> str:
    """The id of the collection to which a Milvus collection of this name would belong, if it is no pool."""
    return name.partition(GENERATION)[0]


class VectorIndex:
    """Milvus behind one deadline and one breaker; close it."""

    def __init__(self, uri: str, deadline_s: float, flush_rows: int) -> None:
        # pymilvus logs each refused call with a traceback; what it raises is logged where it is handled.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._uri = uri
        # For 4096 collections it keeps 20 MB, most of them deleted long ago.
        GlobalCache.schema, GlobalCache.collection_ts = SchemaCache(_REMEMBERED), CollectionTsCache(_REMEMBERED)
        # pymilvus pings each 10 s; servers that allow one in 5 minutes close the connection in the middle of a call.
        options = {"grpc.keepalive_time_ms": 330_000}
        self._client = AsyncMilvusClient(uri=uri, timeout=deadline_s, dedicated=True, grpc_options=options)
        self._connecting = asyncio.Lock()  # two first calls at once would each open a channel, and lose one
        self._connected = False
        self._dependency = Dependency("milvus", deadline_s, (OSError,))
        self._flush_rows = flush_rows
        self._unflushed: dict[str, _Unflushed] = {}

    @property
    def dependency(self) -> Dependency:
        return self._dependency

    async def check(self) -> None:
        """Raises: DependencyError: Milvus does not answer."""
        await self._call(lambda: self._client.list_collections(retry_times=0))

    async def ensure(self, place: Place, dimensions: int, deadline_s: float | None = None) -> None:
        """Make the collection unless it is there, and finish one half made; safe to call twice at once."""
        if await self._call(lambda: self._client.has_collection(place.name, retry_times=0)):
            indexed = await self._call(lambda: self._client.list_indexes(place.name, retry_times=0))
            if _INDEXES.keys() <= set(indexed):
                return
        # The async client waits for an index with a call that Milvus Lite lacks, so the blocking one creates.
        await self._call(lambda: asyncio.to_thread(_create, self._uri, place, dimensions), deadline_s)

    async def insert(self, place: Place, rows: Sequence[Row], deadline_s: float) -> None:
        """Write rows; on an outage some of them may have been written all the same."""
        data = [_as_entity(row) for row in rows]
        await self._call(lambda: self._client.insert(place.name, data, retry_times=0), deadline_s)
        before = self._unflushed.get(place.name, _Unflushed(0, 0.0))
        self._unflushed[place.name] = _Unflushed(before.rows + len(rows), time.monotonic())

    async def flush(self, place: Place, deadline_s: float) -> None:
        """Turn the newest rows into an indexed segment once there are enough of them: small segments cost searches."""
        if place.name in self._unflushed and self._unflushed[place.name].rows >= self._flush_rows:
            await self._flush(place.name, deadline_s)

    async def flush_quiet(self, quiet_s: float, deadline_s: float) -> list[str]:
        """Do so with what nobody has added to for a while: Milvus Lite looks at each row that is not in a segment.

        Returns: the Milvus collections that were flushed.
        """
        until_s = time.monotonic() - quiet_s
        quiet = [name for name, one in self._unflushed.items() if one.at_s <= until_s and one.rows >= _FEW_ROWS]
        for name in quiet:
            await self._flush(name, deadline_s)
        return quiet

    async def _flush(self, name: str, deadline_s: float) -> None:
        self._unflushed.pop(name)
        await self._call(lambda: self._client.flush(name, retry_times=0), deadline_s)

    async def search_dense(
        self, place: Place, vectors: NDArray[np.float32], scope: Scope, limit: int
    ) -> list[list[Hit]]:
        """Search by cosine similarity, best first, for each row of `vectors`, float32[n, dimensions]."""
        params = {"metric_type": "COSINE", "params": {"ef": max(_LOOKED_AT, 2 * limit)}}
        return await self._search(place, "dense", list(vectors), scope.expression, limit, params)

    async def search_sparse(
        self, place: Place, vectors: Sequence[dict[int, float]], scope: Scope, limit: int
    ) -> list[list[Hit]]:
        """Search by inner product, best first, for each of `vectors`; an empty one finds nothing."""
        some = [vector for vector in vectors if vector]
        found = iter(
            await self._search(place, "sparse", some, scope.expression, limit, {"metric_type": "IP"}) if some else ()
        )
        return [next(found) if vector else [] for vector in vectors]

    async def vectors(self, place: Place, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The dense vectors of rows, L2-normalised, by their ids; rows that are gone are missing."""
        found = await self._call(
            lambda: self._client.query(place.name, ids=list(ids), output_fields=["id", "dense"], retry_times=0)
        )
        return {entity["id"]: np.asarray(entity["dense"], np.float32) for entity in found}

    async def rows(self, place: Place, ids: Sequence[str], deadline_s: float) -> list[Row]:
        """The rows of these ids, whole, in any order; those that are not there are missing."""

        async def read() -> Any:
            await self._client.load_collection(place.name, retry_times=0)
            return await self._client.query(
                place.name, ids=list(ids), output_fields=_WHOLE, consistency_level="Strong", retry_times=0
            )

        return [_as_row(entity) for entity in await self._call(read, deadline_s)]

    async def delete_revisions(self, place: Place, revision_ids: Sequence[str]) -> None:
        """Delete all rows of these revisions; what is gone already is no error."""
        for first in range(0, len(revision_ids), _DELETED_AT_ONCE):
            some = revision_ids[first : first + _DELETED_AT_ONCE]
            await self._delete(place, of_revisions(place.collection_id, some))

    async def _delete(self, place: Place, expression: str) -> None:
        try:
            await self._call(lambda: self._client.delete(place.name, filter=expression, retry_times=0))
        except IndexRefused as error:
            if not isinstance(error.__cause__, MilvusException) or error.__cause__.code != _COLLECTION_MISSING:
                raise

    async def strangers(self, place: Place, revision_ids: Sequence[str]) -> set[str]:
        """Revisions that have rows here and are none of these, which are in order; none if there is no collection."""
        if place.name not in await self.names():
            return set()
        found: set[str] = set()
        above = ""
        for first in range(0, len(revision_ids) + 1, _COMPARED_AT_ONCE):
            known = list(revision_ids[first : first + _COMPARED_AT_ONCE])
            up_to = known[-1] if first + _COMPARED_AT_ONCE <= len(revision_ids) else None
            while True:
                expression = of_strangers(place.collection_id, known, above, up_to)
                if not (others := await self._some(place.name, expression, "revision_id")):
                    break
                found |= others
                known += others  # one revision may have more rows than an answer
            above = up_to or ""
        return found

    async def _some(self, name: str, expression: str, field: str) -> set[str]:
        """What the first rows that an expression is true of have in a field."""

        async def read() -> Any:
            await self._client.load_collection(name, retry_times=0)
            return await self._client.query(
                name,
                filter=expression,
                limit=_ANSWERED_AT_ONCE,
                output_fields=[field],
                consistency_level="Strong",
                retry_times=0,
            )

        return {entity[field] for entity in await self._call(read)}

    async def names(self) -> list[str]:
        """The collections that there are."""
        return list(await self._call(lambda: self._client.list_collections(retry_times=0)))

    async def drop(self, place: Place) -> None:
        """Delete a collection's rows, and the Milvus collection if it has its own; what is gone is no error."""
        if place.pool is not None:
            await self._delete(place, of_collections([place.collection_id]))
            return
        if await self._call(lambda: self._client.has_collection(place.name, retry_times=0)):
            await self._call(lambda: self._client.drop_collection(place.name, retry_times=0))
        self._unflushed.pop(place.name, None)

    async def rest_of(self, pool: str, collection_ids: Sequence[str]) -> set[str]:
        """Of these collections, those that have rows in a pool; none if there is no such pool."""
        found: set[str] = set()
        left = list(collection_ids)
        while left and pool in await self.names():
            some = await self._some(pool, of_collections(left), "collection_id")
            if not some:
                break
            found |= some
            left = [each for each in left if each not in some]
        return found

    async def count(self, place: Place, revision_ids: Sequence[str] = ()) -> int:
        """How many rows there are, of these revisions or in all."""
        if revision_ids:
            expression = of_revisions(place.collection_id, revision_ids)
        else:
            expression = "" if place.pool is None else of_collections([place.collection_id])
        found = await self._call(
            lambda: self._client.query(
                place.name, filter=expression, output_fields=["count(*)"], consistency_level="Strong", retry_times=0
            )
        )
        return int(found[0]["count(*)"])

    async def close(self) -> None:
        await self._client.close()

    async def _search(
        self, place: Place, field: str, vectors: list[Any], expression: str, limit: int, params: dict[str, Any]
    ) -> list[list[Hit]]:
        async def search() -> Any:
            return await self._client.search(
                place.name,
                data=vectors,
                anns_field=field,
                filter=expression,
                limit=limit,
                output_fields=_SHOWN,
                search_params=params,
                retry_times=0,
            )

        async def search_loaded() -> Any:
            try:
                return await search()
            except MilvusException as error:
                if error.code != _NOT_LOADED:
                    raise
            # Milvus Lite forgets at each start which collections were loaded.
            await self._client.load_collection(place.name, retry_times=0)
            return await search()

        found = await self._call(search_loaded)
        return [[_as_hit(item) for item in hits] for hits in found]

    async def _call(self, work: Callable[[], Awaitable[T]], deadline_s: float | None = None) -> T:
        """Run under deadline and breaker, and tell "away" from "no".

        Raises:
            DependencyError: Milvus is away or past its deadline.
            IndexRefused: it answered, with a refusal.
        """

        async def run() -> T:
            try:
                await self._connect()
                return await work()
            except MilvusException as error:
                raise MilvusAway(str(error)) if error.code in _AWAY else IndexRefused(error) from error
            except grpc.RpcError as error:
                raise MilvusAway(str(error)) if error.code() in _AWAY else IndexRefused(error) from error

        return await self._dependency.call(run, deadline_s)

    async def _connect(self) -> None:
        async with self._connecting:
            if not self._connected:
                await self._client.__aenter__()  # the public way to say "connect now"
                self._connected = True


def _create(uri: str, place: Place, dimensions: int) -> None:
    name = place.name
    client = MilvusClient(uri=uri, dedicated=True)
    try:
        # Each step may have been done by another worker, now or before it was killed.
        _unless(
            lambda: client.has_collection(name),
            lambda: client.create_collection(
                name, schema=_schema(dimensions, pooled=place.pool is not None), consistency_level="Strong"
            ),
        )
        for field in _INDEXES:
            _unless(
                lambda: field in client.list_indexes(name),  # noqa: B023
                # By default the client sleeps half a second for an index to be built: there are no rows yet.
                lambda: client.create_index(name, _index(field), sync=False),  # noqa: B023
            )
        client.load_collection(name)
    finally:
        client.close()


def _unless(done: Callable[[], bool], do: Callable[[], object]) -> None:
    if done():
        return
    try:
        do()
    except MilvusException:
        # Milvus Lite refuses a second maker before it shows what the first has made.
        ends_s = time.monotonic() + _MADE_BY_ANOTHER_S
        while not done():
            if time.monotonic() > ends_s:
                raise
            time.sleep(0.05)


def _schema(dimensions: int, *, pooled: bool) -> Any:
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=100)
    for name in ("revision_id", "document_id", "tenant_id"):
        schema.add_field(name, DataType.VARCHAR, max_length=100)
    # In a pool a search looks only where its collection's rows may be; the expression is what keeps others out.
    schema.add_field("collection_id", DataType.VARCHAR, max_length=100, is_partition_key=pooled)
    schema.add_field("acl", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=1000, max_length=300)
    schema.add_field("filename", DataType.VARCHAR, max_length=4000)
    for name in ("start", "end", "page"):
        schema.add_field(name, DataType.INT64)
    schema.add_field("text", DataType.VARCHAR, max_length=65_535)
    schema.add_field(METADATA_FIELD, DataType.JSON)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=dimensions)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    return schema


_INDEXES: dict[str, dict[str, Any]] = {
    "dense": {"index_type": "HNSW", "metric_type": "COSINE", "params": {"M": 16, "efConstruction": 200}},
    "sparse": {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"},
}


def _index(field: str) -> Any:
    index = MilvusClient.prepare_index_params()
    index.add_index(field, **_INDEXES[field])
    return index


def _as_entity(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "revision_id": row.revision_id,
        "document_id": row.document_id,
        "tenant_id": row.tenant_id,
        "collection_id": row.collection_id,
        "acl": list(row.acl),
        "filename": row.filename,
        "start": row.start,
        "end": row.end,
        "page": _NO_PAGE if row.page is None else row.page,
        "text": row.text,
        METADATA_FIELD: row.metadata,
        "dense": row.dense,
        "sparse": row.sparse,
    }


def _as_row(entity: Any) -> Row:
    return Row(
        id=entity["id"],
        revision_id=entity["revision_id"],
        document_id=entity["document_id"],
        tenant_id=entity["tenant_id"],
        collection_id=entity["collection_id"],
        acl=list(entity["acl"]),
        filename=entity["filename"],
        start=entity["start"],
        end=entity["end"],
        page=_page(entity),
        text=entity["text"],
        metadata=dict(entity[METADATA_FIELD] or {}),
        dense=np.asarray(entity["dense"], np.float32),
        sparse=dict(entity["sparse"]),
    )


def _page(entity: Any) -> int | None:
    return None if entity["page"] == _NO_PAGE else entity["page"]


def _as_hit(item: Any) -> Hit:
    entity = item["entity"]
    return Hit(
        id=item["id"],
        revision_id=entity["revision_id"],
        document_id=entity["document_id"],
        filename=entity["filename"],
        start=entity["start"],
        end=entity["end"],
        page=_page(entity),
        text=entity["text"],
        metadata=dict(entity[METADATA_FIELD] or {}),
        score=float(item["distance"]),
    )
