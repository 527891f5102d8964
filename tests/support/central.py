"""A central gateway that does what a test has it do: it answers, is silent, refuses, or speaks nonsense."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Does = Literal["answer", "silent", "refuse", "nonsense", "degraded"]


@dataclass
class FakeCentral:
    """It runs; change it while it does.

    Attributes:
        collection_id: of the collection that it has, whatever its name.
        asked: bodies of the questions that came.
        looked: how often its collection was looked at.
    """

    collection_id: str
    does: Does = "answer"
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    looked: int = 0
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def fake_central(collection_id: str) -> Iterator[FakeCentral]:
    """Serve one until the block ends."""
    central = FakeCentral(collection_id)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            central.looked += 1
            self._do({"id": central.collection_id, "object": "collection"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            central.asked.append(body)
            degraded = central.does == "degraded"
            self._do({"answer": "It is central.", "citations": [], "degraded": degraded, "model": "m", "usage": {}})

        def _do(self, answer: dict[str, Any]) -> None:
            if central.does == "silent":
                central.over.wait(60)
                return
            data = b"<html>" if central.does == "nonsense" else json.dumps(answer).encode()
            self.send_response(403 if central.does == "refuse" else 200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    central.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield central
    finally:
        central.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
