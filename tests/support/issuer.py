"""A small issuer of tokens with a real JWKS address."""

import base64
import functools
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "stoker"

_turns = itertools.count()


@functools.cache
def _rsa_key(bits: int, number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def _next_rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """One of eight in turn: making one takes 50 ms, and no test needs nine different ones."""
    return _rsa_key(bits, next(_turns) % 8)


@dataclass
class TestIssuer:
    """The running issuer.

    Attributes:
        url: its `iss`; the keys are at `URL/jwks`.
        away: answers 503.
        fetches: requests that reached it.
        published: the set of keys as it stands at the address.
    """

    __test__ = False

    url: str
    private: dict[str, Any] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    away: bool = False
    fetches: int = 0

    def add_key(self, kid: str, algorithm: str = "RS256", bits: int = 2048, **fields: Any) -> None:
        """Make a key and publish it."""
        if algorithm == "ES256":
            key: Any = ec.generate_private_key(ec.SECP256R1())
            jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        else:
            key = _next_rsa_key(bits)
            jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self.private[kid] = key
        self.published.append({**jwk, "kid": kid, "alg": algorithm, "use": "sig", **fields})

    def public_pem(self, kid: str) -> bytes:
        """The public key as an attacker may read it."""
        return bytes(self.private[kid].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims of a good token; a change to None takes the claim away."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600, **changes}
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, kid: str, algorithm: str = "RS256", header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token signed with one of its keys."""
        return jwt.encode(self.claims(**changes), self.private[kid], algorithm, {"kid": kid, **(header or {})})


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """Three parts in base64, with whatever is in them."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@asynccontextmanager
async def open_issuer() -> AsyncIterator[TestIssuer]:
    """Start one on a free port."""
    issuer = TestIssuer("")

    async def jwks(_: web.Request) -> web.Response:
        issuer.fetches += 1
        return web.Response(status=503) if issuer.away else web.json_response({"keys": issuer.published})

    app = web.Application()
    app.router.add_get("/jwks", jwks)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()
