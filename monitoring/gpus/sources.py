"""Reads exporters of GPUs and engines again and again, and gives shares and figures of the interval that has passed."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from threading import Lock

from prometheus_client.parser import text_string_to_metric_families

from core.clock import Clock
from monitoring.gpus.engines import Tokens, tokens
from monitoring.gpus.figures import Figures, Prices, figures
from monitoring.gpus.join import Share, join
from monitoring.gpus.placement import Place
from monitoring.gpus.readings import Gpu, read

_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Look:
    """What is known after a look.

    Attributes:
        up: address to whether it answered.
        shares, figures: of the interval; of the first look they lack what an interval is needed for.
    """

    up: Mapping[str, bool]
    shares: Sequence[Share]
    figures: Sequence[Figures]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    at_s: float
    gpus: Sequence[Gpu]
    tokens: Mapping[str, Tokens]


class Sources:
    """Looks when it is asked; safe for several threads.

    Args:
        fetch: gives the text of an address; raises OSError or HTTPException where it does not answer.
        exporters: addresses of dcgm-exporters and of our own readers.
        engines: deployment to the address of its metrics.
        window_s: how long the interval should be at least, so that two who ask don't shorten it for each other; it is
            shorter only until so much time has passed.
    """

    def __init__(
        self,
        fetch: Callable[[str], str],
        exporters: Sequence[str],
        engines: Mapping[str, str],
        places: Sequence[Place],
        *,
        clock: Clock,
        prices: Prices | None = None,
        window_s: float = 60.0,
    ) -> None:
        self._fetch = fetch
        self._exporters = exporters
        self._engines = engines
        self._places = places
        self._clock = clock
        self._prices = prices
        self._window_s = window_s
        self._lock = Lock()
        self._past: deque[_Snapshot] = deque(maxlen=_KEPT)

    def look(self) -> Look:
        """Read everything once; what does not answer is left out, and is not up."""
        with self._lock:
            texts = self._texts()
            now = _Snapshot(self._clock.monotonic(), read(*_there(texts, self._exporters)), self._counted(texts))
            before = self._before(now)
            self._past.append(now)
        grown = {
            name: its
            for name, newest in now.tokens.items()
            if name in before.tokens and (its := newest.since(before.tokens[name])) is not None
        }
        shares = join(before.gpus, now.gpus, self._places, {name: its.generated for name, its in grown.items()})
        seconds = now.at_s - before.at_s
        found = figures(shares, grown, seconds, self._prices) if seconds > 0 else ()
        return Look({address: text is not None for address, text in texts.items()}, shares, found)

    def _before(self, now: _Snapshot) -> _Snapshot:
        """The newest that is old enough, else the oldest; what is older still is forgotten."""
        while len(self._past) > 1 and self._past[1].at_s <= now.at_s - self._window_s:
            self._past.popleft()
        return self._past[0] if self._past else _Snapshot(now.at_s, (), {})

    def _counted(self, texts: Mapping[str, str | None]) -> dict[str, Tokens]:
        counted = {}
        for name, address in self._engines.items():
            text = texts[address]
            its = None if text is None else tokens(text)
            if its is not None:
                counted[name] = its
        return counted

    def _texts(self) -> dict[str, str | None]:
        addresses = list(dict.fromkeys((*self._exporters, *self._engines.values())))
        with ThreadPoolExecutor(max(1, min(16, len(addresses)))) as threads:
            return dict(zip(addresses, threads.map(self._text, addresses), strict=True))

    def _text(self, address: str) -> str | None:
        try:
            text = self._fetch(address)
            for _ in text_string_to_metric_families(text):
                pass  # what is no text of Prometheus's form is no answer
        except (OSError, ValueError, HTTPException):  # the last: what answers there speaks no HTTP
            return None
        return text


def _there(texts: Mapping[str, str | None], addresses: Iterable[str]) -> list[str]:
    return [text for address in addresses if (text := texts[address]) is not None]
