"""`python -m api.keeper`: one per host, takes back what silent processes held. Here: ingestion leases."""

import asyncio
import signal

from api.settings import ApiSettings
from core.clock import SystemClock
from core.dependency import DependencyError
from monitoring.logs import configure_logs, logger
from retrieval.leases import expire
from storage.sql import Database

_INTERVAL_S = 1.0
_log = logger(__name__)


async def keep(database: Database, stop: asyncio.Event) -> None:
    """Look once a second until `stop` is set; SQL being away only delays the next look."""
    clock = SystemClock()
    while not stop.is_set():
        try:
            expired = await expire(database, clock)
            if expired:
                _log.warning("leases taken back", count=expired)
        except DependencyError as error:
            _log.warning("sql is away", reason=str(error))
        try:
            async with asyncio.timeout(_INTERVAL_S):
                await stop.wait()
        except TimeoutError:
            continue


async def _main() -> None:
    settings = ApiSettings()
    configure_logs("keeper", settings.log_level)
    database = Database(settings.sql_url(), settings.sql_deadline_s)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    _log.info("ready")
    try:
        await keep(database, stop)
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(_main())
