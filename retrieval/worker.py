"""The ingestion worker: `python -m retrieval.worker`.

Takes one document after another by lease, and beside them what is to be fetched, and daily evaluations that are due.
SIGTERM and SIGINT end it cleanly: what it holds goes back to the queue, and half-written rows are never seen.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial

from core.clock import Clock, SystemClock
from core.dependency import DependencyError
from core.ids import new_id
from monitoring import metrics, tracing
from monitoring.logs import configure_logs, logger
from monitoring.sentry import report_errors
from monitoring.serving import serving
from retrieval import generations, heartbeat
from retrieval.errors import DocumentRejected, LeaseLost, RetrievalError, SpaceMismatch
from retrieval.evaluation.runner import Runner
from retrieval.evaluation.turns import Turns
from retrieval.expiry import end_unused
from retrieval.leases import Lease, Leases, LostTasks, end_expired, refresh_stale
from retrieval.media import SUPPORTED
from retrieval.open import open_retrieval
from retrieval.orphans import Orphans
from retrieval.parsing import Parser
from retrieval.pipeline import Pipeline
from retrieval.settings import RetrievalSettings
from retrieval.sources.open import open_courier
from retrieval.status import Fault, Status
from retrieval.sweep import SWEPT_AT_ONCE, Sweep
from storage.open import open_store
from storage.redis import RedisClient
from storage.sql import Database

_log = logger(__name__)

_LOOKING = 20  # one part of so many of a worker's time goes into looking how far reindexes are, and one into tidying
_NICE = 10  # whoever searches on the same processors goes first; so for the parsing child, which inherits it


class Worker:
    """Ingests until it is told to stop."""

    def __init__(
        self,
        settings: RetrievalSettings,
        database: Database,
        redis: RedisClient,
        leases: Leases,
        pipeline: Pipeline,
        sweep: Sweep,
        orphans: Orphans,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._database = database
        self._redis = redis
        self._leases = leases
        self._pipeline = pipeline
        self._sweep = sweep
        self._orphans = orphans
        self._clock = clock
        self._lost = LostTasks(database, clock, settings.lease_s, settings.max_attempts)
        self._next_look_s = 0.0
        self._next_tidy_s = clock.monotonic() + settings.lease_s
        self._next_sweep_s = 0.0
        self._next_orphans_s = clock.monotonic() + settings.orphans_s

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._look()
                lease = await self._leases.acquire()
                if lease is not None:
                    await self.ingest(lease)
                    if self._clock.monotonic() >= self._next_tidy_s:  # a queue may never be empty
                        await self._tidy()
                    continue
                await self._tidy()
            except DependencyError as error:
                _log.warning("waiting for a part that is away", part=error.name, reason=str(error))
                await asyncio.sleep(self._settings.poll_s)
                continue
            except Exception:  # what can't be begun or tidied ends no other work
                _log.exception("a round of the worker failed")
                await asyncio.sleep(self._settings.poll_s)
                continue
            await self._sleep()

    async def ingest(self, lease: Lease) -> None:
        """Take one document to its end, or hand it back; cancelled, hand it back and end."""
        log = _log.bind(document=lease.document_id, job=lease.job_id, attempt=lease.attempt)
        log.info("ingesting", filename=lease.filename)
        root = tracing.begin("ingest document", "consumer")
        work = asyncio.create_task(self._pipeline.run(lease))
        renew, lease_s, every_s = partial(self._leases.renew, lease), self._settings.lease_s, self._settings.heartbeat_s
        beat = asyncio.create_task(
            heartbeat.keep(renew, LeaseLost, work, self._clock, lease_s=lease_s, every_s=every_s)
        )
        status: Status | None = None
        try:
            await work
            status = Status.READY
        except (DocumentRejected, SpaceMismatch) as error:
            reason, fault = str(error), _fault(error, lease)
            await self._leave(lambda: self._leases.fail(lease, reason, fault))
            status = Status.FAILED
            log.info("rejected", reason=reason)
        except LeaseLost as error:
            log.warning("lease lost", reason=str(error))
        except asyncio.CancelledError:
            if _being_cancelled():
                await asyncio.gather(work, return_exceptions=True)  # the cancel has been passed on to it
                await self._leave(lambda: self._leases.release(lease))
                log.info("handed back")
                raise
            log.warning("lease lost", reason="the heartbeat was refused")
        except Exception as error:
            known = isinstance(error, DependencyError | RetrievalError)
            reason = str(error) if known else "Ingestion failed unexpectedly; the worker's log has the details."
            log.error("attempt failed", reason=getattr(error, "reason", str(error)), exc_info=not known)
            status = await self._retry(lease, reason)
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
            if root is not None:
                root.details = partial(_told, lease, status)
                tracing.finish(root, status if status is Status.FAILED else "")
        if status in (Status.READY, Status.FAILED):
            metrics.INGESTED.labels(status).inc()
            log.info("done", status=status)

    async def _retry(self, lease: Lease, reason: str) -> Status | None:
        try:
            return await self._leases.retry(lease, reason)
        except (LeaseLost, DependencyError) as error:  # then the lease runs out by itself
            _log.warning("could not hand back", document=lease.document_id, reason=str(error))
            return None

    async def _leave(self, last_word: Callable[[], Awaitable[None]]) -> None:
        """Say the last word about a document; one that isn't heard is made up for when the lease runs out."""
        with contextlib.suppress(LeaseLost, DependencyError):
            await last_word()

    async def _look(self) -> None:
        """Let reindexes go on, also while there is always something else to do; one that can't holds up nobody else."""
        began_s = self._clock.monotonic()
        if began_s < self._next_look_s:
            return
        try:
            await generations.advance(self._database, self._clock)
        except DependencyError as error:
            _log.warning("a reindex waits for a part that is away", part=error.name, reason=str(error))
        except Exception:  # documents go on being ingested
            _log.exception("a reindex could not go on")
        finally:
            # Looking through a large collection takes its time, and is not to take all of it.
            took_s = self._clock.monotonic() - began_s
            self._next_look_s = began_s + max(self._settings.poll_s, _LOOKING * took_s)

    async def _tidy(self) -> None:
        began_s = self._clock.monotonic()
        try:
            await self._put_in_order()
        finally:
            took_s = self._clock.monotonic() - began_s
            self._next_tidy_s = began_s + max(self._settings.lease_s, _LOOKING * took_s)

    async def _put_in_order(self) -> None:
        await self._lost.take_back()
        await end_expired(self._database, self._clock)
        await end_unused(self._database, self._clock)
        await refresh_stale(self._database, self._clock)
        await self._pipeline.flush_quiet()
        if self._clock.monotonic() >= self._next_sweep_s:
            self._next_sweep_s = self._clock.monotonic() + self._settings.sweep_s
            removed = await self._sweep.run()
            if removed:
                _log.info("swept", removed=removed)
            if removed >= SWEPT_AT_ONCE:  # a whole index may have been replaced: there is more
                self._next_sweep_s = self._clock.monotonic()
        if self._clock.monotonic() >= self._next_orphans_s:
            self._next_orphans_s = self._clock.monotonic() + self._settings.orphans_s
            found = asdict(await self._orphans.run())
            for kind, count in found.items():
                metrics.ORPHANS.labels(kind).inc(count)
            if any(found.values()):
                _log.warning("removed what belonged to nothing", **found)

    async def _sleep(self) -> None:
        try:
            await self._redis.await_nudge(self._settings.poll_s)
        except DependencyError:
            await asyncio.sleep(self._settings.poll_s)


def _fault(error: Exception, lease: Lease) -> Fault:
    if not isinstance(error, DocumentRejected):
        return Fault.SERVER
    return Fault.INVALID if lease.media_type in SUPPORTED else Fault.UNSUPPORTED


def _told(lease: Lease, status: Status | None) -> dict[str, tracing.Value]:
    return {
        "stoker.tenant": lease.tenant_id,
        "stoker.collection": lease.collection_id,
        "stoker.document": lease.document_id,
        "stoker.job": lease.job_id,
        "stoker.attempt": lease.attempt,
        "stoker.status": status or "handed back",
    }


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def serve(settings: RetrievalSettings, stop: asyncio.Event) -> None:
    """Open everything, work until `stop` is set, close everything."""
    if settings.redis_url is None:
        raise SystemExit("STOKER_REDIS_URL is not set: `./stoker up` sets it, or point it at your own server.")
    clock = SystemClock()
    database = Database(settings.sql_url(), settings.sql_deadline_s)
    redis = RedisClient(settings.redis_url.get_secret_value(), settings.redis_deadline_s)
    objects = open_store(settings.object_store_url(), settings.object_deadline_s, settings.s3_endpoint_url)
    parser = Parser(settings.parse_deadline_s, settings.parse_memory_bytes, settings.max_characters)
    try:
        async with (
            serving(settings.metrics_host, settings.metrics_port),
            open_retrieval(settings, database, redis, objects) as retrieval,
        ):
            name = f"{socket.gethostname()}-{os.getpid()}-{new_id('w')}"[:100]
            leases = Leases(database, clock, name, settings.lease_s, settings.max_attempts)
            pipeline = Pipeline(settings, leases, objects, retrieval.index, retrieval.embedder, parser, clock)
            sweep = Sweep(database, retrieval.index, objects, clock, settings.reader_grace_s)
            orphans = Orphans(database, retrieval.index, objects, clock, settings.orphan_grace_s)
            work = Worker(settings, database, redis, leases, pipeline, sweep, orphans, clock)
            runner = Runner(Turns(database, clock, name), retrieval.evaluator, clock)
            courier = open_courier(settings, database, redis, objects, retrieval.intake, clock, name)
            tasks = [asyncio.create_task(part.run()) for part in (work, runner, courier)]
            stopped = asyncio.create_task(stop.wait())
            _log.info("ready", worker=name)
            await asyncio.wait((*tasks, stopped), return_when=asyncio.FIRST_COMPLETED)
            for task in (*tasks, stopped):
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    raise ended
    finally:
        await parser.close()
        await redis.close()
        await database.close()
    _log.info("stopped")


async def main() -> None:
    """The process."""
    settings = RetrievalSettings()
    os.nice(_NICE)
    configure_logs("worker", settings.log_level)
    report_errors("worker", settings.error_reports())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    with tracing.traced("worker", **settings.tracing()):
        await serve(settings, stop)


if __name__ == "__main__":
    asyncio.run(main())
