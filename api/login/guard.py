"""The session's cookie, and what keeps other sites' pages from using it.

A browser sends the cookie whatever page asks. So a request that changes something must also carry the token that only
the console's own page could read, and come from an origin that is known.

Source: OWASP, Cross-Site Request Forgery Prevention Cheat Sheet.
"""

import hmac

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from api.errors import CsrfFailed, NotAuthenticated
from api.identities import Session
from api.login.secret import sha256_of
from api.settings import ApiSettings

COOKIE = "stoker_session"
CSRF_HEADER = "x-csrf-token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def cookie_of(headers: Headers, name: str) -> str | None:
    """The value of a cookie.

    Raises: NotAuthenticated: it came twice. Another site of the domain may have planted one of them.
    """
    pairs = (pair.strip().partition("=") for line in headers.getlist("cookie") for pair in line.split(";"))
    values = [value for found, _, value in pairs if found == name]
    if len(values) > 1:
        raise NotAuthenticated(f"the cookie {name} came more than once; delete this site's cookies and sign in again")
    return values[0] if values else None


def set_cookie(
    response: Response, settings: ApiSettings, name: str, value: str, max_age_s: int, path: str = "/"
) -> None:
    """Give the browser a cookie that pages cannot read; an empty value takes it away."""
    response.set_cookie(
        name,
        value,
        max_age=max_age_s,
        path=path,
        secure=(settings.public_url or "").startswith("https:"),
        httponly=True,
        samesite="lax",
    )


def check_csrf(session: Session, scope: Scope, settings: ApiSettings) -> None:
    """Let through what the session's own page sent, or what changes nothing. Raises: CsrfFailed."""
    if scope["method"] in _SAFE_METHODS:
        return
    headers = Headers(scope=scope)
    if not hmac.compare_digest(sha256_of(headers.get(CSRF_HEADER, "")), session.csrf_sha256):
        raise CsrfFailed("a request by cookie needs the header `X-CSRF-Token`: the csrf_token of GET /v1/session")
    check_origin(headers, settings)


def check_origin(headers: Headers, settings: ApiSettings) -> None:
    """Let through a page of this gateway, or of an origin that the settings allow. Raises: CsrfFailed."""
    for origin in headers.getlist("origin"):
        if origin not in settings.cors_origins and not _is_own(origin, headers.get("host", ""), settings):
            raise CsrfFailed(
                "this page's origin may not use the session: open the console at STOKER_PUBLIC_URL, "
                "or add the origin to STOKER_CORS_ORIGINS"
            )


def _is_own(origin: str, host: str, settings: ApiSettings) -> bool:
    if settings.public_url is not None:
        return origin == settings.public_url
    return host != "" and origin.partition("://")[2] == host
