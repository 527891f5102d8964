"""Secrets that lie in files: where `NAME` is not set, `NAME_FILE` names a file whose text it has.

So secrets of compose and Kubernetes are files of one container, and stand in no environment that others can list.
"""

import os
from collections.abc import Mapping
from pathlib import Path

SUFFIX = "_FILE"
_MOST_BYTES = 65_536


class SecretUnread(ValueError):
    """A variable names a file that holds no secret; the message names the remedy."""


def secret(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """What a variable holds, or the file that `NAME_FILE` names, less white space around it; None where neither is set.

    Raises: SecretUnread: both are set, or the file is missing, unreadable, empty, no text, or above 64 KiB.
    """
    value, file = environment.get(name), environment.get(name + SUFFIX)
    if not file:
        return value
    if value:
        raise SecretUnread(f"{name} and {name}{SUFFIX} are both set: unset one of them")
    return _read(name + SUFFIX, Path(file))


def _read(variable: str, file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
        text = data.decode("utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: no text, or a path with a zero byte
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SecretUnread(
            f"{variable}: {file} can't be read ({reason}): name a file that this process may read"
        ) from None
    if not text or len(data) > _MOST_BYTES or "\0" in text:
        raise SecretUnread(f"{variable}: {file} holds no secret: write one line into it")
    return text
