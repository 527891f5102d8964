"""A chat with fields of our own, behind the hot path's door: answered from documents, or as part of a conversation."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from api.chat import conversing, sourcing
from api.errors import RequestInvalid
from api.hot.exchange import Exchange
from api.hot.headers import priority_of, rescue_of
from api.hot.routes import HotRoute
from api.identities import Identity
from api.roles import require
from core.principal import CacheWish
from monitoring.record import RequestRecord

if TYPE_CHECKING:
    from api.state import AppState


@dataclass(frozen=True, slots=True)
class Chat:
    """One request.

    Attributes:
        body: its fields that a model may be sent.
        own: those of ours, none of them null.
        ignored: names of those that were dropped.
        cache: what of it will do; `names_cache`: the request itself says so.
    """

    route: HotRoute
    body: dict[str, Any]
    own: dict[str, Any]
    ignored: list[str]
    cache: CacheWish
    names_cache: bool


async def converse(
    state: "AppState", identity: Identity, exchange: Exchange, record: RequestRecord, chat: Chat
) -> None:
    """Answer. Raises: whatever goes wrong before the first byte; what goes wrong later is an event of the stream."""
    principal = identity.principal
    conversation_id = chat.own.get("conversation_id")
    if conversation_id is not None:
        if not isinstance(conversation_id, str):
            raise RequestInvalid("conversation_id must be the id of a conversation", "conversation_id")
        if chat.body.get("n") not in (None, 1):
            raise RequestInvalid("n does not go together with conversation_id: a turn has one answer", "n")
        require(principal, "POST", "/v1/conversations/{conversation_id}/items")  # it is read, and added to
    asker = replace(
        principal,
        priority=priority_of(principal.priority, exchange.priority),
        rescue=rescue_of(principal.rescue, exchange.rescue),
    )
    identity = replace(identity, principal=asker)
    exchange.watch()
    if "retrieval" in chat.own:
        require(principal, "POST", "/v1/query")
        asked = sourcing.read(chat.route, chat.body, chat.own, cache=chat.cache)
        await sourcing.answer(state, identity, exchange, record, asked, chat.ignored)
    elif conversation_id is not None:
        turn = await conversing.open_turn(state.conversations, identity, conversation_id, chat.body)
        ignored = [*chat.ignored, "cache"] if chat.names_cache else chat.ignored  # no turn is as one that was before it
        await conversing.answer(state, turn, exchange, record, chat.route, ignored)
