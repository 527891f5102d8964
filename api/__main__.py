"""`python -m api`: the gateway process; `--reload` starts it again when a file of its code changes."""

import asyncio
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from api.errors import SettingsRefused
from api.first_key import ensure_admin
from api.settings import ApiSettings
from core.clock import SystemClock
from monitoring.logs import configure_logs, logger
from router.config import load
from router.errors import RouterError
from storage.sql import Database

_CODE = Path(__file__).parent.parent
_PACKAGES = ("api", "core", "monitoring", "retrieval", "router", "storage")


def main(arguments: Sequence[str]) -> int:
    """Check the configuration, make the first admin key, then serve until a signal comes."""
    try:
        settings = ApiSettings()
    except ValueError as error:  # its message names the setting, and never its value
        print(f"stoker: {error}", file=sys.stderr)
        return 2
    configure_logs("gateway", settings.log_level)
    try:
        load(settings.config, settings.local_deployments)
        asyncio.run(_prepare(settings))
    except (SettingsRefused, RouterError) as error:
        logger(__name__).error("the gateway does not start", reason=str(error))
        print(f"stoker: {error}", file=sys.stderr)
        return 2
    uvicorn.run(
        "api.app:create_gateway",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        reload="--reload" in arguments,
        reload_dirs=[str(_CODE / name) for name in _PACKAGES],
        loop="uvloop",
        http="api.hot.protocol:Protocol",
        ws="api.sockets.protocol:Protocol",
        ws_max_size=settings.max_json_bytes,
        ws_per_message_deflate=False,  # a question is small, and its answer comes in pieces
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
        timeout_keep_alive=75,  # longer than clients keep idle connections, so that none is closed while it is used
        timeout_worker_healthcheck=30,  # a worker on a busy machine is not a dead one
    )
    return 0


async def _prepare(settings: ApiSettings) -> None:
    database = Database(settings.sql_url(), settings.sql_deadline_s)
    try:
        await ensure_admin(database, SystemClock(), settings.admin_key_path())
    finally:
        await database.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
