"""`python -m monitoring.gpus`: serves `stoker_gpu_*`, labelled with deployment and model, on `/metrics`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import yaml

from core.clock import SystemClock
from monitoring.gpus.exposition import exposition
from monitoring.gpus.figures import Prices
from monitoring.gpus.placement import Place, places
from monitoring.gpus.sources import Sources

_LOCAL = "STOKER_LOCAL_DEPLOYMENTS"
_OPENER = build_opener(ProxyHandler({}))  # a proxy has no business among one's own machines
_DEADLINE_S = 3.0
_MAX_BYTES = 16 * 1024 * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted. Returns: 0."""
    given = _parser().parse_args(arguments)
    its = configured(given.config, os.environ.get(_LOCAL, ""))
    sources = sources_of(its, given.exporter, _prices(given), given.window_s)
    server = ThreadingHTTPServer((given.host, given.port), handler(sources))
    print(f"serving http://{given.host}:{server.server_port}/metrics", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0


def configured(file: Path | None, local: str) -> tuple[Place, ...]:
    """The engines that the file names, and those that `./stoker up` runs, as JSON; an empty text is none."""
    config = (yaml.safe_load(file.read_text()) if file is not None else None) or {}
    return places(config.get("model_list") or (), json.loads(local or "[]"))


def sources_of(its: Sequence[Place], exporters: Sequence[str], prices: Prices | None, window_s: float) -> Sources:
    """What is looked at."""
    engines = {place.deployment: f"{place.engine}/metrics" for place in its}
    return Sources(_fetch, exporters, engines, its, clock=SystemClock(), prices=prices, window_s=window_s)


def handler(sources: Sources) -> type[BaseHTTPRequestHandler]:
    """The server's answers: each looks anew."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if urlsplit(self.path).path != "/metrics":
                self.send_error(404)
                return
            body = exposition(sources.look()).encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A scrape is nothing to tell of."""

    return Handler


def _fetch(address: str) -> str:
    with _OPENER.open(address, timeout=_DEADLINE_S) as answer:
        text: bytes = answer.read(_MAX_BYTES)
    return text.decode("utf-8", errors="replace")


def _prices(given: argparse.Namespace) -> Prices | None:
    if given.gpu_usd_per_hour is None:
        return None
    return Prices(given.gpu_usd_per_hour, given.hosted_prompt_usd, given.hosted_completion_usd)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m monitoring.gpus", description=__doc__)
    parser.add_argument("--config", type=Path, help="stoker.yaml, which names engines and their GPUs")
    parser.add_argument(
        "--exporter", action="append", required=True, metavar="URL", help="of a dcgm-exporter or reader"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9401)
    parser.add_argument("--window-s", type=float, default=60.0, help="seconds that figures are of, at least")
    parser.add_argument("--gpu-usd-per-hour", type=float, help="unset: nothing is said of money")
    parser.add_argument("--hosted-prompt-usd", type=float, default=0.15, help="a million tokens")
    parser.add_argument("--hosted-completion-usd", type=float, default=0.60, help="a million tokens")
    return parser


if __name__ == "__main__":
    sys.exit(main())
