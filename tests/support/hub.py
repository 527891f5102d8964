"""A hub for tests, small and able to misbehave: the routes that huggingface_hub asks, and a store of its own for bytes.

The real one sends large files from another host, by a redirect; so does this one, from another port.
"""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


@dataclass
class Model:
    """What a repository holds.

    Attributes:
        large: paths that are kept as git's large files: with a SHA-256, and sent from the other host.
    """

    files: Mapping[str, bytes]
    large: frozenset[str] = frozenset()
    commit: str = COMMIT


@dataclass
class FakeHub:
    """Attributes: what it holds, how it misbehaves, and what it has seen.

    cut: by path, after how many bytes each next answer breaks off.
    lies: by path, what each next answer holds instead.
    refuses: by the beginning of a path, status and `X-Error-Code`.
    ignores_ranges: it always sends the whole file.
    hangs: an answer that broke off keeps its connection until this is set.
    served: bytes of bodies by path, as sent.
    asked: method, path and headers of every request, by `hub` or `store`.
    """

    models: dict[str, Model] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    lies: dict[str, list[bytes]] = field(default_factory=dict)
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    ignores_ranges: bool = False
    hangs: threading.Event | None = None
    served: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    broke_off: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    store_url: str = ""


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub on a free port, and the store of its large files on another."""
    hub = FakeHub()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, name)) for name in ("hub", "store")]
    hub.url, hub.store_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        if hub.hangs:
            hub.hangs.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def described(model: Model, repo: str) -> bytes:
    """The hub's answer about a model. Source: https://huggingface.co/docs/hub/api"""
    siblings = []
    for path, data in model.files.items():
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        about: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": git}
        if path in model.large:
            about["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        siblings.append(about)
    return json.dumps({"id": repo, "sha": model.commit, "siblings": siblings}).encode()


def _handler(hub: FakeHub, name: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((name, path, {key.lower(): value for key, value in self.headers.items()}))
            for begin, (status, code) in hub.refuses.items():
                if path.startswith(begin):
                    return self.answer(status, b"{}", {"X-Error-Code": code} if code else {})
            if path.startswith("/api/models/"):
                return self.about(path.removeprefix("/api/models/"))
            for repo, model in hub.models.items():
                begin = f"/{repo}/resolve/{model.commit}/"
                if path.startswith(begin) and path.removeprefix(begin) in model.files:
                    return self.file(path.removeprefix(begin), model, path)
            return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

        def about(self, wanted: str) -> None:
            repo, _, revision = wanted.partition("/revision/")
            model = hub.models.get(repo)
            if model is None:
                return self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            if revision not in ("", "main", "v1", model.commit):
                return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return self.answer(200, described(model, repo), {"Content-Type": "application/json"})

        def file(self, path: str, model: Model, whole_path: str) -> None:
            data = model.files[path]
            if path in model.large and name == "hub":
                etag = hashlib.sha256(data).hexdigest()
                headers = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data)), "X-Repo-Commit": model.commit}
                return self.answer(302, b"", {**headers, "Location": f"{hub.store_url}{whole_path}"})
            if hub.lies.get(path):
                data = hub.lies[path].pop(0)
            asked = self.headers.get("Range")
            if asked is None or hub.ignores_ranges:
                return self.answer(200, data, {"ETag": '"x"'}, path)
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            where = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            return self.answer(206, data[start:], where, path)

        def answer(self, status: int, body: bytes, headers: Mapping[str, str], path: str = "") -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cuts = hub.cut.get(path)
            sent = body[: cuts.pop(0)] if cuts else body
            if path:
                hub.served[path] += len(sent)
            self.wfile.write(sent)
            if len(sent) < len(body):
                self.wfile.flush()
                self.close_connection = True
                hub.broke_off.set()
                if hub.hangs:
                    hub.hangs.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
