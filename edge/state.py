"""What an edge holds open while it runs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, Request

from api.answers.pipeline import Answerer
from core.clock import SystemClock
from edge.asking import Asking
from edge.catalog import open_catalog
from edge.central import Central, open_central
from edge.embedding import open_embedding
from edge.index import FileIndex
from edge.lane import InProcessLane, configuration
from edge.library import EdgeLibrary, Sayings, ShelvedCollection
from edge.llm import LocalModel, Writing
from edge.manifest import Manifest
from edge.metering import Unmetered
from edge.settings import EdgeSettings, answering
from retrieval.hosted import Space
from retrieval.rows import fetch
from router.native_lane import NativeLane
from router.router import Native, Router
from storage.schema import documents

EMBEDDING, LLM = "embedding", "llm"


@dataclass(frozen=True, slots=True)
class EdgeState:
    """Opened by `open_state`, closed by it too."""

    settings: EdgeSettings
    manifest: Manifest
    collection: ShelvedCollection
    library: EdgeLibrary
    index: FileIndex
    asking: Asking
    central: Central | None
    dtype: str


@asynccontextmanager
async def open_state(settings: EdgeSettings, manifest: Manifest) -> AsyncIterator[EdgeState]:
    """Open a folder whose manifest was checked. Raises: FolderRefused."""
    clock, folder = SystemClock(), settings.folder
    collection = ShelvedCollection.of(manifest)
    async with AsyncExitStack() as stack:
        database = open_catalog(folder)
        stack.push_async_callback(database.close)
        index = FileIndex(folder, manifest.index["kind"])
        stack.callback(index.close)
        name = manifest.models[EMBEDDING]
        embedder, reranker = await stack.enter_async_context(open_embedding(folder / EMBEDDING, name))
        await embedder.check(index, Space(name, manifest.index["dimensions"]))
        ends = sa.select(documents.c.id, documents.c.expires_at).where(documents.c.expires_at.is_not(None))
        expiry = {row.id: row.expires_at for row in await fetch(database, ends)}
        library = EdgeLibrary.of(collection, database, index, embedder, reranker, clock, expiry)
        llm = manifest.models.get(LLM)
        router = Router(configuration(llm), _lane(folder, llm), clock)
        stack.push_async_callback(router.close)
        said = answering(manifest.collection["answering"])
        answerer = Answerer(library, router, Unmetered(), said, clock, Sayings(collection))
        central = None
        if settings.central is not None and settings.central_key is not None:
            key = settings.central_key.get_secret_value()
            central = await stack.enter_async_context(
                open_central(settings.central, key, collection, settings.central_deadline_s, clock)
            )
        yield EdgeState(
            settings,
            manifest,
            collection,
            library,
            index,
            Asking(answerer, central, settings.confidence),
            central,
            embedder.dtype,
        )


def _lane(folder: Path, llm: str | None) -> Native:
    if llm is None:
        return NativeLane()  # no deployment leads to it
    model = LocalModel(folder / LLM)
    return InProcessLane(model, lambda wish: Writing(model, wish))


async def _state_of(request: Request) -> EdgeState:
    state: EdgeState = request.app.state.edge
    return state


State = Annotated[EdgeState, Depends(_state_of)]
