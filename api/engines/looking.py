"""Looks at the metrics of one's own engines, and at the figures of their GPUs."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from core.clock import Clock
from monitoring.counting import Scrape

_PATIENCE_S = 2.0  # whoever looks does not wait longer for one that hangs
_HOLDS_S = 1.0  # those who look within this time see the same
_MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine says of itself; None is what it does not say. `kv_cache_usage` is 0 to 1."""

    deployment: str
    answers: bool
    running: int | None = None
    waiting: int | None = None
    kv_cache_usage: float | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and whose it is; None is what nobody says.

    Attributes:
        deployments, models: that run on it, by their shares.
        active_ratio: 0 to 1, of its busiest part.
    """

    uuid: str
    host: str
    index: str
    deployments: Sequence[str]
    models: Sequence[str]
    power_watts: float | None
    memory_used_bytes: float | None
    memory_free_bytes: float | None
    active_ratio: float | None


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at one moment."""

    engines: Sequence[Engine] = ()
    gpus: Sequence[Gpu] = field(default_factory=tuple)


class Engines:
    """For one worker. An engine is never shown a key, and leads nowhere else.

    Args:
        figures_url: where `stoker_gpu_*` are served; None: nowhere.
    """

    def __init__(self, session: aiohttp.ClientSession, figures_url: str | None, clock: Clock) -> None:
        self._session = session
        self._figures_url = figures_url
        self._clock = clock
        self._looking = asyncio.Lock()
        self._last: tuple[float, Mapping[str, str], Look] | None = None

    async def look(self, engines: Mapping[str, str]) -> Look:
        """Look at engines, given by deployment and address of their metrics; who does not answer says nothing."""
        async with self._looking:
            now = self._clock.monotonic()
            if self._last is not None and self._last[1] == engines and now - self._last[0] < _HOLDS_S:
                return self._last[2]
            addresses = list(dict.fromkeys([*engines.values(), *([self._figures_url] if self._figures_url else [])]))
            found = dict(zip(addresses, await asyncio.gather(*map(self._scrape, addresses)), strict=True))
            figures = found.get(self._figures_url) if self._figures_url else None
            seen = Look(
                [_engine(name, found[address]) for name, address in engines.items()],
                () if figures is None else _gpus(figures),
            )
            self._last = (self._clock.monotonic(), dict(engines), seen)
            return seen

    async def _scrape(self, address: str) -> Scrape | None:
        limit = aiohttp.ClientTimeout(total=_PATIENCE_S)
        try:
            async with self._session.get(address, timeout=limit, allow_redirects=False) as answer:
                if answer.status != 200:
                    return None
                text = await answer.content.read(_MAX_BYTES)
                while (more := await answer.content.read(_MAX_BYTES)) and len(text) < _MAX_BYTES:
                    text += more
            return await asyncio.to_thread(Scrape.read, text.decode(), self._clock.monotonic())
        except (OSError, aiohttp.ClientError, ValueError):  # OSError: a deadline that passed is one, too
            return None


def _engine(name: str, scrape: Scrape | None) -> Engine:
    if scrape is None:
        return Engine(name, answers=False)

    def count(series: str) -> int | None:
        found = scrape.total(series)
        return None if found is None else round(found)

    return Engine(
        name,
        answers=True,
        running=count("vllm:num_requests_running"),
        waiting=count("vllm:num_requests_waiting"),
        kv_cache_usage=scrape.most("vllm:kv_cache_usage_perc"),
    )


def _gpus(scrape: Scrape) -> Sequence[Gpu]:
    series = scrape.values.get("stoker_gpu_share_ratio", {})
    labels = [dict(at) for at in series]
    known = {one["UUID"]: one for one in labels}
    found = []
    for uuid, one in sorted(known.items(), key=lambda item: (item[1]["host"], item[1]["gpu"], item[0])):
        its = [each for each in labels if each["UUID"] == uuid and each["deployment"]]
        found.append(
            Gpu(
                uuid=uuid,
                host=one["host"],
                index=one["gpu"],
                deployments=sorted({each["deployment"] for each in its}),
                models=sorted({each["model"] for each in its}),
                power_watts=scrape.total("stoker_gpu_power_watts", UUID=uuid),
                memory_used_bytes=scrape.total("stoker_gpu_memory_used_bytes", UUID=uuid),
                memory_free_bytes=scrape.total("stoker_gpu_memory_free_bytes", UUID=uuid),
                active_ratio=scrape.most("stoker_gpu_active_ratio", UUID=uuid),
            )
        )
    return found
