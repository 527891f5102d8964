"""Embed texts: tokens in one thread, rows in another."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from inference import metrics
from inference.batcher import Batcher
from inference.tokens import Cut, Tokenised, Tokeniser

AT_ONCE = 100
"""Queries, or documents of a ranking, that somebody may wait for; more are bulk work."""
_SLICE = 8  # texts that are tokenised in one go, of each request in turn: a question waits for no more


@dataclass(frozen=True, slots=True)
class Embedded:
    """One request's result.

    Attributes:
        rows: float32[n, dimensions], in input order, L2-normalised.
        tokens: tokens computed, special ones included.
        truncated: places of the texts that were cut.
    """

    rows: npt.NDArray[np.float32]
    tokens: int
    truncated: list[int]


class Embedder:
    """One embedding model's texts, tokenised and put before its batcher.

    Args:
        prompts: by what a text is for (`""`, `query`, `document`), what the model wants before it.
        tokenising: a thread for it, which several models may share.
    """

    def __init__(
        self, batcher: Batcher, tokeniser: Tokeniser, prompts: Mapping[str, str], tokenising: Executor
    ) -> None:
        self._batcher = batcher
        self._tokeniser = tokeniser
        self._prompts = prompts
        self._tokenising = tokenising

    async def embed(
        self,
        texts: Sequence[str] | Sequence[Sequence[int]],
        purpose: str | None = None,
        cut: Cut = Cut.NONE,
        dimensions: int | None = None,
    ) -> Embedded:
        """Embed texts in input order; cancel it and what has not been computed never will be.

        Args:
            texts: texts, or their token ids.
            purpose: `query` or `document`, where it is known.
            dimensions: to which rows are cut, and then normalised again.

        Raises:
            TextTooLong, TokenUnknown: as `Tokeniser` does.
            Overloaded, Stopped: as `Batcher` does.
        """
        tokenised = await self._tokenised(texts, self._prompts.get(purpose or "", ""), cut)
        urgent = len(texts) <= AT_ONCE if purpose == "query" else purpose is None and len(texts) == 1
        rows = np.stack(await self._batcher.compute(tokenised, urgent=urgent))
        if dimensions is not None and dimensions < rows.shape[1]:
            rows = rows[:, :dimensions]
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        truncated = [at for at, row in enumerate(tokenised) if row.truncated]
        metrics.TRUNCATED.inc(len(truncated))
        return Embedded(rows, sum(len(row.ids) for row in tokenised), truncated)

    async def _tokenised(
        self, texts: Sequence[str] | Sequence[Sequence[int]], prompt: str, cut: Cut
    ) -> list[Tokenised]:
        if not isinstance(texts[0], str):
            return self._tokeniser.ids(cast(Sequence[Sequence[int]], texts), cut)
        strings = cast(Sequence[str], texts)
        loop = asyncio.get_running_loop()
        tokenised: list[Tokenised] = []
        for first in range(0, len(strings), _SLICE):
            tokenised += await loop.run_in_executor(
                self._tokenising, self._tokeniser.texts, strings[first : first + _SLICE], prompt, cut, first
            )
        return tokenised
