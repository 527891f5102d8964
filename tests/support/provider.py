"""A small OpenID provider: discovery, sign-in page without a page, token endpoint with PKCE, public keys."""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlencode

from aiohttp import web

from tests.support.issuer import TestIssuer

CLIENT = "stoker-console"
SECRET = "the client's secret: +/&=%"


@dataclass
class TestProvider(TestIssuer):
    """The running provider; its issuer is `url`.

    Attributes:
        redirect_uri: the only one that the client has registered.
        user: who is at the browser.
        says: changes to the ID token's claims.
        token_answer: what the token endpoint answers instead, status and body.
        silent: accepts connections and never answers.
        keys_away: the public keys cannot be had.
        grants: by code, what was asked for; a code is taken out by its first use.
        asked: the forms that reached the token endpoint.
        discovered: how often the endpoints were asked for.
        metadata: changes to what discovery says.
    """

    __test__ = False

    redirect_uri: str = ""
    user: str = "ada"
    says: dict[str, Any] = field(default_factory=dict)
    token_answer: tuple[int, str] | None = None
    silent: bool = False
    keys_away: bool = False
    grants: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    discovered: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)

    async def discovery(self, _: web.Request) -> web.Response:
        self.discovered += 1
        await self._answer()
        found = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
        }
        return web.json_response(found | self.metadata)

    async def authorize(self, request: web.Request) -> web.Response:
        """The user agrees at once."""
        asked = dict(request.query)
        assert asked["client_id"] == CLIENT
        assert asked["redirect_uri"] == self.redirect_uri
        assert asked["response_type"] == "code"
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.grants[code] = asked
        query = urlencode({"code": code, "state": asked["state"], "iss": self.url})
        raise web.HTTPFound(f"{asked['redirect_uri']}?{query}")

    async def exchange(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        await self._answer()
        if self.token_answer is not None:
            status, text = self.token_answer
            return web.Response(status=status, text=text, content_type="application/json")
        if not _is_client(request, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        grant = self.grants.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            grant is None
            or form.get("redirect_uri") != grant["redirect_uri"]
            or challenge.decode().rstrip("=") != grant["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {"aud": CLIENT, "sub": self.user, "nonce": grant["nonce"], **self.says}
        id_token = self.token(next(iter(self.private)), **claims)
        return web.json_response({"access_token": "x", "token_type": "Bearer", "id_token": id_token})

    async def keys(self, _: web.Request) -> web.Response:
        self.fetches += 1
        return web.Response(status=503) if self.keys_away else web.json_response({"keys": self.published})

    async def _answer(self) -> None:
        if self.silent:
            await asyncio.sleep(3600)
        if self.away:
            raise web.HTTPServiceUnavailable


def _is_client(request: web.Request, form: dict[str, str]) -> bool:
    """Whether the client shows its secret, in the header or in the form."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind == "Basic":
        name, _, secret = base64.b64decode(text).decode().partition(":")
        return (unquote_plus(name), unquote_plus(secret)) == (CLIENT, SECRET)
    return (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)


@asynccontextmanager
async def open_provider(redirect_uri: str) -> AsyncIterator[TestProvider]:
    """Start one with one key on a free port."""
    provider = TestProvider("", redirect_uri=redirect_uri)
    provider.add_key("one")
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.discovery)
    app.router.add_get("/authorize", provider.authorize)
    app.router.add_post("/token", provider.exchange)
    app.router.add_get("/jwks", provider.keys)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()
