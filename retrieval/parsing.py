"""Parsing and chunking in a process of their own: a file that crashes or hangs them takes down nothing else."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from retrieval.chunking import Chunk, Limits
from retrieval.errors import DocumentRejected
from retrieval.parsers.bounds import Bounds

_ROOT = Path(__file__).parent.parent
_ANSWER_BYTES = 256 * 2**20  # of one answer; what is in it is bounded far below


@dataclass(frozen=True, slots=True)
class Plan:
    """How one file is read and cut.

    Attributes:
        tokenizer: path of the embedder's tokenizer.json; None where tokens are estimated.
        ocr: path of a Python that has the packages for text recognition; None where scans are refused.
    """

    bounds: Bounds = field(default_factory=Bounds)
    limits: Limits = field(default_factory=Limits)
    tokenizer: str | None = None
    ocr: str | None = None


@dataclass(frozen=True, slots=True)
class Digest:
    """A file's normalised text and what it is cut into.

    Attributes:
        pages: (page counted from 1, start, end) in characters, in order; empty where the format has no pages.
        form: what a parser says of the text besides, as `Parsed` has it: `title`, `structured`, `records`, `outline`.
    """

    text: str
    pages: tuple[tuple[int, int, int], ...]
    form: dict[str, Any]
    chunks: list[Chunk]

    @property
    def title(self) -> str | None:
        title: str | None = self.form["title"]
        return title


class Parser:
    """Takes one file at a time in a warm child, which is killed at its deadline and started again for the next file.

    Args:
        deadline_s: for one file.
        memory_bytes: address space of the child.
        max_characters: longest normalised text; comes before what a plan says.
    """

    def __init__(self, deadline_s: float, memory_bytes: int, max_characters: int) -> None:
        self._deadline_s = deadline_s
        self._memory_bytes = memory_bytes
        self._max_characters = max_characters
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def parse(self, data: bytes, media_type: str, filename: str = "", plan: Plan | None = None) -> Digest:
        """Read a file and cut it.

        Raises: DocumentRejected: no text can be had from this file, in time and memory.
        """
        return await self._digest(data, {"media_type": media_type, "filename": filename}, plan or Plan())

    async def cut(
        self,
        text: str,
        pages: Sequence[tuple[int, int, int]],
        form: Mapping[str, Any] | None,
        filename: str,
        plan: Plan,
    ) -> Digest:
        """Cut a text anew that was read from a file once; the text stays as it is.

        Args:
            form: of its digest; None: lines that begin with `#` are taken for headings.

        Raises: DocumentRejected: it takes too much time or memory.
        """
        about = {"pages": list(pages), **(form or {"title": None, "structured": True, "records": False})}
        return await self._digest(text.encode(), {"filename": filename, "parsed": about}, plan)

    async def _digest(self, data: bytes, what: dict[str, Any], plan: Plan) -> Digest:
        header = {
            **what,
            "bytes": len(data),
            "deadline_s": self._deadline_s,
            "bounds": asdict(replace(plan.bounds, characters=self._max_characters)),
            "limits": asdict(plan.limits),
            "tokenizer": plan.tokenizer,
            "ocr": plan.ocr,
        }
        frame = json.dumps(header).encode() + b"\n" + data
        async with self._turn:
            try:
                async with asyncio.timeout(self._deadline_s):
                    warm = self._child is not None
                    answer = await self._ask(frame)
                    if answer is None and warm:  # it may have ended before this file came: that is not the file's fault
                        answer = await self._ask(frame)
            except TimeoutError as error:
                raise DocumentRejected(
                    f"Parsing took longer than {self._deadline_s:g} s and was stopped: split or re-export the file."
                ) from error
        if answer is None:
            raise DocumentRejected(
                f"The parser crashed on this file, perhaps for want of memory ({self._memory_bytes >> 20} MiB for one "
                "file): repair, re-export or split it."
            )
        return _digest(answer)

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
        payload = None
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError):
                child.stdin.write(frame)
                await child.stdin.drain()
                size = int(await child.stdout.readuntil(b"\n"))
                if size <= _ANSWER_BYTES:
                    payload = await child.stdout.readexactly(size)
        finally:
            if payload is None:
                await asyncio.shield(self.close())
        answer: dict[str, Any] | None = orjson.loads(payload) if payload is not None else None
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
        )


def _digest(answer: dict[str, Any]) -> Digest:
    if "rejected" in answer:
        raise DocumentRejected(answer["rejected"])
    if "broken" in answer:  # the setting's fault, not the file's
        raise RuntimeError(answer["broken"])
    text, contexts = answer["text"], answer["contexts"]
    return Digest(
        text=text,
        pages=tuple((page, start, end) for page, start, end in answer["pages"]),
        form=answer["form"],
        chunks=[
            Chunk(text[start:end], start, end, page, contexts[about]) for start, end, page, about in answer["chunks"]
        ],
    )
