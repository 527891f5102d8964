"""The GPU reader's server: `/metrics` for Prometheus, `/health` for people. `--once` prints one reading as JSON."""

import socket

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitoring.logs import configure_logs, logger
from monitoring.nvml.binding import nvidia_binding
from monitoring.nvml.errors import DriverUnavailable
from monitoring.nvml.exposition import GpuCollector, exposition
from monitoring.nvml.reader import NvmlReader
from monitoring.nvml.readings import Reading
from monitoring.nvml.sampler import Sampler
from monitoring.nvml.settings import NvmlSettings

_log = logger(__name__)


def build_app(sampler: Sampler, hostname: str) -> Starlette:
    """The server's application. Its routes run in threads, since a reading may block until its deadline."""
    collector = GpuCollector(sampler.latest, hostname)

    def metrics(_request: Request) -> Response:
        return Response(exposition(collector), media_type=CONTENT_TYPE_LATEST)

    def health(_request: Request) -> Response:
        reading = sampler.latest()
        down = {str(gpu.identity.index): gpu.problem for gpu in reading.gpus if not gpu.up}
        if reading.problem is not None:
            return _json({"status": "unavailable", "reason": reading.problem}, 503)
        return _json({"status": "ok", "gpus": len(reading.gpus), "down": down}, 200)

    return Starlette(routes=[Route("/metrics", metrics), Route("/health", health)])


def main() -> int:
    """Returns: 0; 1 where NVIDIA's binding is missing, the port is taken, or (`--once`) nothing can be read."""
    settings = NvmlSettings(_cli_parse_args=True)
    configure_logs("gpu", settings.log_level)
    try:
        reader = NvmlReader(nvidia_binding(), settings.wanted)
        if settings.once:
            print(as_json(reader.read()))
            reader.close()
            return 0
    except DriverUnavailable as error:
        _log.error(error.message, remedy=error.remedy)
        return 1
    sampler = Sampler(
        reader.read, min_interval_s=settings.min_interval_s, deadline_s=settings.deadline_s, stale_s=settings.stale_s
    )
    app = build_app(sampler, socket.gethostname())
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1


def as_json(reading: Reading) -> str:
    """The reading for a person, every field with its unit in its name."""
    return orjson.dumps(reading, default=sorted, option=orjson.OPT_INDENT_2).decode()  # sorted: sets become lists


def _json(body: object, status: int) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
