"""Where the command line speaks: results on standard output, progress and complaints on standard error."""

import sys
import time

from rich.console import Console

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False, soft_wrap=True)


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
