"""OpenID Connect: the authorization code flow with PKCE, state and nonce.

What a sign-in must remember until its user comes back is one random seed in the browser's own cookie: state, nonce and
verifier follow from it. So any worker may take the callback, and none keeps anything.

Source: OpenID Connect Core 1.0, section 3.1; RFC 7636 (PKCE); RFC 9700 (best current practice); RFC 9207 (`iss`).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

import aiohttp

from api.errors import LoginRefused, NotAuthenticated, ProviderNotFound, RequestInvalid
from api.identities import Identities, Identity
from api.jwt import TokenVerifier
from api.login.client import ProviderClient, word_of
from api.login.provider import Provider
from api.login.secret import has_secret_form, new_secret
from core.clock import Clock

_LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]{0,2000}")  # printable ASCII: browsers drop tabs and turn \ into /


@dataclass(frozen=True, slots=True)
class Journey:
    """One sign-in, from its begin to the callback; all of it stands in the browser's cookie."""

    seed: str
    return_to: str

    @property
    def cookie(self) -> str:
        return f"{self.seed}.{base64.urlsafe_b64encode(self.return_to.encode()).decode().rstrip('=')}"

    @classmethod
    def of_cookie(cls, cookie: str) -> "Journey | None":
        """The sign-in that a cookie tells of; None where it is not of our making."""
        seed, _, rest = cookie.partition(".")
        try:
            return_to = base64.urlsafe_b64decode(rest + "=" * (-len(rest) % 4)).decode()
        except ValueError:
            return None
        return cls(seed, return_to) if has_secret_form(seed) and is_local_path(return_to) else None

    def derived(self, what: str, provider: str) -> str:
        """State, nonce or verifier: of this sign-in at this provider, and telling nothing of each other."""
        return _base64(hmac.digest(self.seed.encode(), f"{what} {provider}".encode(), hashlib.sha256))


class Login:
    """Signing in at one provider."""

    def __init__(
        self,
        provider: Provider,
        public_url: str,
        client: ProviderClient,
        verifier: TokenVerifier,
        identities: Identities,
    ) -> None:
        self._provider = provider
        self._redirect_uri = f"{public_url}/v1/session/oidc/{provider.name}/callback"
        self._client = client
        self._verifier = verifier
        self._identities = identities

    async def begin(self, return_to: str) -> tuple[str, Journey]:
        """Begin a sign-in.

        Returns: the provider's address to which the browser goes, and what its cookie keeps meanwhile.
        Raises: RequestInvalid: `return_to` leads elsewhere; DependencyError: the provider is silent.
        """
        if not is_local_path(return_to):
            raise RequestInvalid("return_to must be a path of this gateway, such as /", "return_to")
        name, journey = self._provider.name, Journey(new_secret(), return_to)
        challenge = _base64(hashlib.sha256(journey.derived("verifier", name).encode()).digest())
        query = {
            "response_type": "code",
            "client_id": self._provider.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self._provider.scopes),
            "state": journey.derived("state", name),
            "nonce": journey.derived("nonce", name),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = (await self._client.endpoints()).authorization
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}", journey

    async def finish(self, cookie: str | None, said: Mapping[str, str]) -> tuple[Identity, str]:
        """Take the provider's callback.

        Args:
            said: the callback's parameters.

        Returns: the user whom the verified ID token names, made on first sight, and the path to go on to.
        Raises:
            LoginRefused: the callback is of no sign-in of this browser, or the provider let nobody in.
            ProviderFailed: it refuses this gateway.
            DependencyError: it is silent, or SQL is.
        """
        name = self._provider.name
        journey = None if cookie is None else Journey.of_cookie(cookie)
        state = said.get("state", "").encode()
        if journey is None or not hmac.compare_digest(journey.derived("state", name).encode(), state):
            raise LoginRefused("this sign-in was not begun in this browser, or is over; sign in again")
        if said.get("iss", self._provider.issuer) != self._provider.issuer:
            raise LoginRefused("another identity provider answered than was asked; sign in again")
        if "error" in said or not said.get("code"):
            raise LoginRefused(
                f"the identity provider {name} let nobody in ({word_of(said.get('error'))}); sign in again"
            )
        token = await self._client.id_token(said["code"], journey.derived("verifier", name), self._redirect_uri)
        try:
            claims = await self._verifier.verify_id_token(
                token, self._provider.issuer, self._provider.client_id, journey.derived("nonce", name)
            )
            return await self._identities.of_claims(claims), journey.return_to
        except NotAuthenticated as error:
            raise LoginRefused(f"the identity provider {name} gave no ID token that counts here: {error}") from error


class Oidc:
    """The ways to sign in, by the providers' names; `open_oidc` makes it."""

    def __init__(self, logins: Mapping[str, Login]) -> None:
        self._logins = logins

    @property
    def names(self) -> Sequence[str]:
        return list(self._logins)

    def login(self, name: str) -> Login:
        """Raises: ProviderNotFound."""
        if name not in self._logins:
            raise ProviderNotFound(f"there is no identity provider {name}; GET /v1/session/oidc lists them")
        return self._logins[name]


@asynccontextmanager
async def open_oidc(
    providers: Sequence[Provider],
    public_url: str,
    verifier: TokenVerifier,
    identities: Identities,
    *,
    deadline_s: float,
    clock: Clock,
) -> AsyncIterator[Oidc]:
    """Open the connections to the providers; nothing is asked before a user comes."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Oidc(
            {
                one.name: Login(one, public_url, ProviderClient(one, session, deadline_s, clock), verifier, identities)
                for one in providers
            }
        )


def is_local_path(text: str) -> bool:
    """Whether a browser that is sent there stays at this gateway."""
    return _LOCAL_PATH.fullmatch(text) is not None


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
