"""`auto`: the cheapest model that is good enough for a request, by how hard the request is.

The words' traits are there at once. The vector comes from the embedding server, which may be away or busy: then the
traits decide alone.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.auto.classifier import Classifier, Sight, examples
from api.auto.reading import Read
from core.dependency import DependencyError
from core.principal import Principal
from monitoring import metrics
from monitoring.logs import logger
from retrieval.embedder import Embedder, Space
from retrieval.errors import RetrievalError
from router.errors import ConfigInvalid
from router.router import Router

_log = logger(__name__)

AUTO = "auto"
"""What requests call it."""

_VECTOR_S = 0.5  # for which a request waits for its vector
_FIT_S = 60.0
_AGAIN_S = 5.0
_LONGEST = 2000  # characters of a message that are embedded: its beginning, and its end


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen for one request.

    Attributes:
        group: the model group that is to answer.
        larger: those that may be asked where its answer does not do, the next one first.
        difficulty: from 0 to 1; None: it was not looked at.
    """

    group: str
    larger: tuple[str, ...]
    difficulty: float | None


class Auto:
    """Chooses among model groups; one for each worker.

    Args:
        models: from the cheapest to the most able.
        thresholds: the difficulty from which the second, third ... model is asked; one less than there are models.

    Raises: ConfigInvalid: these are no such models, or too few thresholds.
    """

    def __init__(self, router: Router, embedder: Embedder, models: Sequence[str], thresholds: Sequence[float]) -> None:
        chat = [model.id for model in router.models() if model.kind == "chat"]
        for name in models:
            if name not in chat:
                raise ConfigInvalid(
                    f"STOKER_AUTO_MODELS names {name!r}, which is no chat model, or has no deployment that is enabled; "
                    f"there is: {', '.join(chat) or 'none'}"
                )
        if AUTO in chat:
            raise ConfigInvalid("a model group is called auto: rename it, or leave STOKER_AUTO_MODELS empty")
        if len(thresholds) != len(models) - 1:
            raise ConfigInvalid(
                f"STOKER_AUTO_THRESHOLDS holds {len(thresholds)} numbers and STOKER_AUTO_MODELS {len(models)} models: "
                "each model but the first needs the difficulty from which it is asked"
            )
        self._router = router
        self._embedder = embedder
        self._models = tuple(models)
        self._thresholds = tuple(thresholds)
        self._learnt = examples()
        self._by_traits = Classifier(self._learnt)
        self._by_vector: Classifier | None = None
        self._space: Space | None = None

    async def choose(self, principal: Principal, asked: Read) -> Chosen:
        """Choose for one request; a model that is known to be away is passed over."""
        difficulty, by = None, "tools"
        at = len(self._models) - 1
        if not asked.acts:
            difficulty, by = await self._difficulty(asked.turns)
            at = sum(difficulty >= threshold for threshold in self._thresholds)
        return self._chosen(principal, at, by, difficulty)

    def cheapest(self, principal: Principal) -> Chosen:
        """The first model that is there, for a request whose answer is looked at before it is told."""
        return self._chosen(principal, 0, "first", None)

    async def learn(self) -> None:
        """Fit to the vectors of the model that is served; tries until it has them."""
        while self._by_vector is None:
            try:
                space = (await self._embedder.spaces())[0]
                texts = [shortened(example.text) for example in self._learnt]
                vectors = await self._embedder.embed(texts, space, _FIT_S)
                self._by_vector, self._space = await asyncio.to_thread(Classifier, self._learnt, vectors), space
            except (DependencyError, RetrievalError, IndexError) as error:
                _log.info("auto looks at words alone", reason=str(error))
                await asyncio.sleep(_AGAIN_S)

    async def _difficulty(self, turns: Sequence[str]) -> tuple[float, Sight]:
        """Of the hardest of these messages."""
        if not turns:
            return 0.0, "traits"
        by_vector, space = self._by_vector, self._space
        if by_vector is not None and space is not None:
            try:
                shown = [shortened(turn) for turn in turns]
                vectors = await self._embedder.embed(shown, space, _VECTOR_S, query=True, local_only=True)
                return float(by_vector.difficulty(turns, vectors).max()), "vector"
            except (DependencyError, RetrievalError) as error:
                _log.debug("auto looks at words alone", reason=str(error))
        return float(self._by_traits.difficulty(turns).max()), "traits"

    def _chosen(self, principal: Principal, at: int, by: str, difficulty: float | None) -> Chosen:
        at, passed = self._there(at, allow_hosted=not principal.local_only)
        metrics.AUTO_CHOICES.labels(self._models[at], "health" if passed else by).inc()
        return Chosen(self._models[at], self._models[at + 1 :], difficulty)

    def _there(self, at: int, *, allow_hosted: bool) -> tuple[int, bool]:
        """The chosen model, or, where it is known to be away, the next larger that is not, else the next smaller.

        Returns: its place, and whether it is another one.
        """
        larger, smaller = range(at + 1, len(self._models)), range(at - 1, -1, -1)
        for other in (at, *larger, *smaller):
            if self._router.chat_outlook(self._models[other], allow_hosted=allow_hosted) != "none":
                return other, other != at
        return at, False


@asynccontextmanager
async def open_auto(
    router: Router, embedder: Embedder, models: Sequence[str], thresholds: Sequence[float]
) -> AsyncIterator[Auto | None]:
    """Open it, and let it learn beside everything else; without models there is none. Raises: ConfigInvalid."""
    if not models:
        yield None
        return
    auto = await asyncio.to_thread(Auto, router, embedder, models, thresholds)
    learning = asyncio.create_task(auto.learn())
    try:
        yield auto
    finally:
        learning.cancel()
        await asyncio.gather(learning, return_exceptions=True)


def shortened(text: str) -> str:
    """What is asked stands at the beginning or at the end, and between them is what it is asked about."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}\n...\n{text[-_LONGEST // 2 :]}"
