"""One question at an edge: answered from the folder, and by the central gateway where the folder's answer is poor.

An answer is poor where it is degraded, or where the best passage holds too little of what the question asks for. While
a central may be asked, an answer is told only when it is whole, since what was told can't be taken back; while it is
away, sentences are told as they come.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from api.answers.asked import QueryRequest
from api.answers.context import rarity, terms_beside
from api.answers.events import Done, Event, Retrieved
from api.answers.pipeline import Answerer
from api.answers.showing import told
from api.errors import NotSupportedYet
from api.identities import Identity
from edge.central import Central
from edge.errors import CentralSilent
from edge.library import HOLDER
from retrieval.analyzer import analyze
from retrieval.search import Passage

_COMPARED = 5  # passages

Told = tuple[str, dict[str, Any]]
"""An event's name, and what it says."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Answers questions.

    Args:
        central: None: there is none.
        confidence: 0 to 1, below which an answer is poor.
    """

    answerer: Answerer
    central: Central | None
    confidence: float

    async def ask(self, asked: QueryRequest, request_id: str) -> AsyncGenerator[Told, None]:
        """The events of an answer; the last is `done`, the answer in one piece, with `answered_by`.

        Raises: as `Answerer.answer`, before the first event; NotSupportedYet: a field that no edge can honour.
        """
        if asked.conversation_id is not None:
            raise NotSupportedYet("an edge keeps no conversations: send what was said before as `messages`")
        question = asked.question(request_id, asked.turns)
        events = self.answerer.answer(Identity(HOLDER), question)
        if self.central is None or not self.central.ready:
            async with aclosing(events):
                async for event in events:
                    for one in _told(event):
                        yield one
            return
        async with aclosing(events):
            kept = [event async for event in events]
        reason = self.poor(asked.query, kept)
        if reason is not None:
            try:
                answer = await self.central.ask(asked.model_dump(mode="json", exclude_none=True), request_id)
            except CentralSilent:
                answer = None
            if answer is not None and not answer.get("degraded"):
                for one in _as_events(answer, self.central.url, reason):
                    yield one
                return
        for event in kept:
            for one in _told(event):
                yield one

    def poor(self, question: str, events: Sequence[Event]) -> str | None:
        """Why somebody else had better answer; None: nothing speaks for it."""
        for event in events:
            if isinstance(event, Done) and event.degraded_reason is not None:
                return event.degraded_reason
        passages = [passage for event in events if isinstance(event, Retrieved) for passage in event.result.passages]
        held = confidence(question, passages)
        return f"the best passage holds {held:.0%} of the question" if held < self.confidence else None


def confidence(question: str, passages: Sequence[Passage]) -> float:
    """The share of what a question asks for that its best passage holds, 0 to 1, rarer terms counting more."""
    wanted = set(analyze(question))
    if not wanted:
        return 0.0
    held = [terms_beside(question, f"{one.filename}\n{one.text}") for one in passages[:_COMPARED]]
    shares = rarity(held, wanted)
    return max((sum(shares[term] for term in wanted & terms) for terms in held), default=0.0)


def _told(event: Event) -> list[Told]:
    events = told(event, None)
    if isinstance(event, Done):
        return [(name, {**data, "answered_by": "edge"} if name == "done" else data) for name, data in events]
    return events


def _as_events(answer: Mapping[str, Any], url: str, reason: str) -> list[Told]:
    """A central's answer as the events of a stream."""
    done = {**answer, "answered_by": "central", "central": url, "asked_because": reason}
    events: list[Told] = [("token", {"text": answer["answer"]})]
    events += [("citation", citation) for citation in answer["citations"]]
    return [*events, ("usage", answer.get("usage") or {}), ("done", done)]
