"""The public keys of one issuer, fetched from its JWKS address.

Source: RFC 7517, section 5.
"""

import asyncio
import json
from typing import Any

import aiohttp
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from core.clock import Clock
from core.dependency import Dependency, DependencyError, DependencyUnavailable
from monitoring.logs import logger

_log = logger(__name__)

_OLD_S = 300.0  # seconds after which the keys are fetched anew, so that one taken away ends
_APART_S = 10.0  # seconds between two fetches at least, whatever tokens claim
_MAX_BYTES = 512 * 1024
_FORMS = {"RS256": {"kty": "RSA"}, "ES256": {"kty": "EC", "crv": "P-256"}}
_RSA_BITS = 2048


class _Malformed(Exception):
    """What came is no set of keys."""


class KeySet:
    """Keys by `kid`. While the issuer is away, those that were fetched last stay."""

    def __init__(self, url: str, session: aiohttp.ClientSession, deadline_s: float, clock: Clock) -> None:
        self._url = url
        self._session = session
        self._clock = clock
        self._dependency = Dependency("jwks", deadline_s, (OSError, aiohttp.ClientError, _Malformed), clock=clock)
        self._keys: list[dict[str, Any]] | None = None
        self._fetched_s = 0.0
        self._tried_s: float | None = None
        self._fetching = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    async def key(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key for a token's `kid`, or the only one of the algorithm where a token names none.

        Raises: DependencyError: no keys were ever had, and the issuer is away.
        """
        if self._keys is None:
            await self._fetch()
        elif self._clock.monotonic() - self._fetched_s > _OLD_S and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renew())
        found = self._find(kid, algorithm)
        if found is None and self._may_try():
            await self._renew()
            found = self._find(kid, algorithm)
        return found

    async def aclose(self) -> None:
        """End a fetch in the background."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait({self._renewal})

    def _find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        fitting = [key for key in self._keys or () if _fits(key, algorithm) and kid in (None, key.get("kid"))]
        if len(fitting) != 1:
            return None
        try:
            key = PyJWK(fitting[0], algorithm)
        except PyJWTError:
            return None
        return key if algorithm != "RS256" or key.key.key_size >= _RSA_BITS else None

    def _may_try(self) -> bool:
        return self._tried_s is None or self._clock.monotonic() - self._tried_s >= _APART_S

    async def _renew(self) -> None:
        try:
            await self._fetch()
        except DependencyError as error:
            _log.warning("an issuer's keys could not be fetched; the last ones stay", url=self._url, reason=str(error))

    async def _fetch(self) -> None:
        """Fetch the keys, unless somebody did a moment ago. Raises: DependencyError."""
        async with self._fetching:
            if not self._may_try():
                if self._keys is None:
                    raise DependencyUnavailable("jwks", "the keys of the token's issuer cannot be had")
                return
            self._tried_s = self._clock.monotonic()
            self._keys = await self._dependency.call(self._get)
            self._fetched_s = self._clock.monotonic()

    async def _get(self) -> list[dict[str, Any]]:
        body = b""
        async with self._session.get(self._url, allow_redirects=False) as answer:
            if answer.status != 200:
                raise _Malformed(f"status {answer.status}")
            async for part in answer.content.iter_chunked(65_536):
                body += part
                if len(body) > _MAX_BYTES:
                    raise _Malformed("too large")
        try:
            keys = json.loads(body)["keys"]
            return [key for key in keys if isinstance(key, dict)]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _Malformed("no JSON with a list of keys") from error


def _fits(key: dict[str, Any], algorithm: str) -> bool:
    """Whether a key is meant for signatures of this algorithm."""
    return (
        all(key.get(field) == value for field, value in _FORMS[algorithm].items())
        and key.get("alg") in (None, algorithm)
        and key.get("use") in (None, "sig")
    )
