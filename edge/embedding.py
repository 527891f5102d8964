"""The embedding model in this process: the same code as the embedding server's, without the server."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.dependency import DependencyUnavailable
from core.reach import ANYWHERE, Reach
from edge.errors import FolderRefused
from edge.index import FileIndex
from inference.batcher import InferenceError
from inference.catalogue import Catalogue, EmbeddingModel, RerankModel, open_catalogue
from inference.settings import EmbeddingSettings
from inference.tokens import Cut
from retrieval.errors import SpaceMismatch
from retrieval.hosted import Space

_SAMPLED = 16  # chunks that are embedded anew at the start
_ALIKE = 0.5  # mean cosine: chunks are embedded below their headings, which are not kept; of another model it is near 0


class LocalEmbedder:
    """Embeds questions."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model

    @property
    def dtype(self) -> str:
        """The number format in use."""
        return self._model.encoder.dtype

    async def embed(
        self,
        texts: Sequence[str],
        space: Space,
        *,
        query: bool = False,
        reach: Reach = ANYWHERE,
    ) -> NDArray[np.float32]:
        """As `retrieval.search.Embeds`."""
        if space.name != self._model.name:
            raise SpaceMismatch(space.name, [self._model.name])
        try:
            purpose = "query" if query else "document"
            return (await self._model.embedder.embed(list(texts), purpose, Cut.END)).rows
        except InferenceError as error:
            raise DependencyUnavailable("embeddings", str(error)) from error

    async def check(self, index: FileIndex, space: Space) -> None:
        """Embed some chunks anew. Raises: FolderRefused: their vectors in the index are another model's."""
        if not index.chunks:
            return
        texts, kept = index.sample(_SAMPLED)
        made = await self.embed(texts, space)
        if made.shape != kept.shape or float(np.mean(np.sum(made * kept, axis=1))) < _ALIKE:
            raise FolderRefused(
                f"the model in the folder is not the {space.name} that the collection was embedded by",
                "export it again, and name the right files with --embedding-model",
            )


class LocalReranker:
    """Reranks by the embedding model's own token vectors."""

    def __init__(self, model: RerankModel) -> None:
        self._model = model

    async def scores(
        self,
        question: str,
        texts: Sequence[str],
        deadline_s: float | None = None,
    ) -> list[float]:
        """As `retrieval.search.Reranks`."""
        try:
            return (await self._model.reranker.rank(question, list(texts), Cut.END)).scores
        except InferenceError as error:
            raise DependencyUnavailable("reranker", str(error)) from error


@asynccontextmanager
async def open_embedding(folder: Path, name: str) -> AsyncIterator[tuple[LocalEmbedder, LocalReranker]]:
    """Load the model of a folder; `STOKER_EMBEDDINGS_...` say how it is computed, as for the server.

    Raises: FolderRefused: it is no such model.
    """
    settings = EmbeddingSettings(model=str(folder), served_model_name=name, device="cpu", more_models={}, rerankers={})
    try:
        catalogue = Catalogue.load(settings)
    except (OSError, ValueError) as error:
        raise FolderRefused(f"{folder} is no embedding model: {error}", "export the collection again") from error
    async with open_catalogue(catalogue, settings) as served:
        yield LocalEmbedder(served.embedding(name)), LocalReranker(served.reranking(None))
