"""Pictures, sounds and films in a request come with it, not by address.

Whoever computes the answer fetches an address that a caller names: vLLM in the house's own network, LiteLLM in this
very process. So an address leads to a host that the operator has opened, and to no other; what is opened may lead on by
redirects. A tensor is no medium: engines unpack it with what may run it.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from router.errors import MediaRefused

_READ = ("messages", "documents", "query")  # the fields that hold parts
_ADDRESSES = frozenset({"image_url", "video_url", "audio_url", "file_url", "url"})
_NAMED_BY_CALLERS = frozenset({"input", "text"})  # arguments of tools, and texts: an address in them is only told
# Nothing that one reader takes for a host and another for a path or a user.
_PLAIN = re.compile(r"https?://(?P<host>[a-z0-9.-]{1,253})(?::[0-9]{1,5})?(?:[/?#][!-\[\]-~]*)?", re.IGNORECASE)
_DEEPEST = 8


def check_media(body: Mapping[str, Any], hosts: Collection[str]) -> None:
    """Look at every part of a request.

    Args:
        hosts: names that are opened, in lower case.

    Raises: MediaRefused.
    """
    for field in _READ:
        value = body.get(field)
        if isinstance(value, list):
            for one in value:
                is_message = field == "messages" and isinstance(one, dict)
                _look(one.get("content") if is_message else one, field, hosts, 0)
        elif isinstance(value, dict):
            _look(value, field, hosts, 0)


def _look(value: object, param: str, hosts: Collection[str], depth: int) -> None:
    if isinstance(value, str) or depth > _DEEPEST:
        return
    if isinstance(value, list):
        for one in value:
            _look(one, param, hosts, depth + 1)
    elif isinstance(value, dict):
        for name, inside in value.items():
            if name.endswith("_embeds") and inside is not None:
                raise MediaRefused(f"{name} is not taken: send the medium itself, as a data: URL", param)
            if name in _ADDRESSES and isinstance(inside, str):
                _check(inside, name, param, hosts)
            elif name not in _NAMED_BY_CALLERS:
                _look(inside, param, hosts, depth + 1)


def _check(address: str, name: str, param: str, hosts: Collection[str]) -> None:
    if address[:5].lower() == "data:":
        return
    found = _PLAIN.fullmatch(address)
    if found is None or found["host"].lower() not in hosts:
        raise MediaRefused(
            f"{name} is a data: URL here, with the medium in it; `media_hosts` of stoker.yaml opens hosts instead",
            param,
        )
