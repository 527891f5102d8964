"""Fetches what jobs wait for, several things at once, beside the documents that the worker is indexing."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from core.clock import Clock
from core.dependency import DependencyError
from monitoring import metrics
from monitoring.logs import logger
from retrieval import heartbeat, media
from retrieval.errors import (
    ErrandLost,
    FetchFailed,
    FetchPostponed,
    InputInvalid,
    RetrievalError,
)
from retrieval.settings import RetrievalSettings
from retrieval.sources.address import Address
from retrieval.sources.arrival import Arrivals
from retrieval.sources.buckets import Buckets
from retrieval.sources.errands import Errand, Errands, Kind
from retrieval.sources.fetcher import Fetched, Fetcher
from retrieval.sources.guard import Guard
from retrieval.sources.lists import OFF, Origins, Placing
from retrieval.sources.sitemap import Sitemaps
from retrieval.status import Fault
from retrieval.values import check_filename

_log = logger(__name__)

_SOON_S = 0.1  # while something waits for its host's rest
_TIDY_S = 300.0
_READ_HERE = media.SUPPORTED | {media.UNKNOWN, "application/xhtml+xml", "application/x-ndjson", "application/csv", ""}


class Courier:
    """Fetches until it is told to stop."""

    def __init__(
        self,
        settings: RetrievalSettings,
        errands: Errands,
        arrivals: Arrivals,
        placing: Placing,
        origins: Origins,
        guard: Guard,
        fetcher: Fetcher,
        sitemaps: Sitemaps,
        buckets: Buckets,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._errands = errands
        self._arrivals = arrivals
        self._placing = placing
        self._origins = origins
        self._guard = guard
        self._fetcher = fetcher
        self._sitemaps = sitemaps
        self._buckets = buckets
        self._clock = clock
        self._tidied_s = clock.monotonic()

    async def run(self) -> None:
        """Work until cancelled; what is under way then goes back."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._settings.fetch_parallel):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            rest_s = self._settings.poll_s
            try:
                await self._tidy()
                if await self._errands.any_open():
                    errand = await self._errands.acquire()
                    if errand is not None:
                        await self.go(errand)
                        continue
                    rest_s = _SOON_S
            except DependencyError as error:
                _log.warning("waiting for a part that is away", part=error.name, reason=str(error))
            except Exception:  # one errand's fault ends no other's work: its lease runs out, and its attempts do
                _log.exception("an errand could not be begun or ended")
            await asyncio.sleep(rest_s)

    async def go(self, errand: Errand) -> None:
        """Do one errand, or hand it back; cancelled, hand it back and end."""
        log = _log.bind(errand=errand.id, job=errand.job_id, kind=errand.kind, attempt=errand.attempt)
        work = asyncio.create_task(self._do(errand))
        renew, lease_s = partial(self._errands.renew, errand), self._settings.lease_s
        beat = asyncio.create_task(
            heartbeat.keep(renew, ErrandLost, work, self._clock, lease_s=lease_s, every_s=lease_s / 4)
        )
        outcome = "failed"
        try:
            await work
            outcome = "fetched"
        except (FetchFailed, InputInvalid) as error:
            await self._leave(self._errands.fail(errand, str(error)))
        except FetchPostponed as error:
            outcome = "postponed"
            await self._leave(self._errands.retry(errand, str(error), error.retry_after_s))
        except ErrandLost:
            outcome = "lost"
        except asyncio.CancelledError:
            outcome = "lost"
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                await asyncio.gather(work, return_exceptions=True)
                await self._leave(self._errands.release(errand))
                raise
        except (DependencyError, RetrievalError) as error:
            outcome = "postponed"
            await self._leave(self._errands.retry(errand, str(error)))
        except Exception:
            log.exception("an errand failed unexpectedly")
            reason = "Fetching failed unexpectedly; the worker's log has the details."
            await self._leave(self._errands.fail(errand, reason, Fault.SERVER))
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
        metrics.FETCHED.labels(errand.kind, outcome).inc()
        log.info("errand", outcome=outcome)

    async def _do(self, errand: Errand) -> None:
        if errand.kind in (Kind.OBJECT, Kind.PREFIX):
            await self._origins.check_bucket(errand.tenant_id, errand.address)
        elif not self._settings.fetch:
            raise InputInvalid("url", OFF)
        if errand.kind is Kind.PREFIX:
            await self._list(errand, lambda: self._objects(errand))
        elif errand.kind is Kind.SITEMAP:
            await self._list(errand, lambda: self._pages(errand))
        else:
            await self._arrivals.take(errand, await self._fetched(errand))

    async def _fetched(self, errand: Errand) -> Fetched | None:
        if errand.kind is Kind.OBJECT:
            return await self._buckets.get(errand.address, errand.known)
        address = self._guard.read(errand.address)

        def stays(to: Address) -> bool:
            return errand.kind is not Kind.PAGE or to.host == address.host

        return await self._fetcher.get(address, errand.known, _is_read_here, stays)

    async def _list(self, errand: Errand, walk: Callable[[], Awaitable[tuple[Sequence[str], int, float]]]) -> None:
        """Walk a list, once; then take it in."""
        listed = errand.plan.get("listed")
        if listed is None:
            addresses, left_out, delay_s = await walk()
            distinct = _distinct(addresses)
            left_out += len(addresses) - len(distinct)
            if not distinct:
                raise FetchFailed(f"{errand.address} names nothing that can be taken in ({left_out} left out).")
            listed = {"addresses": distinct, "left_out": left_out, "delay_s": delay_s}
            plan = {**errand.plan, "listed": listed}
            await self._errands.write(errand, {"plan": plan, "found": len(distinct), "left_out": left_out})
        await self._placing.place(errand, listed["addresses"], listed["left_out"], listed["delay_s"])
        await self._arrivals.redis.nudge_ingestion()

    async def _pages(self, errand: Errand) -> tuple[Sequence[str], int, float]:
        pages = await self._sitemaps.read(self._guard.read(errand.address), errand.plan["limit"])
        return [str(page) for page in pages.addresses], pages.left_out, pages.delay_s

    async def _objects(self, errand: Errand) -> tuple[Sequence[str], int, float]:
        addresses, left_out = await self._buckets.list(errand.address, errand.plan["limit"])
        return addresses, left_out, 0.0

    async def _leave(self, last_word: Awaitable[object]) -> None:
        """Say the last word about an errand; one that isn't heard is made up for when the lease runs out."""
        with contextlib.suppress(ErrandLost, DependencyError):
            await last_word

    async def _tidy(self) -> None:
        if self._clock.monotonic() - self._tidied_s >= _TIDY_S:
            self._tidied_s = self._clock.monotonic()
            await self._errands.forget_hosts()


def _is_read_here(media_type: str) -> bool:
    return media_type in _READ_HERE or media_type.startswith("text/")


def _distinct(addresses: Sequence[str]) -> list[str]:
    """Those that are documents of their own: a name stands for one."""
    found: dict[str, str] = {}
    for address in addresses:
        with contextlib.suppress(InputInvalid):
            found.setdefault(check_filename(address), address)
    return list(found.values())
