"""Waiting for what happens in other processes."""

import time
from collections.abc import Callable


def until(is_so: Callable[[], object], what: str = "it", seconds: float = 60.0) -> None:
    """Wait until it holds. Raises: AssertionError: it never did."""
    end_s = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end_s, f"{what}: not so after {seconds:g} s"
        time.sleep(0.05)
