"""One document's way in: parse, chunk, embed, index, publish; nothing of it is visible before the last step."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from core.clock import Clock
from core.dependency import DependencyError
from core.ids import new_id
from monitoring import metrics, tracing
from monitoring.logs import logger
from retrieval import bm25, cutting, fingerprint
from retrieval.analyzer import analyzer
from retrieval.chunking import Chunk
from retrieval.embedder import Embedder, Space
from retrieval.errors import DocumentRejected, IndexRefused
from retrieval.index import Row, row_id
from retrieval.leases import Lease, Leases, Made
from retrieval.lifecycle import NewRevision
from retrieval.milvus import VectorIndex
from retrieval.parsers.bounds import Bounds
from retrieval.parsing import Digest, Parser, Plan
from retrieval.settings import RetrievalSettings
from retrieval.status import Status
from storage.objects import ObjectNotFound, ObjectStore

_log = logger(__name__)

T = TypeVar("T")

# Progress at the end of each stage; embedding takes nearly all of the time.
_PARSED, _EMBEDDED, _INDEXED = 0.1, 0.85, 0.99
_QUIET_S = 5.0  # after which the rest of what was added is flushed
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
        if lease.twin_from is not None:
            await self._twin(lease, lease.twin_from)
            return
        if lease.refresh:
            await self._stage(lease, Status.INDEXING, lambda: self._patiently(lambda: self._write_anew(lease)))
            return
        digest = await self._stage(lease, Status.PARSING, lambda: self._parse(lease))
        await self._take_in(lease, digest, self._fingerprint(lease, Made(lease.embedding_space, lease.chunking)))

    async def _twin(self, lease: Lease, made: Made) -> None:
        """Write the visible revision's text again, cut and embedded for the generation that is being made."""
        visible = await self._patiently(lambda: self._leases.visible(lease))
        digest = await self._stage(lease, Status.PARSING, lambda: self._cut(lease, visible))
        # Another file than the visible version's may have come, and failed; then nothing is known to equal this text.
        same = visible.fingerprint == self._fingerprint(lease, made)
        known = self._fingerprint(lease, Made(lease.embedding_space, lease.chunking)) if same else ""
        await self._take_in(lease, digest, known, twin_of=visible.id)

    async def _take_in(self, lease: Lease, digest: Digest, known: str, twin_of: str | None = None) -> None:
        """Embed, index and publish what was cut; `known` is its fingerprint."""
        await self._report(lease, Status.EMBEDDING, _PARSED)
        vectors = await self._stage(lease, Status.EMBEDDING, lambda: self._embed(lease, digest.chunks))
        await self._report(lease, Status.INDEXING, _EMBEDDED)
        await self._stage(
            lease,
            Status.INDEXING,
            lambda: self._patiently(lambda: self._index_and_publish(lease, digest, vectors, known, twin_of)),
        )
        await self._flush(lease)

    async def _stage(self, lease: Lease, stage: Status, work: Callable[[], Awaitable[T]]) -> T:
        began = perf_counter()
        try:
            with tracing.stage(stage):
                return await work()
        finally:
            seconds = perf_counter() - began
            metrics.INGEST_SECONDS.labels(stage).observe(seconds)
            _log.debug("stage", document=lease.document_id, stage=stage, seconds=round(seconds, 3))

    async def _report(self, lease: Lease, stage: Status, share: float) -> None:
        await self._patiently(lambda: self._leases.progress(lease, stage, share))

    async def _parse(self, lease: Lease) -> Digest:
        try:
            data = await self._patiently(lambda: self._objects.get(lease.source_key))
        except ObjectNotFound as error:
            raise DocumentRejected("The file is gone from the object store: send it again.") from error
        return await self._parser.parse(data, lease.media_type, lease.filename, self._plan(lease))

    async def _cut(self, lease: Lease, visible: NewRevision) -> Digest:
        try:
            data = await self._patiently(lambda: self._objects.get(visible.text_key))
        except ObjectNotFound as error:
            raise DocumentRejected("Its text is gone from the object store: send the document again.") from error
        return await self._parser.cut(data.decode(), visible.pages, visible.form, lease.filename, self._plan(lease))

    def _fingerprint(self, lease: Lease, made: Made) -> str:
        return fingerprint.of_content(
            self._settings,
            sha256=lease.sha256,
            media_type=lease.media_type,
            filename=lease.filename,
            chunking=made.chunking,
            embedding_space=made.embedding_space,
        )

    def _plan(self, lease: Lease) -> Plan:
        settings = self._settings
        return Plan(
            Bounds(settings.max_characters, settings.max_pages, settings.max_depth, settings.max_unpacked_bytes),
            cutting.limits(settings, lease.chunking),
            settings.chunk_tokenizer,
            settings.ocr_python,
        )

    async def _embed(self, lease: Lease, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        space = Space(lease.embedding_space, lease.dimensions)
        parts = []
        for first in range(0, len(chunks), self._settings.ingest_batch):
            texts = [chunk.indexed_text() for chunk in chunks[first : first + self._settings.ingest_batch]]
            parts.append(await self._patiently(lambda: self._embed_some(lease, texts, space)))  # noqa: B023
            done = (first + len(texts)) / len(chunks)
            await self._report(lease, Status.EMBEDDING, _PARSED + (_EMBEDDED - _PARSED) * done)
        return np.concatenate(parts)

    async def _embed_some(self, lease: Lease, texts: Sequence[str], space: Space) -> NDArray[np.float32]:
        deadline_s = self._settings.ingest_deadline_s
        return await self._embedder.embed(texts, space, deadline_s, reach=lease.reach)

    async def _index_and_publish(
        self, lease: Lease, digest: Digest, vectors: NDArray[np.float32], known: str, twin_of: str | None
    ) -> None:
        """Write everything under a fresh revision id, then publish it; run again, it begins with another id."""
        chunks = digest.chunks
        revision_id = new_id("rev")
        terms_of = analyzer(lease.language).terms
        terms = await asyncio.to_thread(lambda: [terms_of(chunk.indexed_text()) for chunk in chunks])
        revision = NewRevision(
            id=revision_id,
            document_id=lease.document_id,
            collection_id=lease.collection_id,
            text_key=f"texts/{revision_id}",
            pages=digest.pages,
            characters=len(digest.text),
            chunks=len(chunks),
            terms=sum(map(len, terms)),
            frequencies=Counter(term for chunk_terms in terms for term in set(chunk_terms)),
            fingerprint=known,
            said=fingerprint.of_said(lease.metadata, lease.readers),
            form=digest.form,
            generation=lease.generation,
            twin_of=twin_of,
        )
        deadline_s = self._settings.ingest_deadline_s
        await self._leases.start(lease, revision)
        await self._objects.put(revision.text_key, digest.text.encode())
        await self._index.ensure(lease.place, lease.dimensions, deadline_s)
        for first in range(0, len(chunks), self._settings.ingest_batch):
            last = min(first + self._settings.ingest_batch, len(chunks))
            rows = [
                _row(lease, revision_id, number, chunks[number], vectors[number], terms[number])
                for number in range(first, last)
            ]
            await self._index.insert(lease.place, rows, deadline_s)
            share = _EMBEDDED + (_INDEXED - _EMBEDDED) * last / len(chunks)
            await self._leases.progress(lease, Status.INDEXING, share)
        await self._leases.publish(lease, revision_id)

    async def _write_anew(self, lease: Lease) -> None:
        """Write the visible revision's rows again, with the metadata and readers of today, and publish them."""
        visible = await self._leases.visible(lease)
        revision_id = new_id("rev")
        said = fingerprint.of_said(lease.metadata, lease.readers)
        revision = replace(visible, id=revision_id, text_key=f"texts/{revision_id}", said=said)
        deadline_s = self._settings.ingest_deadline_s
        await self._leases.start(lease, revision)
        await self._objects.put(revision.text_key, await self._objects.get(visible.text_key))
        for first in range(0, revision.chunks, self._settings.ingest_batch):
            last = min(first + self._settings.ingest_batch, revision.chunks)
            ids = [row_id(visible.id, number) for number in range(first, last)]
            found = {row.id: row for row in await self._index.rows(lease.place, ids, deadline_s)}
            rows = [
                replace(
                    found[ids[number - first]],
                    id=row_id(revision_id, number),
                    revision_id=revision_id,
                    acl=lease.readers,
                    metadata=lease.metadata,
                )
                for number in range(first, last)
            ]
            await self._index.insert(lease.place, rows, deadline_s)
            await self._leases.progress(lease, Status.INDEXING, last / revision.chunks)
        await self._leases.publish(lease, revision_id)

    async def flush_quiet(self) -> None:
        """Flush what nobody has added to for a while."""
        try:
            await self._index.flush_quiet(_QUIET_S, self._settings.ingest_deadline_s)
        except (DependencyError, IndexRefused) as error:  # it may have been deleted meanwhile
            _log.warning("flush left out", reason=str(error))

    async def _flush(self, lease: Lease) -> None:
        try:
            await self._index.flush(lease.place, self._settings.ingest_deadline_s)
        except (DependencyError, IndexRefused) as error:  # the document is ready: a late flush only costs speed
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


def _row(
    lease: Lease, revision_id: str, number: int, chunk: Chunk, vector: NDArray[np.float32], terms: Sequence[str]
) -> Row:
    return Row(
        id=row_id(revision_id, number),
        revision_id=revision_id,
        document_id=lease.document_id,
        tenant_id=lease.tenant_id,
        collection_id=lease.collection_id,
        acl=lease.readers,
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
