"""Who calls a route that takes a body, asked before the body is read."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import ApiError
from api.identity import SCOPE_KEY, identify
from api.middleware import answer
from api.roles import is_public
from core.dependency import DependencyError

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class IdentityMiddleware:
    """Asks who is there before a body is read: parsing is work that only known callers may cause."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in _WITH_BODY and not is_public(scope["method"], scope["path"]):
            headers = Headers(scope=scope)
            state = scope["app"].state.stoker
            try:
                scope[SCOPE_KEY] = await identify(
                    state, headers.get("authorization", ""), headers.get("x-api-key", ""), scope
                )
            except (ApiError, DependencyError) as error:
                await answer(error, scope, receive, send)
                return
        await self._app(scope, receive, send)
