"""Parsing in a process of its own: a parser that crashes or hangs takes down nothing else."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from retrieval.errors import DocumentRejected
from retrieval.parsers.parsed import Parsed

_ROOT = Path(__file__).parent.parent
_LINE_LIMIT = 256 * 2**20  # bytes of one answer; the text in it is bounded far below


class Parser:
    """Parses one file at a time in a warm child, which is killed at its deadline and started again for the next file.

    Args:
        deadline_s: for one file.
        memory_bytes: address space of the child.
        max_characters: longest normalised text.
    """

    def __init__(self, deadline_s: float, memory_bytes: int, max_characters: int) -> None:
        self._deadline_s = deadline_s
        self._memory_bytes = memory_bytes
        self._max_characters = max_characters
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def parse(self, data: bytes, media_type: str) -> Parsed:
        """Raises: DocumentRejected: no text can be had from this file, in time and memory."""
        header = {
            "media_type": media_type,
            "bytes": len(data),
            "max_characters": self._max_characters,
            "deadline_s": self._deadline_s,
        }
        async with self._turn:
            try:
                async with asyncio.timeout(self._deadline_s):
                    answer = await self._ask(json.dumps(header).encode() + b"\n" + data)
            except TimeoutError as error:
                raise DocumentRejected(
                    f"Parsing took longer than {self._deadline_s:g} s and was stopped: split or re-export the file."
                ) from error
        if answer is None:
            raise DocumentRejected("The parser crashed on this file: repair or re-export it.")
        if "rejected" in answer:
            raise DocumentRejected(answer["rejected"])
        return Parsed(
            text=answer["text"],
            pages=tuple((page, start, end) for page, start, end in answer["pages"]),
            structured=answer["structured"],
            title=answer["title"],
        )

    async def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.communicate()  # also closes its pipes

    async def _ask(self, frame: bytes) -> dict[str, Any] | None:
        """Send a frame and read the answer; None when the child died over it. A child left in the middle is killed."""
        child = self._child or await self._start()
        self._child = child
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("the parser was started without pipes")
        line = b""
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                child.stdin.write(frame)
                await child.stdin.drain()
                line = await child.stdout.readline()
        finally:
            if not line.endswith(b"\n"):
                await asyncio.shield(self.close())
        answer: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return answer

    async def _start(self) -> asyncio.subprocess.Process:
        # The child gets no secrets of ours: what a hostile file makes of it finds nothing in the environment.
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "retrieval.parse_child",
            str(self._memory_bytes),
            cwd=_ROOT,
            env={name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
        )
