"""Signatures of webhooks: HMAC-SHA256 over id, moment and body.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from standardwebhooks import Webhook

from api.errors import SignatureRefused

TOLERANCE_S = 300
ID, MOMENT, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_MOMENT = re.compile(r"[0-9]{1,12}")
_MOST_SIGNATURES = 10
_REMEDY = "sign with the hook's secret as Standard Webhooks says, and check this machine's clock"


@dataclass(frozen=True, slots=True)
class Signed:
    """A message's headers, in a form that can be checked."""

    message_id: str
    at: int
    signatures: tuple[str, ...]


def headers_of(secret: str, message_id: str, at: int, body: str) -> dict[str, str]:
    """The headers of a message that is sent.

    Args:
        at: seconds since the epoch.
    """
    return {ID: message_id, MOMENT: str(at), SIGNATURE: _signature(secret, message_id, at, body)}


def read_headers(headers: Mapping[str, str], now_s: float) -> Signed:
    """Read the headers of a message that came. Raises: SignatureRefused: one is missing or odd, or it is stale."""
    message_id, moment, signature = (headers.get(name, "") for name in (ID, MOMENT, SIGNATURE))
    if not _MESSAGE_ID.fullmatch(message_id) or not _MOMENT.fullmatch(moment) or not signature.isascii():
        raise SignatureRefused(f"{ID}, {MOMENT} or {SIGNATURE} is missing or malformed; {_REMEDY}")
    if abs(now_s - int(moment)) > TOLERANCE_S:
        raise SignatureRefused(f"{MOMENT} is more than {TOLERANCE_S} s away from now; {_REMEDY}")
    return Signed(message_id, int(moment), tuple(signature.split(" ")[:_MOST_SIGNATURES]))


def check(signed: Signed, secret: str, body: bytes) -> None:
    """Let a message pass that the secret's holder signed; compared in constant time. Raises: SignatureRefused."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise SignatureRefused("the body is no UTF-8") from None
    expected = _signature(secret, signed.message_id, signed.at, text).encode()
    matches = [hmac.compare_digest(expected, given.encode()) for given in signed.signatures]
    if True not in matches:
        raise SignatureRefused(f"no signature is right; {_REMEDY}")


def _signature(secret: str, message_id: str, at: int, body: str) -> str:
    return Webhook(secret).sign(message_id, datetime.fromtimestamp(at, UTC), body)
