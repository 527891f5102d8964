"""/v1/session: signing in and out, by key or at an identity provider."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers

from api.acting import Actor
from api.console.refusal import refusal
from api.errors import BodyTooLarge, LoginRefused, RequestInvalid
from api.identities import Identity
from api.identity import Acting, Identified, shown_text
from api.login.guard import COOKIE, check_origin, cookie_of, set_cookie
from api.login.secret import csrf_token_of
from api.record import record_of
from api.state import AppState, State

routes = APIRouter(prefix="/v1/session", tags=["Session"])

JOURNEY_COOKIE = "stoker_oidc"
_JOURNEY_PATH = "/v1/session/oidc"
_JOURNEY_S = 600
_MAX_BODY_BYTES = 4096  # read from whoever asks, known or not
_NO_STORE = {"cache-control": "no-store"}

_NOT_IN = ("You are not signed in", "Back to signing in")

ReturnTo = Annotated[str, Query(description="Path of this gateway to go on to.")]


class SignIn(BaseModel):
    """A key to sign in with."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=200)


_BODY = {**SignIn.model_json_schema(), "required": []}  # who shows the key in the header needs no body


@routes.post(
    "",
    status_code=201,
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": _BODY}}}},
)
async def sign_in(request: Request, state: State) -> Response:
    """Sign in with a key, in the usual header or in the body: the answer sets the session's cookie."""
    text = await _shown_key(request, state)
    identity = state.identities.cached(text) or await state.identities.identify(text)
    if identity.principal.key_id is None:
        raise RequestInvalid("sign in with an API key; with a token, call the API itself", "key")
    secret, opened = await _opened(request, state, identity, {"by": "key"})
    answer = JSONResponse(_shown(opened, secret), 201, _NO_STORE)
    _give(answer, state, secret, opened)
    return answer


@routes.get("")
async def get_session(request: Request, identity: Identified) -> Response:
    """Who is signed in, and the CSRF token of the session; who shows a key or token is told who they are."""
    return JSONResponse(_shown(identity, cookie_of(request.headers, COOKIE)), headers=_NO_STORE)


@routes.delete("", status_code=204, response_class=Response)
async def sign_out(request: Request, state: State, identity: Identified, by: Acting) -> Response:
    """Sign out: the session's next request is refused."""
    secret = cookie_of(request.headers, COOKIE)
    if identity.session is None or secret is None:
        raise RequestInvalid("this request came by key or token, and only sessions end here")
    await state.directory.sessions.close(by, secret)
    answer = Response(status_code=204, headers=_NO_STORE)
    set_cookie(answer, state.settings, COOKIE, "", 0)
    return answer


@routes.get("/oidc")
async def list_providers(state: State) -> dict[str, Any]:
    """The identity providers that users may sign in at."""
    return {"object": "list", "data": [{"name": name} for name in state.directory.oidc.names]}


@routes.get("/oidc/{name}", status_code=302, response_class=Response)
async def begin_sign_in(name: str, request: Request, state: State, return_to: ReturnTo = "/") -> Response:
    """Go to the identity provider; a short-lived cookie binds the sign-in to this browser."""
    try:
        address, journey = await state.directory.oidc.login(name).begin(return_to)
    except Exception as error:
        return refusal(request, error, *_NOT_IN)
    answer = RedirectResponse(address, 302, _NO_STORE)
    set_cookie(answer, state.settings, JOURNEY_COOKIE, journey.cookie, _JOURNEY_S, _JOURNEY_PATH)
    return answer


@routes.get("/oidc/{name}/callback", status_code=303, response_class=Response)
async def finish_sign_in(name: str, request: Request, state: State) -> Response:
    """Come back from the identity provider: the answer sets the session's cookie and leads on."""
    try:
        return await _finished(name, request, state)
    except Exception as error:
        return refusal(request, error, *_NOT_IN)


async def _finished(name: str, request: Request, state: AppState) -> Response:
    said, journey = request.query_params, cookie_of(request.headers, JOURNEY_COOKIE)
    if len(said) != len(said.multi_items()):
        raise LoginRefused("a parameter of this callback came twice; sign in again")
    identity, return_to = await state.directory.oidc.login(name).finish(journey, said)
    secret, opened = await _opened(request, state, identity, {"by": "oidc", "provider": name})
    answer = RedirectResponse(return_to, 303, _NO_STORE)
    set_cookie(answer, state.settings, JOURNEY_COOKIE, "", 0, _JOURNEY_PATH)
    _give(answer, state, secret, opened)
    return answer


async def _shown_key(request: Request, state: AppState) -> str:
    """The key of the header, or else of the body, which only a page of this gateway may send."""
    authorization, api_key = request.headers.get("authorization", ""), request.headers.get("x-api-key", "")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            raise BodyTooLarge(f"the body is larger than {_MAX_BODY_BYTES:,} bytes; it holds a key and nothing else")
    if authorization or api_key:
        if body not in (b"", b"{}"):
            _key_of(request.headers, body)
        return shown_text(authorization, api_key)
    if not body:
        return shown_text("", "")
    check_origin(request.headers, state.settings)
    return _key_of(request.headers, body)


def _key_of(headers: Headers, body: bytes) -> str:
    """Raises: RequestInvalid: the body holds something else."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestInvalid("send the key as JSON, with the header `Content-Type: application/json`")
    try:
        return SignIn.model_validate_json(body).key
    except ValidationError:  # whose text would repeat the key
        raise RequestInvalid('the body is not {"key": "..."}', "key") from None


async def _opened(request: Request, state: AppState, identity: Identity, how: dict[str, str]) -> tuple[str, Identity]:
    """Open a session in place of the one that the browser had. Returns: its secret, and who it is."""
    record, principal = record_of(request), identity.principal
    record.tenant_id, record.key_id = principal.tenant_id, principal.key_id
    secret = await state.directory.sessions.open(
        Actor(principal, record.request_id), how, cookie_of(request.headers, COOKIE)
    )
    return secret, await state.identities.session(secret)


def _give(answer: Response, state: AppState, secret: str, identity: Identity) -> None:
    """Set the session's cookie, for as long as the session lives."""
    assert identity.session is not None
    left_s = max(1, int(identity.session.expires_at - state.clock.time()))
    set_cookie(answer, state.settings, COOKIE, secret, left_s)


def _shown(identity: Identity, secret: str | None) -> dict[str, Any]:
    principal, session = identity.principal, identity.session
    return {
        "object": "session",
        "name": None if session is None else session.name,
        "tenant": principal.tenant_id,
        "user": principal.user_id,
        "team": principal.team_id,
        "key": principal.key_id,
        "role": principal.role.value,
        "scopes": None if principal.scopes is None else sorted(principal.scopes),
        "csrf_token": None if session is None or secret is None else csrf_token_of(secret),
        "expires_at": None if session is None else int(session.expires_at),
    }
