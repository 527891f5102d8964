"""`auto`: the cheapest model that is good enough for a request, by how hard the request is.

The words' traits are there at once. The vector comes from the embedding server, which may be away or busy: then the
traits decide alone.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from api.auto.classifier import Classifier, Sight, examples
from api.auto.reading import Read
from api.auto.windows import Windows
from core.dependency import DependencyError
from core.principal import Principal
from core.priority import Priority
from core.reach import HOME, Reach
from monitoring import metrics
from monitoring.logs import logger
from retrieval.embedder import Embedder, Space
from retrieval.errors import RetrievalError, SpaceMismatch
from router.call import Operation
from router.errors import ConfigInvalid
from router.router import Router

_log = logger(__name__)

AUTO = "auto"
"""What requests call it."""

_VECTOR_S = 0.5  # for which a request waits for its vector
_AT_ONCE = 4  # requests whose vectors a worker asks for; the others are judged by their words
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
        self._windows = Windows(router)
        self._embedder = embedder
        self._models = tuple(models)
        self._thresholds = tuple(thresholds)
        self._learnt = examples()
        self._by_traits = Classifier(self._learnt)
        self._by_vector: Classifier | None = None
        self._space: Space | None = None
        self._unlearnt = asyncio.Event()
        self._unlearnt.set()
        self._asking = 0

    async def choose(
        self,
        principal: Principal,
        asked: Read,
        operation: Operation = "chat.completions",
        body: Mapping[str, Any] | None = None,
    ) -> Chosen:
        """Choose for one request; a model that is known to be away, or can't do this, is passed over.

        Args:
            body: of a request whose prompt nobody makes shorter; a model whose window is too small is passed over, too.

        Raises: RequestInvalid: the body's bound is no number.
        """
        difficulty, by = None, "tools"
        at = len(self._models) - 1
        if not asked.acts:
            # Batches wait for no vector, and take no place of a question.
            sees = principal.priority is not Priority.BATCH and self._asking < _AT_ONCE
            difficulty, by = await self._difficulty(asked.turns, sees=sees)
            at = sum(difficulty >= threshold for threshold in self._thresholds)
            if body is not None:
                at, by = await self._roomy(at, by, body, principal.reach)
        return self._chosen(principal, at, by, difficulty, operation)

    def cheapest(self, principal: Principal) -> Chosen:
        """The first model that is there, for a request whose answer is looked at before it is told."""
        return self._chosen(principal, 0, "first", None)

    async def learn(self) -> None:
        """Fit to the vectors of the model that is served, whenever it is another one; until cancelled."""
        texts = [shortened(example.text) for example in self._learnt]
        while True:
            await self._unlearnt.wait()
            try:
                space = (await self._embedder.spaces())[0]
                # In one lot, which the embedding server takes for bulk work; in the form of questions, as requests are.
                vectors = await self._embedder.embed(texts, space, _FIT_S, query=True, lot=len(texts))
                self._by_vector, self._space = await asyncio.to_thread(Classifier, self._learnt, vectors), space
                self._unlearnt.clear()
            except Exception as error:  # whatever it was: without vectors `auto` goes on, and they may come yet
                _log.info("auto looks at words alone", reason=str(error))
                await asyncio.sleep(_AGAIN_S)

    async def _difficulty(self, turns: Sequence[str], *, sees: bool) -> tuple[float, Sight]:
        """Of the hardest of these messages; `sees`: their vectors are looked at too."""
        if not turns:
            return 0.0, "traits"
        by_vector, space = self._by_vector, self._space
        if sees and by_vector is not None and space is not None:
            shown = [shortened(turn) for turn in turns]
            self._asking += 1
            try:
                # The part's own deadline stays what it is: a vector that is late for us is no failure of the part.
                async with asyncio.timeout(_VECTOR_S):
                    vectors = await self._embedder.embed(shown, space, query=True, reach=HOME)
                return float(by_vector.difficulty(turns, vectors).max()), "vector"
            except SpaceMismatch:  # another model is served by now
                self._by_vector = None
                self._unlearnt.set()
            except (DependencyError, RetrievalError, TimeoutError) as error:
                _log.debug("auto looks at words alone", reason=str(error))
            finally:
                self._asking -= 1
        return float(self._by_traits.difficulty(turns).max()), "traits"

    async def _roomy(self, at: int, by: str, body: Mapping[str, Any], reach: Reach) -> tuple[int, str]:
        """The chosen model, or the next larger one whose window is large enough; with none, the chosen one says so."""
        for other in range(at, len(self._models)):
            if await self._windows.fit(self._models[other], body, reach):
                return other, by if other == at else "window"
        return at, by

    def _chosen(
        self,
        principal: Principal,
        at: int,
        by: str,
        difficulty: float | None,
        operation: Operation = "chat.completions",
    ) -> Chosen:
        at, passed = self._there(at, operation, reach=principal.reach)
        metrics.AUTO_CHOICES.labels(self._models[at], "health" if passed else by).inc()
        return Chosen(self._models[at], self._models[at + 1 :], difficulty)

    def _there(self, at: int, operation: Operation, *, reach: Reach) -> tuple[int, bool]:
        """The chosen model, or, where it is known to be away, the next larger that is not, else the next smaller.

        Returns: its place, and whether it is another one.
        """
        larger, smaller = range(at + 1, len(self._models)), range(at - 1, -1, -1)
        for other in (at, *larger, *smaller):
            if self._router.chat_outlook(self._models[other], operation, reach=reach) != "none":
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
