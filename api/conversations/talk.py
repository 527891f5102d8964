"""A question's place in a conversation: what was said before it, and what is added when it has been answered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from api.answers.events import Citation
from api.answers.question import Question, Turn
from api.conversations.items import Item, assistant_message, text_of
from api.conversations.rows import MAX_ITEMS
from api.conversations.store import Conversations
from api.errors import ConversationFull
from api.identities import Identity
from core.reach import Reach

MOST_BYTES = 64 * 1024  # of what was said before: more than small models read, and rewriting 4,000 characters of it
_MOST_TURNS = 20


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation, opened for one question.

    Attributes:
        identity: the asker; where something said before may not leave the house, nothing of this question does.
        turns: what was said before, the oldest first.
    """

    store: Conversations
    conversation_id: str
    identity: Identity
    turns: tuple[Turn, ...]

    def before(self, question: Question) -> Question:
        """The question, with what was said in the conversation before what its request says was."""
        return replace(question, turns=(self.turns + question.turns)[-_MOST_TURNS:])

    async def add(self, asked: Sequence[Item], answer: str, citations: Sequence[Citation], *, reach: Reach) -> None:
        """Add question and answer, both or neither. Raises: ConversationNotFound: it was deleted meanwhile."""
        annotations = [_annotation(citation, len(answer)) for citation in citations]
        items = [*asked, assistant_message(answer, annotations)]
        await self.store.add(self.identity.principal, self.conversation_id, items, reach=reach)


async def open_talk(store: Conversations, identity: Identity, conversation_id: str) -> Talk:
    """Read what was said before. Raises: ConversationNotFound, ConversationFull."""
    conversation, items, _ = await store.newest(identity.principal, conversation_id, MOST_BYTES)
    if conversation.items + 2 > MAX_ITEMS:
        raise ConversationFull("this conversation is full; begin another one", "conversation_id")
    identity = replace(identity, principal=identity.principal.within(conversation.reach))
    turns = [turn for item in items if (turn := _turn(item)) is not None]
    return Talk(store, conversation_id, identity, tuple(turns[-_MOST_TURNS:]))


def _turn(item: Item) -> Turn | None:
    """A message as the rewriting reads it."""
    if item["type"] != "message" or item["role"] not in ("user", "assistant"):
        return None
    return Turn(item["role"], text_of(item))


def _annotation(citation: Citation, index: int) -> dict[str, Any]:
    return {
        "type": "file_citation",
        "file_id": citation.document_id,
        "filename": citation.filename,
        "index": index,
        "document_id": citation.document_id,
        "document_version": citation.document_version,
        "page": citation.page,
        "start": citation.start,
        "end": citation.end,
        "quote": citation.quote,
    }
