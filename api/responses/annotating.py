"""Sources of what a model says while it says it: each sentence that they support is annotated with where it stands."""

from collections.abc import Mapping, Sequence
from typing import Any

from api.answers.citing import Kept, cite
from api.answers.context import Excerpt
from api.answers.sentences import SentenceBuffer
from api.answers.support import Sources
from api.responses.searching import Found, file_of
from core.dependency import DependencyError
from core.principal import Principal
from monitoring.logs import logger

Annotation = dict[str, Any]

_log = logger(__name__)


class Annotator:
    """Hears one answer.

    Args:
        excerpts: what the model was shown.
        min_coverage: the share of a sentence's terms that its source must hold.
    """

    def __init__(
        self,
        kept: Kept,
        principal: Principal,
        found: Found,
        excerpts: Sequence[Excerpt],
        min_coverage: float,
        request_id: str,
    ) -> None:
        self._kept = kept
        self._principal = principal
        self._found = found
        self._sources = Sources(found.question, excerpts)
        self._min_coverage = min_coverage
        self._request_id = request_id
        self._buffer = SentenceBuffer()
        self._heard = 0

    async def hear(self, chunk: Mapping[str, Any]) -> list[Annotation]:
        """Take in what a chunk says. Returns: the annotations of the sentences that it ended."""
        contents = [(choice.get("delta") or {}).get("content") for choice in chunk.get("choices") or ()]
        sentences = [
            sentence for text in contents if isinstance(text, str) and text for sentence in self._buffer.add(text)
        ]
        return [one for sentence in sentences for one in await self._of(sentence)]

    async def rest(self) -> list[Annotation]:
        """The annotation of the last sentence of a text; what is heard later is another text."""
        found = [one for sentence in self._buffer.rest() for one in await self._of(sentence)]
        self._heard = 0
        return found

    async def _of(self, sentence: str) -> list[Annotation]:
        self._heard += len(sentence)
        support = self._sources.find_support(sentence, self._min_coverage)
        if support is None:
            return []
        passage = support.excerpt.passage
        collection = self._found.collections[passage.document_id]
        try:
            citation = await cite(self._kept, self._principal, collection, support, self._request_id)
        except DependencyError as error:  # the sentence stands without its source, as others do here
            _log.warning("a citation could not be checked", request_id=self._request_id, reason=str(error))
            return []
        if citation is None:
            return []
        return [
            {
                "type": "file_citation",
                "file_id": file_of(passage),
                "filename": citation.filename,
                "index": self._heard,
                "document_id": citation.document_id,
                "document_version": citation.document_version,
                "page": citation.page,
                "start": citation.start,
                "end": citation.end,
                "quote": citation.quote,
            }
        ]
