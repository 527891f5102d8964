"""The stage that verifies: each sentence is held against the sources before it is told."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from functools import partial

from api.answers.citing import Kept, cite
from api.answers.events import Citation, Event, Token
from api.answers.question import Grounding
from api.answers.spoken import Spoken
from api.answers.support import Sources, Support
from core.dependency import DependencyTimeout
from core.principal import Principal
from monitoring import tracing

NOTHING_FOUND = "Nothing in this collection speaks of that."


class Teller:
    """Tells one answer.

    Args:
        grounding: what becomes of a sentence that no source supports.
        min_coverage: the least share of what a sentence says that its source must hold.
        deadline_s: for all looks into the kept documents together.

    Attributes:
        spoken: what was told.
        checked_s: seconds that checking took.
        held_back: a sentence was not supported, and nothing was told in its place.
    """

    def __init__(
        self,
        kept: Kept,
        principal: Principal,
        collection: str,
        request_id: str,
        sources: Sources,
        spoken: Spoken,
        grounding: Grounding,
        min_coverage: float,
        deadline_s: float,
    ) -> None:
        self._kept = kept
        self._principal = principal
        self._collection = collection
        self._request_id = request_id
        self._sources = sources
        self._grounding = grounding
        self._min_coverage = min_coverage
        self._deadline_s = deadline_s
        self._late = False
        self.spoken = spoken
        self.checked_s = 0.0
        self.held_back = False

    @property
    def failure(self) -> str | None:
        """Why less was told than the sources would have supported; None: nothing was left out."""
        return f"sources could not be looked at within {self._deadline_s:g} s" if self._late else None

    async def tell(self, text: str, *, last: bool = True) -> AsyncGenerator[Event, None]:
        """Tell what the model said, as far as the grounding lets it through.

        Args:
            last: no other model is asked instead, so what is not supported is replaced by a quote at once.
        """
        spoken = self.spoken
        if self._grounding is Grounding.OFF:
            for token in spoken.pass_on(text):
                yield token
            return
        if spoken.has(text):
            return
        citation = await self._supporting(text)
        if citation is not None:
            for token in spoken.say(text, supported=True):
                yield token
            for cited in spoken.cite(citation):
                yield cited
        elif self._grounding is Grounding.MARK:
            for token in spoken.say(text, supported=False):
                yield token
        elif last:
            async for told in self.quote():
                yield told
        else:
            self.held_back = True

    async def quote(self) -> AsyncGenerator[Event, None]:
        """Tell what the sources say of the question, unless that was told already."""
        if (best := self._sources.best_quote) is not None:
            async for told in self._quote(best, " "):
                yield told

    async def quote_each(self, stretches: Iterable[Support]) -> AsyncGenerator[Event, None]:
        """Tell what several passages say of it, each as a paragraph of its own."""
        for stretch in stretches:
            async for told in self._quote(stretch, "\n\n"):
                yield told

    async def _quote(self, stretch: Support, before: str) -> AsyncGenerator[Event, None]:
        spoken = self.spoken
        if any(map(partial(_meet, stretch), spoken.citations)):
            return
        citation = await self._cite(stretch)
        if citation is None or spoken.has(citation.quote):
            return
        for token in spoken.add(f"{before}{citation.quote}", True):
            yield token
        for cited in spoken.cite(citation):
            yield cited

    def require_looked(self) -> None:
        """Raises: DependencyTimeout: a source could not be looked at in time."""
        if self.failure is not None:
            raise DependencyTimeout("documents", self.failure)

    def nothing(self) -> list[Token]:
        """Tell that there is nothing to tell."""
        return self.spoken.add(NOTHING_FOUND, None)

    async def _supporting(self, sentence: str) -> Citation | None:
        began_s = asyncio.get_running_loop().time()
        with tracing.stage("verify"):
            support = self._sources.find_support(sentence, self._min_coverage)
        self.checked_s += asyncio.get_running_loop().time() - began_s
        return None if support is None else await self._cite(support)

    async def _cite(self, support: Support) -> Citation | None:
        """A citation that stands as it says; None: it doesn't, or nobody could look in time."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            with tracing.stage("cite"):
                async with asyncio.timeout(self._deadline_s - self.checked_s):
                    return await cite(self._kept, self._principal, self._collection, support, self._request_id)
        except TimeoutError:
            self._late = True
            return None
        finally:
            self.checked_s += loop.time() - began_s


def _meet(stretch: Support, citation: Citation) -> bool:
    """Whether they are of the same words."""
    passage = stretch.excerpt.passage
    same = (passage.document_id, passage.document_version) == (citation.document_id, citation.document_version)
    return same and max(stretch.start, citation.start) < min(stretch.end, citation.end)
