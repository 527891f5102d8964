"""A citation is held against the kept text before it is shown."""

from typing import Any

import pytest

from api.answers.citing import cite
from api.answers.context import Excerpt
from api.answers.support import Support
from core.dependency import DependencyUnavailable
from core.principal import Principal, Role
from retrieval.errors import DocumentNotFound
from retrieval.search import Passage

TEXT = "The tide is high. The harbour opens at 07:45."
PASSAGE = Passage("doc_1", 2, "rev_1", "tide.md", TEXT[18:], 18, len(TEXT), 3, 1.0, {})
ASKER = Principal("t", "key_1", Role.READER)


class Kept:
    """The documents: what is kept of the cited version, or why it cannot be had."""

    def __init__(self, content: str | Exception) -> None:
        self._content = content
        self.asked: list[tuple[str, str, int | None]] = []

    async def content(self, principal: Principal, collection: str, document_id: str, version: int | None = None) -> str:
        assert principal is ASKER
        self.asked.append((collection, document_id, version))
        if isinstance(self._content, Exception):
            raise self._content
        return self._content


async def cited(kept: Kept) -> Any:
    support = Support(Excerpt(PASSAGE, 18, len(TEXT)), 22, 29)
    return await cite(kept, ASKER, "port", support, "req_1")


async def test_a_citation_says_where_its_quote_stands_in_the_version_it_cites() -> None:
    kept = Kept(TEXT)
    citation = await cited(kept)
    assert (citation.quote, citation.start, citation.end, citation.page) == ("harbour", 22, 29, 3)
    assert TEXT[citation.start : citation.end] == citation.quote
    assert kept.asked == [("port", "doc_1", 2)]


@pytest.mark.parametrize("content", ["", "x" + TEXT, TEXT[:-25], TEXT.replace("harbour", "HARBOUR")])
async def test_a_citation_that_does_not_verify_is_never_made(content: str) -> None:
    assert await cited(Kept(content)) is None


async def test_a_citation_that_cannot_be_checked_is_never_made() -> None:
    assert await cited(Kept(DocumentNotFound("doc_1", 2))) is None


async def test_a_text_that_cannot_be_had_just_now_is_not_taken_for_one_that_says_nothing() -> None:
    """While SQL was away, an answer said that nothing in the collection speaks of the question."""
    with pytest.raises(DependencyUnavailable):
        await cited(Kept(DependencyUnavailable("objects", "away")))
