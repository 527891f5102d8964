"""The embedding server's client: texts in, normalised vectors out, over OpenAI's `/v1/embeddings`.

A server may serve several models, each of which is a space. What is for a hosted one goes to `retrieval.hosted`, unless
it must not leave the house.
"""

import asyncio
import base64
from collections.abc import Sequence
from functools import partial
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from core.clock import Clock, SystemClock
from core.dependency import Dependency, DependencyUnavailable
from core.reach import ANYWHERE, Reach
from monitoring import tracing
from monitoring.tracing import genai
from retrieval.errors import DocumentRejected, InputInvalid, SpaceHosted, SpaceMismatch, SpaceRefused
from retrieval.hosted import PREFIX, Hosted, Space
from retrieval.posting import posted

__all__ = ["Embedder", "Space"]

_BUSY = (429, 503)
_UNKNOWN = 404
_REFUSED = (400, 413, 422)
_SHORTEST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0
_LISTED_S = 1.0  # a list of models that is younger is not asked for again


class Embedder:
    """Embeds texts by HTTP; the session is the caller's to close."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        deadline_s: float,
        batch: int,
        clock: Clock | None = None,
        hosted: Hosted | None = None,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._deadline_s = deadline_s
        self._batch = batch
        self._clock = clock or SystemClock()
        self._hosted = hosted
        self._dependency = Dependency("embeddings", deadline_s, (OSError, aiohttp.ClientError), clock=self._clock)
        self._spaces: list[Space] = []
        self._listed_s = 0.0

    @property
    def dependency(self) -> Dependency:
        return self._dependency

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """The embedding server and, where there are hosted embedders, the gateway before them."""
        if self._hosted is None or not self._hosted.names():
            return (self._dependency,)
        return self._dependency, self._hosted.dependency

    async def check(self) -> None:
        """Raises: DependencyError: the server does not answer, or says it is not ready."""

        async def ask() -> None:
            async with self._session.get(f"{self._url}/health") as response:
                response.raise_for_status()

        await self._dependency.call(ask)

    async def spaces(self) -> list[Space]:
        """What the server embeds into; the first is the one meant where none is named.

        Raises: DependencyError: the server is away.
        """
        if not self._spaces:
            await self._list()
        return self._spaces

    async def choose(self, name: str | None, *, reach: Reach = ANYWHERE) -> Space:
        """The space of an embedding model, for a collection to be made in; None: the server's first.

        Args:
            reach: where text of the collection may go.

        Raises:
            InputInvalid: there is none of this name, or not for this collection, or nobody could pay for it.
            DependencyError: the server is away.
        """
        found = self._find_hosted(name) if name is not None and name.startswith(PREFIX) else None
        found = found or _named(await self.spaces(), name)
        if found is None and await self._list_again():
            found = _named(self._spaces, name)
        if found is None and name is not None:
            found = self._find_hosted(name)
        hosted = [] if self._hosted is None or reach.local_only else self._hosted.names()
        there = ", ".join([*(space.name for space in self._spaces), *hosted]) or "none"
        if found is None:
            raise InputInvalid(
                "embedding_model", f"No embedding model {(name or '')[:200]!r} is served; there is: {there}."
            )
        if found.hosted and reach.local_only:
            raise InputInvalid(
                "embedding_model",
                f"{found.name} is a hosted embedder, and nothing of this collection may leave the house; there is: "
                f"{there}.",
            )
        return found

    async def embed(
        self,
        texts: Sequence[str],
        space: Space,
        deadline_s: float | None = None,
        *,
        query: bool = False,
        reach: Reach = ANYWHERE,
        lot: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed texts in input order; the end of one that is too long for the model is left out.

        Args:
            space: the one that the vectors must be of.
            query: somebody asks this, and waits; else they are documents.
            deadline_s: for each batch, waiting for a busy server included.
            reach: where the texts may go.
            lot: texts of one batch; None: as many as the settings say.

        Returns: float32[n, dimensions], rows L2-normalised.

        Raises:
            SpaceMismatch: the server does not embed into this space; SpaceHosted: the texts may not go there;
                SpaceRefused: the gateway does not let them.
            DocumentRejected: it does not take the text.
            DependencyError: it is away, or still busy at the deadline.
        """
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        if space.hosted:
            return await self._embed_hosted(texts, space, limit_s, query=query, reach=reach)
        if space not in await self.spaces() and not (await self._list_again() and space in self._spaces):
            raise SpaceMismatch(space.name, [served.name for served in self._spaces])
        lot = lot or self._batch
        parts = [
            await self._embed_batch(texts[first : first + lot], space, limit_s, query)
            for first in range(0, len(texts), lot)
        ]
        return np.concatenate(parts) if parts else np.empty((0, space.dimensions), np.float32)

    def _find_hosted(self, name: str) -> Space | None:
        try:
            return None if self._hosted is None else self._hosted.find(name)
        except SpaceRefused as error:
            raise InputInvalid("embedding_model", str(error)) from error

    async def _embed_hosted(
        self, texts: Sequence[str], space: Space, limit_s: float, *, query: bool, reach: Reach
    ) -> NDArray[np.float32]:
        if reach.local_only:
            raise SpaceHosted(space.name)
        if self._hosted is None:
            raise SpaceMismatch(space.name, [served.name for served in self._spaces])
        parts = [
            await self._hosted.embed(texts[first : first + self._batch], space, limit_s, query=query, reach=reach)
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
            with tracing.stage(f"embeddings {space.name}", "client") as asked:
                asked.describe(partial(genai.asked, "embeddings", "stoker", space.name, body, query=query))
                answer = await self._dependency.call(lambda: self._post(body), max(left_s, _SHORTEST_WAIT_S))
            if not isinstance(answer, float):
                return _vectors(answer, len(texts), space, self._dependency.name)
            if answer >= end_s - self._clock.monotonic():
                raise DependencyUnavailable(self._dependency.name, "the embedding server is busy", answer)
            await asyncio.sleep(answer)

    async def _post(self, body: dict[str, Any]) -> dict[str, Any] | float:
        """One call. Returns: the answer, or the seconds after which a busy server wants to be asked again."""
        async with posted(self._session, f"{self._url}/v1/embeddings", body) as response:
            if response.status in _BUSY:
                return _retry_after_s(response.headers.get("Retry-After"))
            if response.status == _UNKNOWN:  # it was restarted with other models
                self._spaces = []
                raise SpaceMismatch(str(body["model"]), ())
            if response.status in _REFUSED:
                reason = (await response.text())[:300]
                raise DocumentRejected(f"The embedding server refuses the text: {reason}")
            response.raise_for_status()
            answer: dict[str, Any] = await response.json()
            return answer

    async def _list_again(self) -> bool:
        """List the models once more: it may have been restarted with others since. Returns: whether it was asked."""
        if self._clock.monotonic() - self._listed_s < _LISTED_S:
            return False
        await self._list()
        return True

    async def _list(self) -> None:
        self._spaces = await self._dependency.call(self._ask)
        self._listed_s = self._clock.monotonic()

    async def _ask(self) -> list[Space]:
        async with self._session.get(f"{self._url}/v1/models") as response:
            response.raise_for_status()
            models = (await response.json())["data"]
            # Rerankers are listed too, and have no dimensions.
            listed = [Space(str(model["id"]), int(model["dimensions"])) for model in models if "dimensions" in model]
            return [space for space in listed if not space.hosted]  # that name is taken


def _named(spaces: Sequence[Space], name: str | None) -> Space | None:
    return next((space for space in spaces if name in (None, space.name)), None)


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
