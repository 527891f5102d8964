"""Who is asking, and whether they may: the one dependency of every route that is not public."""

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import Scope

from api import roles
from api.acting import Actor
from api.errors import NotAuthenticated, RequestInvalid
from api.identities import Identity
from api.login.guard import COOKIE, check_csrf, cookie_of
from api.record import record_of
from api.state import AppState, State
from core.principal import Principal
from core.reach import HEADER, Reach
from monitoring import tracing

SCOPE_KEY = "stoker.identity"


async def identify(state: AppState, authorization: str, api_key: str, scope: Scope) -> Identity:
    """The caller behind the headers `Authorization` and `X-API-Key`, or, where both are missing, behind the cookie.

    A request that the gateway itself makes in somebody's name brings their identity in its scope, and shows nothing.

    Args:
        authorization, api_key: empty where they are missing.
        scope: the request; it is looked into only where neither is there.

    Raises:
        NotAuthenticated
        CsrfFailed: it came by cookie, and not from the session's own page.
        DependencyError: the caller is not known here, and SQL or the token's issuer is silent.
    """
    if authorization or api_key:
        text = shown_text(authorization, api_key)
        found = state.identities.cached(text)
        if found is not None:
            return found
        with tracing.stage("identify"):
            return await state.identities.identify(text)
    given: Identity | None = scope.get(SCOPE_KEY)
    if given is not None:
        return given
    secret = cookie_of(Headers(scope=scope), COOKIE)
    if secret is None:
        raise _nothing_shown()
    identity = state.identities.cached_session(secret) or await state.identities.session(secret)
    if identity.session is not None:
        check_csrf(identity.session, scope, state.settings)
    return identity


def within(identity: Identity, *asked: str) -> Identity:
    """The caller whose request is to go no further than all of its headers ask. Raises: RequestInvalid."""
    principal = identity.principal
    for text in asked:
        try:
            principal = principal.within(Reach.asked(text))
        except ValueError:
            raise RequestInvalid(
                f"{HEADER} is `local`, or such as `providers=azure,openai; regions=eu`, not {text[:80]!r}"
            ) from None
    return replace(identity, principal=principal)


def shown_text(authorization: str, api_key: str) -> str:
    """The key or token of these headers. Raises: NotAuthenticated: there is none."""
    scheme, _, value = authorization.partition(" ")
    text = value.strip() if scheme.lower() == "bearer" else api_key.strip()
    if not text:
        raise _nothing_shown()
    return text


def _nothing_shown() -> NotAuthenticated:
    return NotAuthenticated("no API key was sent: add the header `Authorization: Bearer KEY`")


async def _identified(request: Request, state: State) -> Identity:
    identity: Identity | None = request.scope.get(SCOPE_KEY)  # whoever sends a body was asked before it was read
    if identity is None:
        headers = request.headers
        identity = await identify(state, headers.get("authorization", ""), headers.get("x-api-key", ""), request.scope)
    asked = request.headers.getlist(HEADER)
    if asked:
        identity = within(identity, *asked)
    principal = identity.principal
    record = record_of(request)
    record.tenant_id, record.key_id = principal.tenant_id, principal.key_id
    roles.require(principal, request.method, request.scope["route"].path)
    return identity


Identified = Annotated[Identity, Depends(_identified)]


async def _caller(identity: Identified) -> Principal:
    return identity.principal


Caller = Annotated[Principal, Depends(_caller)]


async def _actor(request: Request, principal: Caller) -> Actor:
    return Actor(principal, record_of(request).request_id)


Acting = Annotated[Actor, Depends(_actor)]
