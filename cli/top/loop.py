"""Frame after frame, until somebody has seen enough."""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cli.console import out
from cli.errors import CliError
from cli.settings import CliSettings
from cli.top.frame import Frame, Look, frame_of
from cli.top.sources import Sources
from cli.top.table import shown

_WINDOW_S = 60.0  # over which TTFT is looked at
_WIDTH = 160  # columns where no terminal says


def show(settings: CliSettings, interval_s: float, *, once: bool, as_json: bool = False) -> None:
    """Show frames on the terminal, or print them where there is none, until Ctrl-C.

    Args:
        once: print one frame as plain text, after one interval.
        as_json: print each frame as a line of JSON.

    Raises: CliError: there is no stack, the key is refused, or, with `once`, the gateway went away.
    """
    with Sources(settings) as sources:
        if once or as_json or not out.is_terminal:
            for frame in frames(sources.look, interval_s, time.sleep):
                if as_json:
                    print_json(frame, sources.client.url)
                else:
                    print_plain(frame, sources.client.url)
                if once:
                    return
        else:
            _show_live(sources, interval_s)


def frames(look: Callable[[], Look], interval_s: float, wait: Callable[[float], object]) -> Iterator[Frame]:
    """A frame after each interval, for ever. Raises: as `look`."""
    past = deque([look()])
    while True:
        wait(interval_s)
        now = look()
        while len(past) > 1 and past[1].gateway.at_s <= now.gateway.at_s - _WINDOW_S:
            past.popleft()
        yield frame_of(past[0], past[-1], now)
        past.append(now)


def print_plain(frame: Frame, url: str) -> None:
    """Print a frame without colours and controls."""
    Console(file=sys.stdout, color_system=None, highlight=False, soft_wrap=True, width=_WIDTH).print(shown(frame, url))


def print_json(frame: Frame, url: str) -> None:
    """Print a frame as a line of JSON."""
    look = frame.look
    print(  # rich would break the line
        json.dumps(
            {
                "url": url,
                "seconds": frame.seconds,
                "requests_per_second": frame.requests_s,
                "failed_per_second": frame.failed_s,
                "running": frame.running,
                "ingest_waiting": frame.ingest_waiting,
                "ingest_waited_s": frame.ingest_waited_s,
                "spent_usd": None if look.spent_usd is None else look.spent_usd[0],
                "parts": None if look.parts is None else dict(look.parts),
                "models": [asdict(model) for model in frame.models],
                "deployments": [asdict(deployment) for deployment in frame.deployments],
                "notes": list(look.notes),
            }
        ),
        flush=True,
    )


def _show_live(sources: Sources, interval_s: float) -> None:
    url, seen = sources.client.url, False
    first = Text(f"{url}: the first frame comes in {interval_s:g} s; Ctrl-C ends")
    with suppress(KeyboardInterrupt), Live(first, console=out, screen=True, auto_refresh=False) as live:
        live.refresh()
        while True:
            try:
                for frame in frames(sources.look, interval_s, time.sleep):
                    seen = True
                    live.update(shown(frame, url), refresh=True)
            except CliError as error:
                if not seen:
                    raise
                live.update(Text(f"{error.message}\n{error.remedy}", style="red"), refresh=True)
                time.sleep(interval_s)
