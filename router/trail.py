"""What two prompts share: their text as a chain of blocks, each hashed with all that stands before it.

Equal beginnings make equal chains, so the first difference is the first block that differs. The text is not what the
engine's chat template makes of it, but begins to differ in the same place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from router.call import Call

BLOCK_BYTES = 256  # about 64 tokens; engines keep blocks of 16 to 128
_MOST_BYTES = 64 * 1024  # of a prompt that are looked at


@dataclass(frozen=True, slots=True)
class Trail:
    """Of one call.

    Attributes:
        blocks: a hash for each whole block; they hold within this process only.
        key: names the conversation, alike in every worker: a digest of all up to the user's first message, or of
            `prompt_cache_key`.
    """

    blocks: tuple[int, ...]
    key: bytes


def trail_of(call: Call, salt: str = "") -> Trail:
    """The trail of a call's prompt; one that is no text has no blocks.

    Args:
        salt: under which alone engines find the prompt again: under two salts nothing is shared.
    """
    body, text, begin = call.body, bytearray(), _MOST_BYTES
    for role, piece in _pieces(body):
        text += piece
        if role == "user":
            begin = min(begin, len(text))
        if len(text) >= _MOST_BYTES:
            break
    blocks, chain = [], hash((call.group, body.get("model"), salt))
    for at in range(0, min(len(text), _MOST_BYTES) - BLOCK_BYTES + 1, BLOCK_BYTES):
        chain = hash((chain, bytes(text[at : at + BLOCK_BYTES])))
        blocks.append(chain)
    named = body.get("prompt_cache_key")
    first = named.encode(errors="replace") if isinstance(named, str) and named else bytes(text[:begin])
    return Trail(tuple(blocks), blake2b(first, digest_size=16, key=salt.encode()).digest())


def rank_of(key: bytes, name: str) -> bytes:
    """The weight of a deployment for a key; the highest one has it (rendezvous hashing).

    Source: Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996.
    """
    return blake2b(key, key=name.encode()[:64], digest_size=8).digest()


def _pieces(body: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The prompt in the order in which templates show it, tools, system, messages; each part with whose it is."""
    for name in ("tools", "functions", "system"):
        if body.get(name):
            yield name, _written(body[name])
    messages = body.get("messages")
    if isinstance(messages, list):
        for message in messages:
            if isinstance(message, dict):
                role = str(message.get("role"))
                yield (
                    role,
                    role.encode(errors="replace") + _written(message.get("content") or message.get("tool_calls")),
                )
    prompt = body.get("prompt")
    if isinstance(prompt, str) or (isinstance(prompt, list) and prompt):
        yield "user", _written(prompt)


def _written(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    return orjson.dumps(value)
