"""A store of traces that others wrote: it takes OTLP, and tells what it was told."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cli.environments import TRACES
from tests.support.gateway import answers
from tests.support.network import free_port
from tests.support.process import running

_PATIENCE_S = 60.0


@contextmanager
def trace_store(folder: Path) -> Iterator["TraceStore"]:
    """Phoenix, from an environment of its own."""
    port = free_port()
    env = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    command = [str(TRACES.folder / "bin" / "phoenix"), "serve"]
    with running(command, folder / "log", lambda: answers(port, "/healthz"), env):
        yield TraceStore(f"http://127.0.0.1:{port}")


@dataclass
class TraceStore:
    """Phoenix: it takes OTLP, keeps spans in SQLite and tells them again."""

    url: str

    def spans(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = None
        while True:
            asked = {"limit": 1000, **({"cursor": after} if after else {})}
            answer = httpx.get(f"{self.url}/v1/projects/default/spans/otlpv1", params=asked)
            if answer.status_code == 404:  # nothing came yet
                return []
            told = answer.raise_for_status().json()
            found += told["data"]
            after = told["next_cursor"]
            if after is None:
                return found

    def trace(self, *names: str, trace_id: str | None = None) -> list["Told"]:
        """The spans of a trace that has these names, once they are there."""
        end_s = time.monotonic() + _PATIENCE_S
        while True:
            traces: dict[str, list[Told]] = {}
            for span in map(Told, self.spans()):
                traces.setdefault(span.trace_id, []).append(span)
            for found, spans in traces.items():
                if trace_id in (None, found) and {*names} <= {span.name for span in spans}:
                    return spans
            assert time.monotonic() < end_s, {one: [span.name for span in spans] for one, spans in traces.items()}
            time.sleep(0.2)


class Told:
    """A span as the store tells it."""

    def __init__(self, span: dict[str, Any]) -> None:
        self.trace_id: str = span["trace_id"]
        self.id: str = span["span_id"]
        self.parent_id: str = span["parent_span_id"] or ""
        self.name: str = span["name"]
        self.begin, self.end = int(span["start_time_unix_nano"]), int(span["end_time_unix_nano"])
        self.error = span["status"]["code"] == 2
        self.attributes = {
            pair["key"]: next((value for value in pair["value"].values() if value is not None), None)
            for pair in span["attributes"]
        }
