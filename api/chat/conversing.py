"""A chat in a conversation: what was said before stands before it, and what is said in it is kept.

The model's answer is passed on as it comes, byte for byte, as on the hot path. It is also gathered, and read once when
it is whole; its last bytes leave when question and answer are kept, so that who has an answer's end finds it there.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from api.answers.deltas import StreamBroken
from api.auto.settling import settled
from api.chat.items import answer_items, is_order, items_of, message_of_body, message_of_frames
from api.conversations.history import history, size_of
from api.conversations.items import Item
from api.conversations.rows import MAX_ITEMS
from api.conversations.store import Conversations
from api.conversations.talk import MOST_BYTES
from api.errors import ConversationFull, RequestInvalid, describe_error
from api.fields import completion_bound, model_of
from api.hot.exchange import Exchange
from api.hot.headers import answer_headers
from api.hot.routes import HotRoute
from api.identities import Identity
from api.metering import Metered, Size, refused
from api.responses.messages import messages
from core.usage import Usage
from monitoring.record import RequestRecord
from router.errors import UpstreamFailed, UpstreamRefused
from router.events import frame
from router.router import Answer, Call, Router

if TYPE_CHECKING:
    from api.state import AppState

_STREAM = b"text/event-stream; charset=utf-8"
_LESS = 0.6  # of what was too much is tried next; the gateway knows no model's window, so the engine is the judge


class NewTurn:
    """One request in a conversation.

    Args:
        body: the request's fields, to be sent with other messages.
        earlier: what was said before it, the oldest first.

    Attributes:
        identity: the asker; where something said before may not leave the house, nothing of this turn does.
    """

    def __init__(
        self,
        store: Conversations,
        conversation_id: str,
        identity: Identity,
        body: dict[str, Any],
        earlier: Sequence[Item],
    ) -> None:
        self._store = store
        self._conversation_id = conversation_id
        self.identity = identity
        self._body = body
        self._now = items_of(body["messages"])
        self._earlier = list(earlier)

    def body(self) -> dict[str, Any]:
        """The request to the model: what the system says now, what was said before, what is said now."""
        sent = self._body["messages"]
        orders = [message for message in sent if is_order(message)]
        said = [message for message in sent if not is_order(message)]
        return {**self._body, "messages": [*orders, *messages(None, self._earlier), *said]}

    def forget(self, *, share: float = _LESS, spare_bytes: int = 0) -> bool:
        """Leave out the oldest turns, whole ones. Returns: whether there were any to leave out."""
        before = len(self._earlier)
        budget = int(share * sum(map(size_of, self._earlier))) - spare_bytes + sum(map(size_of, self._now))
        self._earlier = history(self._earlier, budget, asked=self._now)
        return len(self._earlier) < before

    def asks(self, model: object) -> None:
        """Have this model asked."""
        self._body = {**self._body, "model": model}

    def bounded(self, most_tokens: int) -> None:
        """Have the model write no more than this."""
        self._body = {**self._body, "max_tokens": most_tokens}

    async def keep(self, answer: list[Item]) -> None:
        """Add what was said in this turn, all or nothing. Raises: ConversationNotFound, ConversationFull."""
        await self._store.add(self.identity.principal, self._conversation_id, [*self._now, *answer])


async def open_turn(store: Conversations, identity: Identity, conversation_id: str, body: dict[str, Any]) -> NewTurn:
    """Read what was said before. Raises: ConversationNotFound, ConversationFull; RequestInvalid: what can't be kept."""
    if all(map(is_order, body["messages"])):
        raise RequestInvalid("messages hold nothing that is said: add a user's message", "messages")
    conversation, earlier, more = await store.newest(identity.principal, conversation_id, MOST_BYTES)
    identity = replace(identity, principal=identity.principal.within(conversation.reach))
    turn = NewTurn(store, conversation_id, identity, body, earlier)
    if conversation.items + len(body["messages"]) >= MAX_ITEMS:
        raise ConversationFull("this conversation is full; begin another one", "conversation_id")
    if more:  # the oldest turn that was read lacks its beginning
        turn.forget(share=1, spare_bytes=1)
    return turn


async def answer(
    state: "AppState", turn: NewTurn, exchange: Exchange, record: RequestRecord, route: HotRoute, ignored: list[str]
) -> None:
    """Ask the model, pass its answer on, and keep both. Raises: as the hot path, and what keeping does."""
    turn.asks(await settled(state.auto, turn.identity.principal, turn.body().get("model"), turn.body()))
    group = model_of(turn.body())
    bound = state.router.bound(group)
    asked = completion_bound(turn.body())
    if asked is None:
        asked = bound.default_max_tokens
        if turn.identity.limits_amounts:
            turn.bounded(asked)
    size = Size(len(orjson.dumps(turn.body())), asked)
    metered = await state.metering.admit(turn.identity, route.path, group, exchange.request_id, size, bound)
    made: Answer | None = None
    try:
        made = await _open(state.router, turn, group, exchange.request_id)
        record.model_group, record.deployment = group, made.deployment.name
        record.fallback = made.fallback
        metered.opened(made.deployment)
        made.on_switch = metered.switched
        headers = answer_headers(made, ignored, metered)
        if made.frames is None:
            if made.refused is not None:
                raise refused(made.refused, made, metered)
            metered.finish(made.usage or Usage(), "ok")
            await turn.keep(_items(made, message_of_body, made.body))
            await exchange.whole(made.status, made.body, headers)
        else:
            exchange.start(made.status, _STREAM, [*headers, (b"cache-control", b"no-cache")])
            await _pass_on(made, turn, exchange, record, metered)
    finally:
        record.usage = Usage()
        if made is not None:
            await made.aclose()
            record.first_token_s = made.first_token_s
            record.usage = made.usage or Usage(0, made.tokens)
            record.deployment = made.deployment.name
        metered.close(record.usage, left=exchange.left)


async def _open(router: Router, turn: NewTurn, group: str, request_id: str) -> Answer:
    """Ask the model, and again with fewer turns where its window is too small for all of them."""
    principal = turn.identity.principal
    while True:
        body = turn.body()
        call = Call(
            "chat.completions",
            group,
            body,
            body.get("stream") is True,
            reach=principal.reach,
            request_id=request_id,
            priority=principal.priority,
            rescue=principal.rescue,
            tenant=principal.tenant_id,
            who=principal.who,
        )
        try:
            return await router.open(call)
        except UpstreamRefused as error:
            if not error.too_long or not turn.forget():
                raise


async def _pass_on(made: Answer, turn: NewTurn, exchange: Exchange, record: RequestRecord, metered: Metered) -> None:
    """Pass a stream on; its last part waits until all of it is kept."""
    assert made.frames is not None
    gathered: list[bytes] = []
    over = False
    async for piece in made.frames:
        metered.count(made.tokens)
        gathered.append(piece)
        over = made.over
        passed = piece
        if over:
            metered.finish(made.usage or Usage(0, made.tokens), "failed" if made.broken else "ok")
            passed = piece if made.broken else await _kept(made, turn, gathered, record)
        await exchange.piece(passed, more=not over)
    if not over:  # whatever a stream does, its answer has an end
        await exchange.piece(b"", more=False)


async def _kept(made: Answer, turn: NewTurn, gathered: Sequence[bytes], record: RequestRecord) -> bytes:
    """Keep what a whole stream said. Returns: its end, or the event that says why it could not be kept."""
    try:
        await turn.keep(_items(made, message_of_frames, b"".join(gathered)))
    except Exception as error:  # the status has left: a stream can only be told
        return frame(orjson.dumps(describe_error(error, record)[1]))
    return gathered[-1]


def _items(made: Answer, read: Callable[[bytes], dict[str, Any]], said: bytes) -> list[Item]:
    """The answer as it is kept. Raises: UpstreamFailed: it is no chat's."""
    try:
        return answer_items(read(said))
    except StreamBroken as error:
        raise UpstreamFailed(made.deployment.name, f"sent an answer that cannot be kept: {error}") from error
