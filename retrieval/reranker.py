"""The reranking server's client: a question and texts in, how well each answers it out, over `/v1/rerank`."""

from collections.abc import Sequence
from typing import Any

import aiohttp

from core.dependency import Dependency, DependencyUnavailable
from retrieval.posting import posted


class Reranker:
    """Reranks by HTTP; the session is the caller's to close."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str | None, deadline_s: float) -> None:
        """Args: model: None: the server's first."""
        self._session = session
        self._url = url.rstrip("/")
        self._model = model
        self._dependency = Dependency("reranker", deadline_s, (OSError, aiohttp.ClientError, ValueError, KeyError))

    @property
    def dependency(self) -> Dependency:
        return self._dependency

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers, higher is better; the scale is the model's.

        Raises: DependencyError: the server is away, busy, or past its deadline, or serves no such model.
        """
        body = {"query": question, "documents": list(texts), "truncate": "END", "model": self._model}
        answer = await self._dependency.call(lambda: self._post(body))
        scores = {int(one["index"]): float(one["relevance_score"]) for one in answer["results"]}
        if sorted(scores) != list(range(len(texts))):
            raise DependencyUnavailable(self._dependency.name, "the reranker's answer does not fit the question")
        return [scores[at] for at in range(len(texts))]

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        sent = {name: value for name, value in body.items() if value is not None}
        async with posted(self._session, f"{self._url}/v1/rerank", sent) as response:
            response.raise_for_status()
            answer: dict[str, Any] = await response.json()
            return answer
