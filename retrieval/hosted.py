"""Hosted embedders, reached through the gateway's own `/v1/embeddings` and no other way.

A service key pays for them there, so policy, limits, budget and ledger hold for what is embedded as for any request.
A hosted space is told from those of the embedding server by its name, `hosted/GROUP`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from core.clock import Clock
from core.dependency import Dependency, DependencyUnavailable
from core.reach import ANYWHERE, Reach
from retrieval.errors import DocumentRejected, SpaceRefused

PREFIX = "hosted/"
_KEY = "STOKER_HOSTED_EMBEDDINGS_KEY"
_MAKE_KEY = "make one with ./stoker keys create embedder --scope embeddings"
_REFUSED = (400, 413, 422)
_SHORTEST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Space:
    """What vectors mean: those of one space can be compared, and no others."""

    name: str
    dimensions: int

    @property
    def hosted(self) -> bool:
        """Whether texts leave the house to be embedded into it."""
        return self.name.startswith(PREFIX)


class HostedModel(BaseModel):
    """A model group of the gateway that embeds."""

    model_config = ConfigDict(extra="forbid")

    dimensions: int = Field(ge=1, le=32_768)
    query_prefix: str = Field("", max_length=1000)
    document_prefix: str = Field("", max_length=1000)


class Hosted:
    """Embeds texts by the gateway; the session is the caller's to close."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        key: SecretStr | None,
        models: Mapping[str, HostedModel],
        deadline_s: float,
        clock: Clock,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._key = key
        self._models = models
        self._clock = clock
        self._dependency = Dependency("hosted-embeddings", deadline_s, (OSError, aiohttp.ClientError), clock=clock)

    @property
    def dependency(self) -> Dependency:
        return self._dependency

    def names(self) -> list[str]:
        """The spaces that there are."""
        return [PREFIX + group for group in self._models]

    def find(self, name: str) -> Space | None:
        """The space of a model group, or of this name. Raises: SpaceRefused: nobody could pay for it."""
        model = self._models.get(name.removeprefix(PREFIX))
        if model is None:
            return None
        self._header()
        return Space(PREFIX + name.removeprefix(PREFIX), model.dimensions)

    async def embed(
        self, texts: Sequence[str], space: Space, deadline_s: float, *, query: bool = False, reach: Reach = ANYWHERE
    ) -> NDArray[np.float32]:
        """Embed texts in input order.

        Args:
            deadline_s: waiting included, where the gateway asks for it.
            reach: where the texts may go, which the gateway is told.

        Returns: float32[n, dimensions], rows L2-normalised.

        Raises:
            SpaceRefused: the gateway will not, and a person has to do something about it.
            DocumentRejected: it does not take the text.
            DependencyError: it is away, or still busy at the deadline.
        """
        group = space.name.removeprefix(PREFIX)
        model = self._models.get(group)
        if model is None or model.dimensions != space.dimensions:
            known = (
                ", ".join(f"{name} ({one.dimensions} dimensions)" for name, one in self._models.items()) or "nothing"
            )
            raise SpaceRefused(
                f"The collection's hosted embedder {group!r} with {space.dimensions} dimensions is not in "
                f"STOKER_HOSTED_EMBEDDINGS, which has {known}: put it back, or move the collection with ./stoker "
                "collections reindex NAME --model MODEL."
            )
        prefix = model.query_prefix if query else model.document_prefix
        body = {"model": group, "input": [prefix + text for text in texts], "encoding_format": "float"}
        header = {**self._header(), **reach.header()}
        end_s = self._clock.monotonic() + deadline_s
        while True:
            left_s = end_s - self._clock.monotonic()
            answer = await self._dependency.call(lambda: self._post(group, body, header), max(left_s, _SHORTEST_WAIT_S))
            if not isinstance(answer, _Wait):
                return _vectors(answer, len(texts), space, self._dependency.name)
            if answer.seconds >= end_s - self._clock.monotonic():
                raise DependencyUnavailable(self._dependency.name, answer.reason, answer.seconds)
            await asyncio.sleep(min(max(answer.seconds, _SHORTEST_WAIT_S), _LONGEST_WAIT_S))

    def _header(self) -> dict[str, str]:
        if self._key is None:
            raise SpaceRefused(f"Hosted embedders need a key of the gateway: {_MAKE_KEY}, and set {_KEY} to it.")
        return {"authorization": f"Bearer {self._key.get_secret_value()}"}

    async def _post(self, group: str, body: dict[str, Any], header: dict[str, str]) -> "list[Any] | _Wait":
        async with self._session.post(f"{self._url}/v1/embeddings", json=body, headers=header) as response:
            if response.status == 200:
                data: list[Any] = (await response.json(content_type=None))["data"]
                return data
            said = await _said(response)
            wait_s = _seconds(response.headers.get("Retry-After"))
            if response.status == 401:
                raise SpaceRefused(f"The gateway does not know the key in {_KEY} ({said}): {_MAKE_KEY}.")
            if response.status == 403:
                raise SpaceRefused(f"The key in {_KEY} may not embed ({said}): {_MAKE_KEY}.")
            if response.status == 404:
                raise SpaceRefused(
                    f"The gateway has no model group {group!r} that embeds ({said}): add it to stoker.yaml."
                )
            if response.status in _REFUSED:
                raise DocumentRejected(f"The hosted embedder refuses the text: {said}")
            if response.status == 429 and response.headers.get("x-should-retry") == "false":
                raise SpaceRefused(f"The key in {_KEY} may use no more ({said}): raise its limits or its budget.")
            if response.status == 429 and wait_s is None:  # a provider's own
                wait_s = _LONGEST_WAIT_S
            if wait_s is not None:
                return _Wait(wait_s, f"the gateway can't embed now: {said}")
            raise DependencyUnavailable(self._dependency.name, f"the gateway can't embed now: {said}")


@dataclass(frozen=True, slots=True)
class _Wait:
    """The gateway wants to be asked again after so many seconds."""

    seconds: float
    reason: str


async def _said(response: aiohttp.ClientResponse) -> str:
    """The gateway's own words."""
    text = await response.text(errors="replace")
    try:
        return str((await response.json(content_type=None))["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status}: {text[:200]}"


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else float(header)
    except ValueError:  # a date: the gateway sends none
        return 1.0


def _vectors(items: list[Any], count: int, space: Space, part: str) -> NDArray[np.float32]:
    """Raises: SpaceRefused: they have other dimensions; DependencyUnavailable: they are no vectors."""
    try:
        ordered = sorted(items, key=lambda item: item["index"])
        rows = [np.asarray(item["embedding"], np.float64) for item in ordered]
    except (KeyError, TypeError, ValueError) as error:
        raise DependencyUnavailable(part, "the hosted embedder's answer is none") from error
    if len(rows) != count or any(row.ndim != 1 for row in rows):
        raise DependencyUnavailable(part, "the hosted embedder's answer does not fit the question")
    lengths = {len(row) for row in rows} - {space.dimensions}
    if lengths:
        raise SpaceRefused(
            f"The hosted embedder {space.name.removeprefix(PREFIX)!r} gives vectors of {min(lengths)} dimensions, and "
            f"STOKER_HOSTED_EMBEDDINGS says {space.dimensions}: say what it gives."
        )
    matrix = np.stack(rows) if rows else np.empty((0, space.dimensions))
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise DependencyUnavailable(part, "the hosted embedder's vectors are no numbers, or have no direction")
    normalised: NDArray[np.float32] = (matrix / norms).astype(np.float32)
    return normalised
