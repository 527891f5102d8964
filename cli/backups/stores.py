"""The stores of a stack, running or not, as a backup or a restore reaches them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cli import ports
from cli.errors import CliError
from cli.logfiles import LogFiles
from cli.parts import Probe
from cli.probes import answers
from cli.process import die_with_parent
from cli.settings import ROOT, CliSettings
from cli.state import StackState, take_lock
from retrieval.milvus import VectorIndex
from storage.objects import ObjectStore
from storage.open import open_store

_READY_S = 180.0
_STOP_S = 20.0
_INDEX_S = 120.0  # for one call: a restore writes as fast as the index takes it
_EVERY_ROW = 1  # counts as enough for a flush


@dataclass(frozen=True, slots=True)
class Stores:
    """Where everything but SQL is kept."""

    objects: ObjectStore
    index: VectorIndex
    milvus_uri: str


@asynccontextmanager
async def reached(settings: CliSettings) -> AsyncIterator[Stores]:
    """Open the stores; an embedded index that nobody serves is served meanwhile.

    Raises: CliError: the index does not start.
    """
    async with _served(settings) as uri:
        index = VectorIndex(uri, _INDEX_S, _EVERY_ROW)
        try:
            objects = open_store(settings.object_store_url(), settings.object_deadline_s, settings.s3_endpoint_url)
            yield Stores(objects, index, uri)
        finally:
            await index.close()


def running(settings: CliSettings) -> StackState | None:
    """The stack of this data folder, while it runs."""
    state = StackState.load(settings.run_dir)
    return state if state is not None and state.supervisor.is_alive() else None


def take_still(settings: CliSettings) -> int:
    """Take the data folder of a stack that does not run. Returns: a descriptor, which holds it.

    Raises: CliError: the stack runs, or is being prepared.
    """
    lock = take_lock(settings.run_dir)
    if lock is None:
        raise CliError(f"a stack runs on {settings.data_dir}", "./stoker down ends it; then run the command again")
    return lock


@asynccontextmanager
async def _served(settings: CliSettings) -> AsyncIterator[str]:
    if settings.milvus_uri is not None:
        yield settings.milvus_uri
        return
    state = running(settings)
    port = next((part.port for part in state.parts if part.name == "milvus"), None) if state else None
    if port is not None:
        yield f"http://127.0.0.1:{port}"
        return
    port = ports.next_free(19530, {settings.port})
    process = _start(settings, port)
    try:
        await _answers(process, port, settings)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)  # what it flushes and closes its files on
        try:
            await asyncio.to_thread(process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(settings: CliSettings, port: int) -> "subprocess.Popen[bytes]":
    """The embedded index; it ends with this process, however that ends."""
    words = ["--data-dir", str(settings.data_dir / "milvus"), "--host", "127.0.0.1", "--port", str(port)]
    with LogFiles(settings.logs_dir).open("milvus") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.milvuslite", "server", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGINT),
        )


async def _answers(process: "subprocess.Popen[bytes]", port: int, settings: CliSettings) -> None:
    log = settings.logs_dir / "milvus.log"
    async with asyncio.timeout(_READY_S):
        while not await answers(Probe("grpc", port=port), log, 0):
            if process.poll() is not None:
                raise CliError("the index does not start", f"read {log}")
            await asyncio.sleep(0.1)
