"""The way of a model request: the body of one function, from identity to settlement."""

import asyncio
import time
from collections.abc import Sequence

import orjson
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from api import anthropic
from api.admission.headers import RATE_HEADERS
from api.auto.settling import settled_body
from api.chat.serving import Chat, converse
from api.errors import BodyTooSlow, RequestTooLong, describe_error
from api.fields import (
    OWN_FIELDS,
    completion_bound,
    completions_of,
    model_of,
    own_fields,
    read_json_object,
    sort_fields,
)
from api.hot.cache import Copies, cache_wish
from api.hot.exchange import ClientLeft, Exchange, Headers
from api.hot.headers import answer_headers, priority_of, rate_headers, rescue_of
from api.hot.routes import ROUTES, HotRoute
from api.identity import identify, within
from api.metering import Metered, Size, refused
from api.responses.serving import respond
from api.roles import require
from api.settings import ApiSettings
from api.state import AppState
from core.principal import CacheWish
from core.usage import Usage
from monitoring import metrics, tracing
from monitoring.record import RequestRecord, finish
from monitoring.tally import tally
from router.router import Answer, Bound, Call

EXPOSED_HEADERS = (
    "x-request-id",
    "request-id",
    "retry-after",
    "x-should-retry",
    "x-stoker-ignored",
    "x-stoker-deployment",
    "x-cache",
    "idempotency-replayed",
    *RATE_HEADERS,
)
_EXPOSED = ", ".join(EXPOSED_HEADERS).encode()
_TOO_SLOW = BodyTooSlow("the body was not there in time; send it faster")
_TOO_LONG = RequestTooLong("the answer was not taken in time; read it faster, or ask for less")
_SPOKEN = ("chat.completions", "completions", "messages")  # operations of models that write
_STREAM = b"text/event-stream; charset=utf-8"


class HotDoor:
    """Answers model requests itself and passes every other one on to `app`."""

    def __init__(self, app: Starlette, settings: ApiSettings) -> None:
        self._app: ASGIApp = app
        self._state_of = app.state
        self._settings = settings
        self._cors = _Cors(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            route = ROUTES.get(scope["path"])
            if route is not None:
                await self._serve(route, Exchange(scope, receive, send))
                return
        await self._app(scope, receive, send)

    async def _serve(self, route: HotRoute, exchange: Exchange) -> None:
        """Answer, whatever happens, and close the record."""
        record = RequestRecord(exchange.request_id, "POST", time.monotonic())
        record.route = route.path
        record.span = tracing.begin(route.path, parent=exchange.traceparent)
        if exchange.origin:
            exchange.add_headers(self._cors.headers(exchange.origin))
        if route.anthropic:
            exchange.add_headers([(b"request-id", exchange.request_id.encode("ascii"))])
        tally.add(metrics.REQUESTS_RUNNING)
        try:
            await self._answer(route, exchange, record)
        except ClientLeft:
            pass
        except asyncio.CancelledError:
            if exchange.expired is not None and not exchange.left:
                # It is one for all requests: without this it would keep the frames of each that it has ended.
                await _refuse(route, exchange, record, exchange.expired.with_traceback(None))
            elif not exchange.left:
                raise
        except Exception as error:
            await _refuse(route, exchange, record, error)
        finally:
            exchange.unwatch()
            tally.add(metrics.REQUESTS_RUNNING, -1)
            record.client_left = exchange.left
            record.status = exchange.status or 499  # nginx's word for a client that left before the answer
            finish(record, time.monotonic())

    async def _answer(self, route: HotRoute, exchange: Exchange, record: RequestRecord) -> None:
        state: AppState = self._state_of.stoker
        identity = await identify(state, exchange.authorization, exchange.api_key, exchange.scope)
        if exchange.reach:
            identity = within(identity, *exchange.reach)
        record.tenant_id, record.key_id = identity.principal.tenant_id, identity.principal.key_id
        require(identity.principal, "POST", route.path)
        exchange.guard(self._settings.body_deadline_s, _TOO_SLOW)
        raw = await exchange.body(self._settings.max_body_bytes)
        exchange.guard(self._settings.request_deadline_s, _TOO_LONG)
        if route.composed:
            await respond(state, identity, exchange, record, read_json_object(raw))
            return
        sent = read_json_object(raw)
        if state.auto is not None and route.kind in _SPOKEN and all(sent.get(name) is None for name in OWN_FIELDS):
            sent = await settled_body(state.auto, identity.principal, sent, route.kind)
        names_cache, usual = "cache" in sent, identity.principal.cache
        wish = cache_wish(sent, usual) if names_cache else usual
        body, ignored = sort_fields(sent, route.fields)
        route.check(body)
        if ignored and not OWN_FIELDS.isdisjoint(ignored) and (own := own_fields(sent, route.own, route.path)):
            dropped = [name for name in ignored if name not in own]
            await converse(state, identity, exchange, record, Chat(route, body, own, dropped, wish, names_cache))
            return
        call = Call(
            route.kind,
            model_of(body),
            body,
            body.get("stream") is True and route.kind not in ("embeddings", "rerank"),
            reach=identity.principal.reach,
            request_id=exchange.request_id,
            priority=priority_of(identity.principal.priority, exchange.priority),
            rescue=rescue_of(identity.principal.rescue, exchange.rescue),
            tenant=identity.principal.tenant_id,
            who=identity.principal.who,
        )
        bound = state.router.bound(call.group)
        size = _size(call, len(raw), bound, limited=identity.limits_amounts)
        exchange.watch()
        metered = await state.metering.admit(identity, route.path, call.group, call.request_id, size, bound)
        answer: Answer | None = None
        copies = None
        try:
            record.model_group = call.group
            if wish is not CacheWish.OFF:
                by, guards = state.router.answers(call.group, call.who), state.router.guards_of(call.group)
                keep_s = self._settings.chat_cache_s
                copies = Copies(state.cache, identity.principal, route.path, call, by, guards, keep_s)
                if await copies.tell(exchange, metered, rate_headers(metered, ignored)):
                    return
            answer = await state.router.open(call)
            record.deployment = answer.deployment.name
            record.fallback = answer.fallback
            metered.opened(answer.deployment)
            answer.on_switch = metered.switched
            await _send(exchange, answer, metered, answer_headers(answer, ignored, metered), copies)
        finally:
            record.usage = Usage()
            if answer is not None:
                await answer.aclose()
                record.first_token_s = answer.first_token_s
                record.usage = answer.usage or Usage(0, answer.tokens)
                record.deployment = answer.deployment.name
            metered.close(record.usage, left=exchange.left)
            if copies is not None:
                copies.close()


async def _send(
    exchange: Exchange, answer: Answer, metered: Metered, headers: Headers, copies: Copies | None = None
) -> None:
    """Pass the answer on; its line is written before its last bytes leave."""
    if copies is not None:
        headers.append(copies.header)
    if answer.frames is None:
        if answer.refused is not None:
            raise refused(answer.refused, answer, metered)
        metered.finish(answer.usage or Usage(), "ok")
        if copies is not None:
            copies.add(answer.body)
            copies.end(answer, metered)
        await exchange.whole(answer.status, answer.body, headers)
        return
    headers.append((b"cache-control", b"no-cache"))
    exchange.start(answer.status, _STREAM, headers)
    over = False
    async for piece in answer.frames:
        metered.count(answer.tokens)
        over = answer.over
        if copies is not None:
            copies.add(piece)
        if over:
            metered.finish(answer.usage or Usage(0, answer.tokens), "failed" if answer.broken else "ok")
            if copies is not None:
                copies.end(answer, metered)
        await exchange.piece(piece, more=not over)
    if not over:  # whatever a stream does, its answer has an end
        await exchange.piece(b"", more=False)


def _size(call: Call, prompt_bytes: int, bound: Bound, *, limited: bool) -> Size:
    """The most that the call can use; one without a bound gets the group's where somebody's amounts are limited.

    Raises: RequestInvalid.
    """
    if call.kind == "embeddings":
        return Size(prompt_bytes, 0)
    if call.kind == "rerank":  # a cross-encoder reads the query again with each document
        return Size(prompt_bytes + (len(call.body["documents"]) - 1) * len(call.body["query"].encode()), 0)
    asked = completion_bound(call.body)
    if asked is None:
        asked = bound.default_max_tokens
        if limited:
            call.body["max_tokens"] = asked
            asked *= completions_of(call.body)
    return Size(prompt_bytes, asked)


async def _refuse(route: HotRoute, exchange: Exchange, record: RequestRecord, error: Exception) -> None:
    """Answer with the error, in the form that the route's clients know."""
    status, body, headers = describe_error(error, record)
    if exchange.status:  # too late: the connection is closed in the middle, which no client takes for an end
        raise error
    if route.anthropic:
        body = anthropic.envelope(status, body["error"], exchange.request_id)
    await exchange.whole(
        status, orjson.dumps(body), [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    )


class _Cors:
    """The same answer to an origin as `CORSMiddleware` gives, which the hot path does not pass through."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)

    def headers(self, origin: str) -> Headers:
        if "*" in self._origins:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED)]
        if origin not in self._origins:
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]
