"""What every door to an answer does around it: the conversation that it belongs to, the record, the citations."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from api.answers.events import Done, Event, Retrieved
from api.conversations.items import Item
from api.conversations.talk import Talk
from core.reach import ANYWHERE
from monitoring.record import RequestRecord


async def kept(
    events: AsyncGenerator[Event, None], asked: Sequence[Item], talk: Talk | None
) -> AsyncGenerator[Event, None]:
    """The events; before the last one question and answer are added to their conversation.

    Args:
        asked: what was said in this request, as it is kept.

    Raises: as the events do; ConversationNotFound, ConversationFull: others were at it meanwhile.
    """
    reach = ANYWHERE
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Retrieved):
                reach = event.result.reach
            if isinstance(event, Done) and talk is not None:
                await talk.add(asked, event.answer, event.citations, reach=reach)
            yield event


async def last(events: AsyncIterator[Event]) -> Done:
    """The whole answer."""
    async for event in events:
        if isinstance(event, Done):
            return event
    raise RuntimeError("an answer ends with Done")


def rate_headers(first: Event) -> Mapping[str, str]:
    """What the caller's limits leave, as the first event says it."""
    return first.left if isinstance(first, Retrieved) else {}


def note(record: RequestRecord, done: Done) -> None:
    """Fill the record of the request that was answered."""
    record.model_group = done.model
    record.deployment = done.deployment
    record.fallback = done.fallback
    record.usage = done.usage
    record.first_token_s = done.first_token_s
    record.degraded = done.degraded_reason is not None
