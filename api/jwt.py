"""JSON Web Tokens: verified against the issuers that the settings name, not by what a token says of itself.

Source: RFC 8725, JSON Web Token best current practices.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

import aiohttp
import jwt

from api.errors import NotAuthenticated
from api.issuers import Issuer, claim
from api.jwks import KeySet
from api.roles import RANK
from core.clock import Clock
from core.principal import Role

_MAX_CHARACTERS = 16_384
_MAX_GROUPS = 500
_LAST_SECOND = 2**53  # later ones are no exact floats


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says of its user.

    Attributes:
        external_id: `ISSUER|SUBJECT`.
        tenant: id or name.
        role, groups: None where the issuer does not say them.
        expires_at: seconds since the epoch.
    """

    external_id: str
    tenant: str
    name: str
    role: Role | None
    default_role: Role
    groups: frozenset[str] | None
    expires_at: float


class TokenVerifier:
    """Verifies tokens; `open_verifier` makes one."""

    def __init__(self, issuers: Sequence[Issuer], keys: dict[str, KeySet], leeway_s: float) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._keys = keys
        self._leeway_s = leeway_s

    async def verify(self, token: str) -> Claims:
        """Read a token's claims.

        Raises:
            NotAuthenticated: it is malformed, too long, expired, of another issuer or audience, or wrongly signed.
            DependencyError: the keys of its issuer cannot be had.
        """
        return _read(*await self._verified(token))

    async def verify_id_token(self, token: str, issuer: str, client_id: str, nonce: str) -> Claims:
        """Read the claims of an ID token, which was made for one client and one sign-in.

        Raises: as `verify`.
        Source: OpenID Connect Core 1.0, section 3.1.3.7.
        """
        found, claims = await self._verified(token, client_id)
        if found.issuer != issuer:
            raise NotAuthenticated("the token is refused: another issuer made it than was asked")
        parties = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims.get("azp", client_id if len(parties) == 1 else None) != client_id:
            raise NotAuthenticated("the token is refused: it was made for another client")
        if not compare_digest(str(claims.get("nonce", "")).encode("utf-8", "replace"), nonce.encode()):
            raise NotAuthenticated("the token is refused: it was made for another sign-in")
        return _read(found, claims)

    async def _verified(self, token: str, audience: str | None = None) -> tuple[Issuer, dict[str, Any]]:
        """The token's issuer, and its claims, made for one of the issuer's audiences or for `audience` alone."""
        if len(token) > _MAX_CHARACTERS:
            raise NotAuthenticated(f"the token is longer than {_MAX_CHARACTERS:,} characters")
        try:
            header = jwt.get_unverified_header(token)
            issuer = self._issuer(jwt.decode(token, options={"verify_signature": False}))
            key = await self._key(issuer, header)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=issuer.algorithms,
                audience=issuer.audience if audience is None else audience,
                issuer=issuer.issuer,
                leeway=self._leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise NotAuthenticated(f"the token is refused: {_reason(error)}") from error
        return issuer, claims

    def _issuer(self, unverified: dict[str, Any]) -> Issuer:
        """The issuer that a token claims; only whose keys are tried hangs on it."""
        issuer = self._issuers.get(str(unverified.get("iss")))
        if issuer is None:
            raise jwt.InvalidIssuerError("its issuer is not one that this gateway knows")
        return issuer

    async def _key(self, issuer: Issuer, header: dict[str, Any]) -> Any:
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in issuer.algorithms:
            raise jwt.InvalidAlgorithmError("its algorithm is not the issuer's")
        if issuer.secret is not None:
            return issuer.secret.get_secret_value()
        key = await self._keys[issuer.issuer].key(kid, algorithm)
        if key is None:
            raise jwt.InvalidKeyError("its issuer has no such key")
        return key


@asynccontextmanager
async def open_verifier(
    issuers: Sequence[Issuer], clock: Clock, *, leeway_s: float, deadline_s: float
) -> AsyncIterator[TokenVerifier]:
    """Open the connections to the issuers' keys; nothing is fetched before a token comes."""
    async with aiohttp.ClientSession() as session:
        keys = {
            issuer.issuer: KeySet(issuer.jwks_url, session, deadline_s, clock)
            for issuer in issuers
            if issuer.jwks_url is not None
        }
        try:
            yield TokenVerifier(issuers, keys, leeway_s)
        finally:
            for key_set in keys.values():
                await key_set.aclose()


def is_token(text: str) -> bool:
    """Whether a text has a JWT's form: three parts, the first of them JSON in base64."""
    return text.startswith("ey") and text.count(".") == 2


def _read(issuer: Issuer, claims: dict[str, Any]) -> Claims:
    subject = claim(claims, issuer.user_claim)
    if not isinstance(subject, str) or not 1 <= len(subject) <= 190:
        raise NotAuthenticated(f"the token's claim {issuer.user_claim} names no user")
    name = claim(claims, issuer.name_claim)
    return Claims(
        external_id=f"{issuer.issuer}|{subject}",
        tenant=_tenant(issuer, claims),
        name=(name if isinstance(name, str) and name else subject)[:200],
        role=None if issuer.role_claim is None else _role(issuer, claim(claims, issuer.role_claim)),
        default_role=issuer.default_role,
        groups=None if issuer.groups_claim is None else frozenset(_texts(claim(claims, issuer.groups_claim))),
        expires_at=float(min(int(claims["exp"]), _LAST_SECOND)),
    )


def _tenant(issuer: Issuer, claims: dict[str, Any]) -> str:
    if issuer.tenant_claim is None:
        return str(issuer.tenant)
    value = claim(claims, issuer.tenant_claim)
    found = value if issuer.tenants is None else issuer.tenants.get(str(value))
    if not isinstance(found, str):
        raise NotAuthenticated(f"the token's claim {issuer.tenant_claim} names no tenant")
    return found


def _role(issuer: Issuer, value: object) -> Role:
    found = [issuer.roles[text] for text in _texts(value) if text in issuer.roles]
    return max(found, key=RANK.__getitem__, default=issuer.default_role)


def _texts(value: object) -> list[str]:
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [text for text in values if isinstance(text, str)][:_MAX_GROUPS]


def _reason(error: Exception) -> str:
    """What may be said of it: the library's words, but none that repeat what the token holds."""
    if isinstance(error, jwt.DecodeError) and not isinstance(error, jwt.InvalidSignatureError):
        return "it is malformed"
    return str(error) if isinstance(error, jwt.PyJWTError) else "it is malformed"
