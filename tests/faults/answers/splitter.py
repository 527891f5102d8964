"""Lets one address of an embedding server be two servers, so that what reranks can be away alone."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.network import free_port


class Splitter:
    """Passes each request on, on connections of its own; where its server is away, the client's is closed.

    Attributes:
        url: without /v1.
        ports: by path; every other path goes to `port`.
    """

    def __init__(self, port: int) -> None:
        self._listens = free_port()
        self._port = port
        self.url = f"http://127.0.0.1:{self._listens}"
        self.ports: dict[str, int] = {}
        self._passing: set[asyncio.Task[None] | None] = set()  # else nobody holds those whose client has left

    async def serve(self, stop: asyncio.Event, ready: threading.Event) -> None:
        """Listen until it is stopped."""
        listener = await asyncio.start_server(self._pass_on, "127.0.0.1", self._listens)
        ready.set()
        await stop.wait()
        listener.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._passing.add(task)
        try:
            await self._passed_on(reader, writer)
        finally:
            self._passing.discard(task)

    async def _passed_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
            port = self.ports.get(head.split(b" ", 2)[1].decode(), self._port)
            there, behind = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(behind):
                behind.write(head[:-2] + b"connection: close\r\n\r\n" + body)
                while data := await there.read(65536):
                    writer.write(data)
                    await writer.drain()


@contextmanager
def splitter_in_thread(port: int) -> Iterator[Splitter]:
    """Run one before the server on this port, in a thread of its own."""
    loop = asyncio.new_event_loop()
    splitter, ready, stop = Splitter(port), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(splitter.serve(stop, ready),))
    thread.start()
    assert ready.wait(10)
    try:
        yield splitter
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
