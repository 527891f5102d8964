"""`python -m api.keeper`: one per host, looks after what processes leave behind.

It takes ingestion leases back from silent workers, ships the ledger of the gateway's workers to SQL, has sums of money
counted anew where they are in doubt, sends budget alerts, tells webhooks of the ends of jobs, tells the metrics of
daily evaluations, counts the hours of the service level, and deletes what is gone: expired sessions, conversations,
responses, and the bytes of files.
"""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import aiohttp

from api.admission.admission import Admission
from api.conversations.sweep import forget_deleted
from api.files.sweep import FileSweep
from api.hooks.delivering import Deliverer, Patience
from api.hooks.ends import Ends
from api.hooks.receiving import forget_messages
from api.hooks.secrets import HouseKey
from api.ledger.alerts import Alerts
from api.ledger.counts import SpentCounts
from api.ledger.line import Line
from api.ledger.recounts import Recounts
from api.ledger.reports import spent
from api.ledger.ship import Shipper
from api.ledger.webhook import Webhook
from api.login.sessions import forget_expired
from api.responses.store import forget_gone
from api.settings import ApiSettings
from api.sla.counting import Counting, forget_old, ready
from core.clock import Clock, SystemClock
from core.dependency import DependencyError
from monitoring.logs import configure_logs, logger
from monitoring.metrics import INGEST_WAITED, INGEST_WAITING, LEDGER_SHIPPED
from monitoring.names import NamePage
from monitoring.sentry import report_errors
from monitoring.series import Series
from monitoring.serving import serving
from retrieval.evaluation.telling import Telling
from retrieval.leases import LostTasks, waiting
from retrieval.sources.fetcher import Bounds, Fetcher
from retrieval.sources.open import open_guard
from storage.open import open_store
from storage.redis import RedisClient
from storage.sql import Database

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """Something done again and again.

    Attributes:
        work: raises `DependencyError` or `OSError` where it can't be done now; whatever else it raises is a fault, and
            is logged as one.
        rest_s: between two times.
        at_end: it is done once more when the keeper ends.
    """

    name: str
    work: Callable[[], Awaitable[object]]
    rest_s: float
    at_end: bool = False


async def keep(duties: Sequence[Duty], stop: asyncio.Event) -> None:
    """Do all duties side by side until `stop` is set, then the last of them; a part being away only delays them."""
    async with asyncio.TaskGroup() as group:
        for duty in duties:
            group.create_task(_repeat(duty, stop))
    for duty in duties:
        if duty.at_end:
            await _do(duty)


async def _do(duty: Duty) -> None:
    try:
        await duty.work()
    except (DependencyError, OSError) as error:
        _log.warning("a duty waits", duty=duty.name, reason=str(error))
    except Exception:  # the fault of one duty ends no other: the ledger is to be shipped whatever a webhook does
        _log.exception("a duty failed", duty=duty.name)


async def _repeat(duty: Duty, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await _do(duty)
        try:
            async with asyncio.timeout(duty.rest_s):
                await stop.wait()
        except TimeoutError:
            continue


async def all_duties(settings: ApiSettings, database: Database, clock: Clock, stack: AsyncExitStack) -> list[Duty]:
    """What the keeper does; what is opened for it closes with the stack."""
    alerts = Alerts(database, clock)
    redis = RedisClient(settings.redis_address(), settings.redis_deadline_s)
    stack.push_async_callback(redis.close)

    admission = Admission(redis, partial(spent, database), clock)
    recounts = Recounts(database, admission, clock, settings.hosts)

    counted = SpentCounts(settings.metrics_tenants)

    def shipped(lines: Sequence[Line]) -> None:
        alerts.note(lines)
        counted.note(lines)
        recounts.note(lines)

    shipper = Shipper(database, settings.ledger_folder(), shipped=shipped, dropped=recounts.dropped)
    objects = open_store(settings.object_store_url(), settings.object_deadline_s, settings.s3_endpoint_url)
    swept = FileSweep(database, objects, clock, settings.orphan_grace_s)
    session = await stack.enter_async_context(aiohttp.ClientSession())
    level = Counting(database, clock, socket.gethostname(), partial(ready, session, settings.gateway_url))
    deliverer = _deliverer(settings, database, clock)
    lost = LostTasks(database, clock, settings.lease_s, settings.max_attempts)
    duties = [
        Duty("leases", lost.take_back, 1.0),
        # A keeper that ends after its gateway leaves nothing behind, on a volume that may go with them.
        Duty("ledger", partial(_ship, shipper), 0.5, at_end=True),
        Duty("queue", partial(_count_waiting, database, clock), 15.0),
        Duty("series", Series(NamePage()).look, 5.0),
        Duty("evaluations", Telling(database).tell, 5.0),
        Duty("recounts", recounts.check, 0.5),
        Duty("alerts", alerts.check, 5.0),
        Duty("uptime", level.check, 15.0),
        Duty("service level", level.count, 15.0),
        Duty("old hours", lambda: forget_old(database, clock), 3600.0),
        Duty("sessions", lambda: forget_expired(database, clock), 600.0),
        Duty("conversations", lambda: forget_deleted(database), 600.0),
        Duty("responses", lambda: forget_gone(database, clock), 600.0),
        Duty("job ends", Ends(database, clock, settings.webhook_give_up_s).check, 0.5),
        Duty("deliveries", deliverer.deliver, 0.5),
        Duty("old deliveries", deliverer.forget, 3600.0),
        Duty("old messages", lambda: forget_messages(database, clock), 3600.0),
        Duty("files", swept.run, settings.sweep_s),
        Duty("bytes of no file", swept.orphans, settings.orphans_s),
    ]
    if settings.budget_webhook is not None:
        webhook = Webhook(database, clock, session, settings.budget_webhook.get_secret_value())
        duties.append(Duty("webhook", webhook.deliver, 1.0))
    return duties


def _deliverer(settings: ApiSettings, database: Database, clock: Clock) -> Deliverer:
    guard, deadline_s = open_guard(settings), settings.webhook_deadline_s
    bounds = Bounds(connect_s=deadline_s, read_s=deadline_s, total_s=deadline_s, bytes=0, redirects=0)
    fetcher = Fetcher(guard, bounds, settings.fetch_agent)
    patience = Patience(lease_s=2 * deadline_s, retry_s=settings.webhook_retry_s)
    return Deliverer(database, clock, HouseKey.of(settings), guard, fetcher, patience)


async def _ship(shipper: Shipper) -> None:
    await shipper.ship()
    LEDGER_SHIPPED.set_to_current_time()


async def _count_waiting(database: Database, clock: Clock) -> None:
    count, oldest = await waiting(database)
    INGEST_WAITING.set(count)
    INGEST_WAITED.set(0.0 if oldest is None else max(0.0, clock.time() - oldest))


async def _main() -> None:
    settings = ApiSettings()
    configure_logs("keeper", settings.log_level)
    report_errors("keeper", settings.error_reports())
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with AsyncExitStack() as stack:
        database = Database(settings.sql_url(), settings.sql_deadline_s)
        stack.push_async_callback(database.close)
        duties = await all_duties(settings, database, SystemClock(), stack)
        await stack.enter_async_context(serving(settings.metrics_host, settings.metrics_port))
        _log.info("ready")
        await keep(duties, stop)


if __name__ == "__main__":
    asyncio.run(_main())
