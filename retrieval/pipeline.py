"""One document's way in: parse, chunk, embed, index, publish; nothing of it is visible before the last step."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from core.clock import Clock
from core.dependency import DependencyError
from core.ids import new_id
from monitoring import metrics
from monitoring.logs import logger
from retrieval import bm25
from retrieval.analyzer import analyze
from retrieval.chunking import Chunk, Limits, chunk
from retrieval.embedder import Embedder, Space
from retrieval.errors import DocumentRejected
from retrieval.expression import EVERYONE
from retrieval.leases import Lease, Leases
from retrieval.lifecycle import NewRevision
from retrieval.milvus import Row, VectorIndex
from retrieval.parsers.parsed import Parsed
from retrieval.parsing import Parser
from retrieval.settings import RetrievalSettings
from retrieval.status import Status
from storage.objects import ObjectNotFound, ObjectStore

_log = logger(__name__)

T = TypeVar("T")

# Progress at the end of each stage; embedding takes nearly all of the time.
_PARSED, _CHUNKED, _EMBEDDED, _INDEXED = 0.05, 0.1, 0.85, 0.99
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0


class Pipeline:
    """Takes documents through; one at a time."""

    def __init__(
        self,
        settings: RetrievalSettings,
        leases: Leases,
        objects: ObjectStore,
        index: VectorIndex,
        embedder: Embedder,
        parser: Parser,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._leases = leases
        self._objects = objects
        self._index = index
        self._embedder = embedder
        self._parser = parser
        self._clock = clock

    async def run(self, lease: Lease) -> None:
        """Ingest the lease's document and publish it.

        Raises:
            DocumentRejected, SpaceMismatch: it can't be ingested; trying again would not help.
            LeaseLost: stop; nothing more may be written.
            DependencyError: a part has been away longer than patience lasts.
        """
        parsed = await self._stage(lease, Status.PARSING, lambda: self._parse(lease))
        await self._report(lease, Status.CHUNKING, _PARSED)
        chunks = await self._stage(lease, Status.CHUNKING, lambda: self._chunk(lease, parsed))
        await self._report(lease, Status.EMBEDDING, _CHUNKED)
        vectors = await self._stage(lease, Status.EMBEDDING, lambda: self._embed(lease, chunks))
        await self._report(lease, Status.INDEXING, _EMBEDDED)
        await self._stage(
            lease,
            Status.INDEXING,
            lambda: self._patiently(lambda: self._index_and_publish(lease, parsed, chunks, vectors)),
        )
        await self._flush(lease)

    async def _stage(self, lease: Lease, stage: Status, work: Callable[[], Awaitable[T]]) -> T:
        began = perf_counter()
        try:
            return await work()
        finally:
            seconds = perf_counter() - began
            metrics.INGEST_SECONDS.labels(stage).observe(seconds)
            _log.debug("stage", document=lease.document_id, stage=stage, seconds=round(seconds, 3))

    async def _report(self, lease: Lease, stage: Status, share: float) -> None:
        await self._patiently(lambda: self._leases.progress(lease, stage, share))

    async def _parse(self, lease: Lease) -> Parsed:
        try:
            data = await self._patiently(lambda: self._objects.get(lease.source_key))
        except ObjectNotFound as error:
            raise DocumentRejected("The file is gone from the object store: send it again.") from error
        return await self._parser.parse(data, lease.media_type)

    async def _chunk(self, lease: Lease, parsed: Parsed) -> list[Chunk]:
        limits = Limits(
            lease.chunking.get("characters", self._settings.chunk_characters),
            lease.chunking.get("tokens", self._settings.chunk_tokens),
        )
        return await asyncio.to_thread(chunk, parsed, limits, title(lease.filename, parsed))

    async def _embed(self, lease: Lease, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        space = Space(lease.embedding_space, lease.dimensions)
        parts = []
        for first in range(0, len(chunks), self._settings.ingest_batch):
            texts = [chunk.indexed_text() for chunk in chunks[first : first + self._settings.ingest_batch]]
            parts.append(
                await self._patiently(lambda: self._embedder.embed(texts, space, self._settings.ingest_deadline_s))  # noqa: B023
            )
            done = (first + len(texts)) / len(chunks)
            await self._report(lease, Status.EMBEDDING, _CHUNKED + (_EMBEDDED - _CHUNKED) * done)
        return np.concatenate(parts)

    async def _index_and_publish(
        self, lease: Lease, parsed: Parsed, chunks: Sequence[Chunk], vectors: NDArray[np.float32]
    ) -> None:
        """Write everything under a fresh revision id, then publish it; run again, it begins with another id."""
        revision_id = new_id("rev")
        terms = await asyncio.to_thread(lambda: [analyze(chunk.indexed_text()) for chunk in chunks])
        revision = NewRevision(
            id=revision_id,
            document_id=lease.document_id,
            collection_id=lease.collection_id,
            text_key=f"texts/{revision_id}",
            pages=parsed.pages,
            characters=len(parsed.text),
            chunks=len(chunks),
            terms=sum(map(len, terms)),
            frequencies=Counter(term for chunk_terms in terms for term in set(chunk_terms)),
        )
        deadline_s = self._settings.ingest_deadline_s
        await self._leases.start(lease, revision)
        await self._objects.put(revision.text_key, parsed.text.encode())
        await self._index.ensure(lease.collection_id, lease.dimensions, deadline_s)
        for first in range(0, len(chunks), self._settings.ingest_batch):
            last = min(first + self._settings.ingest_batch, len(chunks))
            rows = [
                _row(lease, revision_id, number, chunks[number], vectors[number], terms[number])
                for number in range(first, last)
            ]
            await self._index.insert(lease.collection_id, rows, deadline_s)
            share = _EMBEDDED + (_INDEXED - _EMBEDDED) * last / len(chunks)
            await self._leases.progress(lease, Status.INDEXING, share)
        await self._leases.publish(lease, revision_id)

    async def _flush(self, lease: Lease) -> None:
        try:
            await self._index.flush(lease.collection_id, self._settings.ingest_deadline_s)
        except DependencyError as error:  # the document is ready: a late flush only costs speed
            _log.warning("flush postponed", collection=lease.collection_id, reason=str(error))

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Try again while a part is away, for as long as patience lasts: an outage is not the document's fault."""
        end_s = self._clock.monotonic() + self._settings.outage_patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await work()
            except DependencyError as error:
                if self._clock.monotonic() + pause_s > end_s:
                    raise
                _log.warning("waiting for a part that is away", part=error.name, reason=str(error), seconds=pause_s)
                await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  # spreads workers, hides nothing
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def title(filename: str, parsed: Parsed) -> str:
    """What a document is called: its own title, else its file's name without folders and extension."""
    if parsed.title:
        return parsed.title[:200]
    return filename.rpartition("/")[2].rpartition(".")[0].replace("_", " ") or filename


def _row(
    lease: Lease, revision_id: str, number: int, chunk: Chunk, vector: NDArray[np.float32], terms: Sequence[str]
) -> Row:
    return Row(
        id=f"{revision_id}_{number}",
        revision_id=revision_id,
        document_id=lease.document_id,
        tenant_id=lease.tenant_id,
        collection_id=lease.collection_id,
        acl=[EVERYONE],
        filename=lease.filename,
        start=chunk.start,
        end=chunk.end,
        page=chunk.page,
        text=chunk.text,
        metadata=lease.metadata,
        dense=vector,
        # A chunk without words (a rule, a row of dots) still needs a vector: one that no question asks for.
        sparse=bm25.weigh(terms, lease.average_terms) or {bm25.term_index(""): 1.0},
    )
