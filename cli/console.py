"""Where the command line speaks: results on standard output, progress and complaints on standard error."""

import os
import re
import sys
import time
from typing import Any, NoReturn

from rich.console import Console
from rich.errors import MarkupError
from rich.text import Text

_TAG = re.compile(r"(?<!\\)\[([a-z#/@][^\[]*?)\]")  # what rich takes for markup
_OWN = frozenset(
    {"/"} | {f"{slash}{name}" for slash in ("", "/") for name in ("red", "yellow", "green", "dim", "bold")}
)
_COMMANDS = {sign: "�" for sign in (*range(32), *range(127, 160)) if chr(sign) not in "\n\t"}  # of a terminal


class _Console(Console):
    """Says what others wrote as it stands: its brackets, colons and control signs mean nothing to the terminal."""

    def render_str(self, text: str, **how: Any) -> Text:
        text = text.translate(_COMMANDS)
        if how.get("markup") is False:
            return super().render_str(text, **how)
        try:
            return super().render_str(_TAG.sub(lambda tag: tag[0] if tag[1] in _OWN else f"\\{tag[0]}", text), **how)
        except MarkupError:  # it closes a colour of ours
            return super().render_str(text, **{**how, "markup": False})

    def on_broken_pipe(self) -> NoReturn:
        self.quiet = True
        leave_unheard()


def leave_unheard() -> NoReturn:
    """End, since whoever read the output has left, as `head` does; Python must not try to write the rest."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


out = _Console(highlight=False, soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else 160)
err = _Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


class Steps:
    """Numbers long steps by time: each line carries the seconds since the start."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start_s

    def say(self, text: str) -> None:
        err.print(f"[dim]{self.elapsed_s:6.1f} s[/dim]  {text}")


def short_time(seconds: float) -> str:
    """Such as `42 s`, `3 min 5 s`, `2 h 1 min`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def short_bytes(count: float) -> str:
    """Such as `512 MB`, `1.3 GB`."""
    if count < 1e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB"
