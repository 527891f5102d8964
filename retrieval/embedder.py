"""The embedding server's client: texts in, normalised vectors out, over OpenAI's `/v1/embeddings`."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from core.clock import Clock, SystemClock
from core.dependency import Dependency, DependencyUnavailable
from retrieval.errors import DocumentRejected, SpaceMismatch

_BUSY = (429, 503)
_REFUSED = (400, 413, 422)
_SHORTEST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Space:
    """What vectors mean: those of one space can be compared, and no others."""

    name: str
    dimensions: int


class Embedder:
    """Embeds texts by HTTP; the session is the caller's to close."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, deadline_s: float, batch: int, clock: Clock | None = None
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._deadline_s = deadline_s
        self._batch = batch
        self._clock = clock or SystemClock()
        self._dependency = Dependency("embeddings", deadline_s, (OSError, aiohttp.ClientError), clock=self._clock)
        self._space: Space | None = None

    @property
    def dependency(self) -> Dependency:
        return self._dependency

    async def check(self) -> None:
        """Raises: DependencyError: the server does not answer, or says it is not ready."""

        async def ask() -> None:
            async with self._session.get(f"{self._url}/health") as response:
                response.raise_for_status()

        await self._dependency.call(ask)

    async def space(self) -> Space:
        """What the server embeds into, asked for once.

        Raises: DependencyError: the server is away.
        """
        if self._space is None:
            self._space = await self._dependency.call(self._ask_space)
        return self._space

    async def embed(
        self, texts: Sequence[str], space: Space, deadline_s: float | None = None, *, query: bool = False
    ) -> NDArray[np.float32]:
        """Embed texts in input order; the end of one that is too long for the model is left out.

        Args:
            space: the one that the vectors must be of.
            query: somebody asks this, and waits; else they are documents.
            deadline_s: for each batch, waiting for a busy server included.

        Returns: float32[n, dimensions], rows L2-normalised.

        Raises:
            SpaceMismatch: the server embeds into another space.
            DocumentRejected: it does not take the text.
            DependencyError: it is away, or still busy at the deadline.
        """
        served = await self.space()
        if served != space:
            self._space = None  # it may have been restarted with the right model since
            raise SpaceMismatch(space.name, served.name)
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        parts = [
            await self._embed_batch(texts[first : first + self._batch], space, limit_s, query)
            for first in range(0, len(texts), self._batch)
        ]
        return np.concatenate(parts) if parts else np.empty((0, space.dimensions), np.float32)

    async def _embed_batch(
        self, texts: Sequence[str], space: Space, deadline_s: float, query: bool
    ) -> NDArray[np.float32]:
        body = {
            "input": list(texts),
            "model": space.name,
            "encoding_format": "base64",
            "input_type": "query" if query else "document",
            "truncate": "END",
        }
        end_s = self._clock.monotonic() + deadline_s
        while True:
            left_s = end_s - self._clock.monotonic()
            answer = await self._dependency.call(lambda: self._post(body), max(left_s, _SHORTEST_WAIT_S))
            if not isinstance(answer, float):
                return _vectors(answer, len(texts), space, self._dependency.name)
            if answer >= end_s - self._clock.monotonic():
                raise DependencyUnavailable(self._dependency.name, "the embedding server is busy", answer)
            await asyncio.sleep(answer)

    async def _post(self, body: dict[str, Any]) -> dict[str, Any] | float:
        """One call. Returns: the answer, or the seconds after which a busy server wants to be asked again."""
        async with self._session.post(f"{self._url}/v1/embeddings", json=body) as response:
            if response.status in _BUSY:
                return _retry_after_s(response.headers.get("Retry-After"))
            if response.status in _REFUSED:
                reason = (await response.text())[:300]
                raise DocumentRejected(f"The embedding server refuses the text: {reason}")
            response.raise_for_status()
            answer: dict[str, Any] = await response.json()
            return answer

    async def _ask_space(self) -> Space:
        async with self._session.get(f"{self._url}/v1/models") as response:
            response.raise_for_status()
            model = (await response.json())["data"][0]
            return Space(str(model["id"]), int(model["dimensions"]))


def _vectors(answer: dict[str, Any], count: int, space: Space, part: str) -> NDArray[np.float32]:
    items = sorted(answer["data"], key=lambda item: item["index"])
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4") for item in items]
    if len(rows) != count or any(row.shape != (space.dimensions,) for row in rows):
        raise DependencyUnavailable(part, "the embedding server's answer does not fit the question")
    return np.stack(rows).astype(np.float32)


def _retry_after_s(header: str | None) -> float:
    try:
        seconds = float(header or 1.0)
    except ValueError:  # a date: no server of ours sends one
        seconds = 1.0
    return min(max(seconds, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
