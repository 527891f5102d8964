"""A chat that is answered from documents: a door to the same answers as `/v1/query` gives."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import orjson

from api.answers.doors import kept, last, note, rate_headers
from api.answers.events import Done, Event
from api.answers.question import Question
from api.auto.settling import settled_question
from api.chat.anthropic_voice import AnthropicVoice
from api.chat.items import items_of
from api.chat.openai_voice import OpenAIVoice
from api.chat.retrieval import RetrievalRequest, read_retrieval, refuse_what_does_not_go
from api.chat.said import Said, read_said
from api.chat.told import Voice
from api.conversations.items import Item
from api.conversations.talk import open_talk
from api.errors import RequestInvalid, describe_error
from api.fields import completion_bound, model_of, shown_fields
from api.hot.exchange import Exchange, Headers
from api.hot.routes import HotRoute
from api.identities import Identity
from core.principal import CacheWish
from monitoring.record import RequestRecord

if TYPE_CHECKING:
    from api.state import AppState

MOST_TOKENS = 4096  # of an answer, as in /v1/query
_STREAM = b"text/event-stream; charset=utf-8"
# Of a chat's fields those that an answer from documents heeds, or that change none; the others are named as dropped.
_HEEDED = frozenset("messages model system stream stream_options temperature max_tokens max_completion_tokens".split())


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat that is answered from documents.

    Attributes:
        items: what is said in it, as a conversation keeps it; empty: it belongs to none.
        unheeded: names of the fields that change nothing here.
        use_cache: an answer that was given before will do.
    """

    route: HotRoute
    model: str
    said: Said
    retrieval: RetrievalRequest
    temperature: float
    max_tokens: int | None
    stream: bool
    shows_usage: bool
    conversation_id: str | None
    items: list[Item]
    unheeded: list[str]
    use_cache: bool | Literal["exact"]

    def question(self, request_id: str) -> Question:
        """As the answerer takes it."""
        wanted = self.retrieval
        return Question(
            text=self.said.question,
            collection=wanted.collection,
            request_id=request_id,
            model=self.model,
            top_k=wanted.top_k,
            filter=wanted.filter,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            grounding=wanted.grounding,
            turns=self.said.turns,
            route=self.route.path,
            mode=wanted.mode,
            rerank=wanted.rerank,
            rerank_top_n=wanted.rerank_top_n,
            system=self.said.system,
            use_cache=self.use_cache,
        )


def read(route: HotRoute, body: dict[str, Any], own: dict[str, Any], *, cache: CacheWish = CacheWish.OFF) -> Asked:
    """Read the request.

    Args:
        cache: what of it will do.

    Raises: RequestInvalid: what is wrong with it, or what does not go together.
    """
    refuse_what_does_not_go(body)
    retrieval = read_retrieval(own["retrieval"])
    bound = completion_bound(body)
    temperature = body.get("temperature")
    if temperature is None:
        temperature = 0.0
    if not isinstance(temperature, int | float) or isinstance(temperature, bool) or not 0 <= temperature <= 2:
        raise RequestInvalid("temperature is a number from 0 to 2", "temperature")
    conversation_id = own.get("conversation_id")
    options = body.get("stream_options")
    return Asked(
        route=route,
        model=model_of(body),
        said=read_said(body["messages"], body.get("system")),
        retrieval=retrieval,
        temperature=float(temperature),
        max_tokens=None if bound is None else min(bound, MOST_TOKENS),
        stream=body.get("stream") is True,
        shows_usage=isinstance(options, dict) and options.get("include_usage") is True,
        conversation_id=conversation_id,
        items=[] if conversation_id is None else items_of(body["messages"]),
        unheeded=sorted(set(body) - _HEEDED),
        use_cache="exact" if cache is CacheWish.EXACT else cache is CacheWish.SEMANTIC,
    )


async def answer(
    state: "AppState",
    identity: Identity,
    exchange: Exchange,
    record: RequestRecord,
    asked: Asked,
    ignored: list[str],
) -> None:
    """Answer from documents.

    Raises: as `Answerer.answer`; ConversationNotFound, ConversationFull.
    """
    question, talk = asked.question(exchange.request_id), None
    if asked.conversation_id is not None:
        talk = await open_talk(state.conversations, identity, asked.conversation_id)
        question, identity = talk.before(question), talk.identity
    question = await settled_question(state, identity.principal, question)
    voice = _voice(state, replace(asked, model=question.model or asked.model), exchange.request_id)
    dropped = sorted([*ignored, *asked.unheeded])
    headers: Headers = [(b"x-stoker-ignored", shown_fields(dropped).encode())] if dropped else []
    async with aclosing(kept(state.answerer.answer(identity, question), asked.items, talk)) as events:
        first = await anext(events)  # what is wrong with the question itself is known by now, and keeps its status
        headers += [(name.encode(), value.encode()) for name, value in rate_headers(first).items()]
        if asked.stream:
            await _stream(exchange, voice, first, events, record, headers)
            return
        voice.tell(first)
        done = await last(_heard(voice, events))
        note(record, done)
        if asked.use_cache:
            headers.append((b"x-cache", done.cache.encode()))
        if done.deployment is not None:
            headers.append((b"x-stoker-deployment", done.deployment.encode()))
        await exchange.whole(200, orjson.dumps(voice.whole(done)), headers)


def _voice(state: "AppState", asked: Asked, request_id: str) -> Voice:
    if asked.route.anthropic:
        return AnthropicVoice(asked.model, request_id)
    extra = {} if asked.conversation_id is None else {"conversation_id": asked.conversation_id}
    return OpenAIVoice(
        asked.model,
        asked.retrieval.collection,
        state.settings.public_url or "",
        int(state.clock.time()),
        shows_usage=asked.shows_usage,
        extra=extra,
    )


async def _heard(voice: Voice, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    async for event in events:
        voice.tell(event)
        yield event


async def _stream(
    exchange: Exchange,
    voice: Voice,
    first: Event,
    events: AsyncGenerator[Event, None],
    record: RequestRecord,
    headers: Headers,
) -> None:
    exchange.start(200, _STREAM, [*headers, (b"cache-control", b"no-cache")])
    await exchange.piece(voice.tell(first))
    async for part, more in _told(voice, events, record):
        if part:
            await exchange.piece(part, more=more)


async def _told(voice: Voice, events: AsyncIterator[Event], record: RequestRecord) -> AsyncIterator[tuple[bytes, bool]]:
    """Each part of the stream, and whether another follows; where the answer breaks, the part that says so."""
    try:
        async for event in events:
            if isinstance(event, Done):
                note(record, event)
            yield voice.tell(event), not isinstance(event, Done)
    except Exception as error:
        status, body, _ = describe_error(error, record)
        yield voice.broken(status, body["error"]), False
