"""The models of one server: loaded one after the other, found by name, all computed by the same threads."""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from inference.batcher import Batcher, Model, Pace, open_batcher
from inference.crossencoder import CrossEncoder
from inference.embedder import Embedder
from inference.encoder import Encoder
from inference.forms import Refusal
from inference.loaded import Placement
from inference.reranker import CrossReranker, LateModel, LateReranker, Reranker
from inference.settings import EmbeddingSettings
from inference.tokens import Cut
from monitoring.logs import logger

_log = logger(__name__)
_ONE_LANE_S, _LANES_S = 0.01, 0.03  # of a batch while questions come

LATE_SUFFIX = "-late-interaction"
"""Behind an embedding model's name: the reranker that its token vectors make."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What has been loaded, by the name it is served under; the first embedding model is the one meant by no name."""

    encoders: dict[str, Encoder]
    cross_encoders: dict[str, CrossEncoder] = field(default_factory=dict)

    @classmethod
    def load(cls, settings: EmbeddingSettings) -> "Catalogue":
        """Load all models that the settings name.

        Raises:
            OSError: a folder or a name is none of a model.
            ValueError: a model is not of the kind that it is named for.
        """
        placement = Placement(settings.device, settings.dtype, settings.threads)
        named = {settings.served_model_name: settings.model, **settings.more_models}
        return cls(
            {name: Encoder(model, placement) for name, model in named.items()},
            {name: CrossEncoder(model, placement) for name, model in settings.rerankers.items()},
        )


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """One that answers `/v1/embeddings`."""

    name: str
    encoder: Encoder
    embedder: Embedder

    def dimensions_of(self, asked: int | None) -> int | None:
        """The length that rows get. Raises: Refusal: the model was not trained for the one that was asked for."""
        if asked in (None, self.encoder.dimensions) or asked in self.encoder.shorter:
            return asked
        takes = ", ".join(str(one) for one in sorted({*self.encoder.shorter, self.encoder.dimensions})[-8:])
        raise Refusal(400, f"`dimensions` can't be {asked}: {self.name!r} was trained for {takes}.", "dimensions")

    def entry(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "object": "model",
            "owned_by": "stoker",
            "task": "embedding",
            "dimensions": self.encoder.dimensions,
            "max_tokens": self.encoder.max_tokens,
            "dtype": self.encoder.dtype,
        }


@dataclass(frozen=True, slots=True)
class RerankModel:
    """One that answers `/v1/rerank`.

    Attributes:
        method: how it ranks, for a person.
    """

    name: str
    method: str
    max_tokens: int
    dtype: str
    reranker: Reranker

    def entry(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "object": "model",
            "owned_by": "stoker",
            "task": "rerank",
            "method": self.method,
            "max_tokens": self.max_tokens,
            "dtype": self.dtype,
        }


class Served:
    """Running models."""

    def __init__(self, embedding: list[EmbeddingModel], reranking: list[RerankModel]) -> None:
        self._embedding = {model.name: model for model in embedding}
        self._reranking = {model.name: model for model in reranking}

    def embedding(self, name: str | None) -> EmbeddingModel:
        """Raises: Refusal: there is none of that name."""
        model = next(iter(self._embedding.values())) if name is None else self._embedding.get(name)
        if model is None:
            raise _unknown(name, self._embedding, self._reranking, "/v1/rerank")
        return model

    def reranking(self, name: str | None) -> RerankModel:
        """Raises: Refusal: there is none of that name, or none at all."""
        model = next(iter(self._reranking.values()), None) if name is None else self._reranking.get(name)
        if model is None:
            raise _unknown(name, self._reranking, self._embedding, "/v1/embeddings")
        return model

    def entries(self) -> list[dict[str, Any]]:
        """What `/v1/models` lists, the embedding model that no name means first."""
        return [*(one.entry() for one in self._embedding.values()), *(one.entry() for one in self._reranking.values())]


@asynccontextmanager
async def open_catalogue(catalogue: Catalogue, settings: EmbeddingSettings) -> AsyncIterator[Served]:
    """Run all models; each has really computed something when this is entered."""
    async with AsyncExitStack() as stack:
        first = next(iter(catalogue.encoders.values()))
        lanes = settings.lanes or first.lanes()
        computing = [_thread(stack, f"torch-{lane}", partial(first.enter_lane, lanes)) for lane in range(lanes)]
        tokenising = _thread(stack, "tokenise")
        pace = Pace(settings.batch_s, settings.asked_batch_s or (_ONE_LANE_S if lanes == 1 else _LANES_S))

        async def batcher(model: Model) -> Batcher:
            opened = open_batcher(model, computing, settings.max_queue_tokens, settings.max_batch_tokens, pace)
            return await stack.enter_async_context(opened)

        embedding, reranking = [], []
        for name, encoder in catalogue.encoders.items():
            embedder = Embedder(await batcher(encoder), encoder.tokeniser, encoder.prompts, tokenising)
            await embedder.embed(["ready?"])
            embedding.append(EmbeddingModel(name, encoder, embedder))
        for name, cross in catalogue.cross_encoders.items():
            reranker = CrossReranker(await batcher(cross), cross.tokeniser, tokenising)
            await reranker.rank("ready?", ["yes"], Cut.NONE)
            reranking.append(RerankModel(name, "cross-encoder", cross.max_tokens, cross.dtype, reranker))
        for name, encoder in catalogue.encoders.items():
            late = LateReranker(await batcher(LateModel(encoder)), encoder.tokeniser, tokenising)
            await late.rank("ready?", ["yes"], Cut.NONE)
            method = f"late interaction over the token vectors of {name}"
            reranking.append(RerankModel(name + LATE_SUFFIX, method, encoder.max_tokens, encoder.dtype, late))
        served = Served(embedding, reranking)
        _log.info("ready", models=[entry["id"] for entry in served.entries()], dtype=embedding[0].encoder.dtype)
        yield served


def _thread(stack: AsyncExitStack, name: str, begin: Callable[[], None] | None = None) -> Executor:
    executor = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=begin)
    stack.callback(executor.shutdown)  # what it runs is finished first
    return executor


def _unknown(name: str | None, here: dict[str, Any], there: dict[str, Any], route: str) -> Refusal:
    if name is None:
        return Refusal(404, "No model of this kind is served here.", "model", "model_not_found")
    if name in there:
        return Refusal(400, f"The model {name!r} is for {route}.", "model", "model_not_for_this_route")
    names = ", ".join(repr(one) for one in here) or "none"
    return Refusal(404, f"The model {name!r} is not served here; there is {names}.", "model", "model_not_found")
