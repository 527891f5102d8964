"""Citations: made of a sentence's support, and held against the kept text before anybody sees them."""

from typing import Protocol

from api.answers.events import Citation
from api.answers.support import Support
from core.principal import Principal
from monitoring.logs import logger
from retrieval.errors import RetrievalError

_log = logger(__name__)


class Kept(Protocol):
    """Where documents' texts are kept."""

    async def content(
        self, principal: Principal, collection_name: str, document_id: str, version: int | None = None
    ) -> str:
        """The text that spans point into."""
        ...


async def cite(kept: Kept, principal: Principal, collection: str, support: Support, request_id: str) -> Citation | None:
    """Make a citation and hold it against the kept text; one that doesn't verify is never shown.

    Raises: DependencyError: the kept text can't be had just now, which says nothing of what it holds.
    """
    passage = support.excerpt.passage
    citation = Citation(
        document_id=passage.document_id,
        document_version=passage.document_version,
        filename=passage.filename,
        page=support.excerpt.page_at(support.start),
        start=support.start,
        end=support.end,
        quote=support.quote,
    )
    try:
        content = await kept.content(principal, collection, passage.document_id, passage.document_version)
    except RetrievalError as error:
        _log.warning("a citation could not be checked", request_id=request_id, reason=str(error))
        return None
    if content[citation.start : citation.end] != citation.quote:
        _log.error("a citation does not verify", request_id=request_id, document=citation.document_id)
        return None
    return citation
