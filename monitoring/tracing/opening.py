"""Tracing of a whole process."""

from collections.abc import Iterator
from contextlib import contextmanager

from monitoring.tracing.spans import install


@contextmanager
def traced(process: str, endpoint: str | None, per_second: float, slow_s: float, *, text: bool) -> Iterator[None]:
    """Have this process note traces within the block, and tell a collector.

    Args:
        process: what stands behind `stoker-` in the name of the service.
        endpoint: of OTLP over HTTP, without `/v1/traces`; None: nothing is noted.
        per_second, slow_s, text: as `install` says.
    """
    if endpoint is None:
        yield
        return
    from monitoring.tracing.exporting import Exporter  # OpenTelemetry's SDK takes a moment to import

    exporter = Exporter(process, endpoint)
    install(exporter, per_second, slow_s, text=text)
    try:
        yield
    finally:
        install(None)
        exporter.close()
