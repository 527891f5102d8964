"""What the gateway itself asks of one identity provider: where its endpoints are, and an ID token for a code.

Source: OpenID Connect Discovery 1.0, section 4; RFC 6749, sections 2.3.1, 4.1.3 and 5.2.
"""

import asyncio
import base64
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import aiohttp

from api.errors import LoginRefused, ProviderFailed
from api.login.provider import Provider
from core.clock import Clock
from core.dependency import Dependency, DependencyError
from monitoring.logs import logger

_log = logger(__name__)

_OLD_S = 3600.0  # seconds after which a provider's endpoints are read anew
_MAX_BYTES = 256 * 1024
_WORD = re.compile(r"[a-z_]{1,60}")


class _Malformed(Exception):
    """The provider answered, but not what OpenID Connect says."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a provider takes users and codes.

    Attributes:
        basic: the secret goes in the header, else in the form.
    """

    authorization: str
    token: str
    basic: bool = True


class ProviderClient:
    """Speaks with one provider, for one worker."""

    def __init__(self, provider: Provider, session: aiohttp.ClientSession, deadline_s: float, clock: Clock) -> None:
        self._provider = provider
        self._session = session
        self._clock = clock
        outages = (OSError, aiohttp.ClientError, _Malformed)
        self._dependency = Dependency(f"identity provider {provider.name}", deadline_s, outages, clock=clock)
        self._endpoints: Endpoints | None = None
        self._read_s = 0.0
        self._reading = asyncio.Lock()

    async def endpoints(self) -> Endpoints:
        """The provider's endpoints; those read last stay while it is away. Raises: DependencyError."""
        provider = self._provider
        if provider.authorization_endpoint is not None and provider.token_endpoint is not None:
            return Endpoints(provider.authorization_endpoint, provider.token_endpoint)
        async with self._reading:
            if self._endpoints is None or self._clock.monotonic() - self._read_s > _OLD_S:
                try:
                    self._endpoints = await self._dependency.call(self._discover)
                    self._read_s = self._clock.monotonic()
                except DependencyError as error:
                    if self._endpoints is None:
                        raise
                    _log.warning("endpoints could not be read anew; the last ones stay", reason=str(error))
            return self._endpoints

    async def _discover(self) -> Endpoints:
        issuer = self._provider.issuer
        address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        async with self._session.get(address, allow_redirects=False) as answer:
            found = await _json(answer)
        if answer.status != 200 or found.get("issuer") != issuer:
            raise _Malformed(f"status {answer.status}, issuer {found.get('issuer')!r}")
        ways = found.get("token_endpoint_auth_methods_supported")
        return Endpoints(
            _address(found.get("authorization_endpoint")),
            _address(found.get("token_endpoint")),
            basic=not isinstance(ways, list) or "client_secret_basic" in ways or "client_secret_post" not in ways,
        )

    async def id_token(self, code: str, verifier: str, redirect_uri: str) -> str:
        """The ID token for a code.

        Raises:
            LoginRefused: the provider does not know the code, or no longer.
            ProviderFailed: it does not know this gateway.
            DependencyError: it is silent.
        """
        endpoints, provider = await self.endpoints(), self._provider
        secret = None if provider.client_secret is None else provider.client_secret.get_secret_value()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"accept": "application/json"}
        if secret is not None and endpoints.basic:
            pair = f"{quote_plus(provider.client_id)}:{quote_plus(secret)}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": provider.client_id} | ({} if secret is None else {"client_secret": secret})

        async def post() -> tuple[int, dict[str, Any]]:
            async with self._session.post(endpoints.token, data=form, headers=headers, allow_redirects=False) as answer:
                if answer.status >= 500 or answer.status == 429:
                    raise _Malformed(f"status {answer.status}")
                return answer.status, await (_json(answer) if answer.status == 200 else _problem(answer))

        status, found = await self._dependency.call(post)
        token = found.get("id_token")
        if status == 200 and isinstance(token, str):
            return token
        problem = "no ID token" if status == 200 else word_of(found.get("error"))
        if problem == "invalid_grant":
            raise LoginRefused(
                f"the identity provider {provider.name} refuses the code: it is used, foreign or too old; sign in again"
            )
        raise ProviderFailed(
            f"the identity provider {provider.name} refuses this gateway ({problem}); "
            "compare its client with STOKER_OIDC_PROVIDERS and STOKER_PUBLIC_URL"
        )


def word_of(error: object) -> str:
    """An error's code as OAuth has them, and nothing else that somebody may have put there."""
    return error if isinstance(error, str) and _WORD.fullmatch(error) else "no reason given"


async def _json(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    body = b""
    async for part in answer.content.iter_chunked(65_536):
        body += part
        if len(body) > _MAX_BYTES:
            raise _Malformed("too large")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Malformed("no JSON") from error
    if not isinstance(found, dict):
        raise _Malformed("no JSON object")
    return found


async def _problem(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """What a refusal says; whoever sends a foreign code can cause one, so that a strange one is no outage."""
    try:
        return await _json(answer)
    except _Malformed:
        return {}


def _address(value: object) -> str:
    if not isinstance(value, str) or not value.startswith(("https://", "http://")):
        raise _Malformed("an endpoint is no address")
    return value
