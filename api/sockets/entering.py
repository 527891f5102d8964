"""Who is behind a socket: by the key in its first message, or by the session of a page that may use it.

A browser sends the session's cookie whatever page opens the socket, and no page can add the token that other requests
carry. So the cookie counts only where the browser names an origin that may use the session.
"""

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers

from api.errors import ApiError, BodyTooLarge, CsrfFailed, NotAuthenticated
from api.identities import Identities, Identity
from api.login.guard import COOKIE, check_origin, cookie_of
from api.roles import require
from api.settings import ApiSettings
from api.sockets.words import Auth, read_word
from core.dependency import DependencyError

PATH = "/v1/query/ws"
MOST_UNKNOWN = 16 * 1024  # characters that somebody unknown may say: room for any token

Who = Callable[[], Awaitable[Identity]]  # asked anew for each question, as for each request
_FIRST = 'nobody has said who is there: the first message is {"type": "auth", "key": KEY}'


async def by_cookie(
    identities: Identities, headers: Headers, settings: ApiSettings
) -> Who | ApiError | DependencyError:
    """Who is there by the session's cookie, or why nobody is."""
    try:
        secret = cookie_of(headers, COOKIE)
        if secret is None:
            return NotAuthenticated(_FIRST)
        if "origin" not in headers:
            raise CsrfFailed(f"a session counts for pages only, and these name their origin; {_FIRST}")
        check_origin(headers, settings)

        async def who() -> Identity:
            return identities.cached_session(secret) or await identities.session(secret)

        await checked(who)
    except (ApiError, DependencyError) as error:
        return error
    return who


async def by_key(identities: Identities, text: str, otherwise: ApiError | DependencyError) -> Who:
    """Who is there by the first message.

    Args:
        otherwise: why nobody is there by cookie.

    Raises: NotAuthenticated, NotAllowed; RequestInvalid, BodyTooLarge: it is no message; DependencyError.
    """
    if len(text) > MOST_UNKNOWN:
        raise BodyTooLarge(f"a message of more than {MOST_UNKNOWN:,} characters is read of known callers only")
    word = read_word(text)
    if not isinstance(word, Auth):
        raise otherwise
    key = word.key

    async def who() -> Identity:
        return identities.cached(key) or await identities.identify(key)

    await checked(who)
    return who


async def checked(who: Who) -> Identity:
    """The identity as it is now. Raises: as `Identities.identify`; NotAllowed, ScopeNotAllowed."""
    identity = await who()
    require(identity.principal, "GET", PATH)
    return identity
