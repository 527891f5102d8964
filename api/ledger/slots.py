"""Requests under way, in a file mapped into memory, so that they survive their worker.

A slot's state is written last when it is claimed and first when it is freed: a kill at any moment leaves either
nothing or a line that can be read. Each counter is one aligned store. A line that is too long for one slot goes on in
others, whose own state stays free.
"""

import mmap
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import orjson

from api.ledger.errors import LedgerFull
from api.ledger.files import FILE_MODE
from api.ledger.line import Line, as_json, from_json
from core.money import Price
from core.usage import Usage
from monitoring.logs import logger

SLOT_BYTES = 1024
BLOCK_SLOTS = 4096
_BLOCK_BYTES = SLOT_BYTES * BLOCK_SLOTS

_FREE, _CLAIMED = 0, 1
_HEADER = struct.Struct("BxxxIII")  # state; of the text: CRC-32, length, the slot where it goes on, from 1
_COUNTERS = struct.Struct(
    "QQQ"
)  # cached, in, out: stored in this order, so that a cost between two stores is no higher
_TEXT = _HEADER.size + _COUNTERS.size
_ROOM = SLOT_BYTES - _TEXT
_NOWHERE = bytearray(SLOT_BYTES)  # takes what is counted after the end, so that it reaches nobody else's slot
_log = logger(__name__)


class Slot:
    """One claimed place; of one event loop."""

    __slots__ = ("_counters", "_indexes", "_memory", "_slots")

    def __init__(self, slots: "Slots", indexes: list[int], memory: mmap.mmap, offset: int) -> None:
        self._slots = slots
        self._indexes = indexes
        self._memory: mmap.mmap | bytearray = memory
        self._counters = offset + _HEADER.size

    def count(self, tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> None:
        """Say how many tokens it is in all so far, each 0 to 2^64 - 1; after the end this does nothing."""
        _COUNTERS.pack_into(self._memory, self._counters, tokens_cached, tokens_in, tokens_out)

    def free(self) -> None:
        """Give the place back; once more does nothing."""
        if self._indexes:
            self._memory[self._counters - _HEADER.size] = _FREE
            self._memory, self._counters = _NOWHERE, _HEADER.size
            self._slots.put_back(self._indexes)
            self._indexes = []


class Slots:
    """The slots of one worker, in a new file that grows by blocks; whoever opens it closes it.

    Raises: OSError: the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)
        self._blocks: list[mmap.mmap] = []
        self._free: list[int] = []
        self._grow()

    def claim(self, line: Line, price: Price) -> Slot:
        """Keep a line that has begun. Raises: LedgerFull."""
        text = orjson.dumps([price.prompt, price.cached, price.completion]) + as_json(line)
        pieces = range(0, len(text), _ROOM)
        while len(self._free) < len(pieces):
            try:
                self._grow()
            except OSError as error:
                _log.error("a request is refused: the ledger's folder has no room", reason=str(error))
                raise LedgerFull("this gateway has no room to account for another request; try again later") from error
        indexes = [self._free.pop() for _ in pieces]
        crc, following = zlib.crc32(text), 0
        for index, start in zip(reversed(indexes), reversed(pieces), strict=True):
            memory, offset = self._blocks[index // BLOCK_SLOTS], index % BLOCK_SLOTS * SLOT_BYTES
            piece = text[start : start + _ROOM]
            _HEADER.pack_into(memory, offset, _FREE, crc, len(text), following)
            memory[offset + _TEXT : offset + _TEXT + len(piece)] = piece
            following = index + 1
        slot = Slot(self, indexes, memory, offset)
        slot.count(line.tokens_in, line.tokens_out, line.tokens_cached)
        memory[offset] = _CLAIMED
        return slot

    def put_back(self, indexes: list[int]) -> None:
        """Take freed slots back; called by their `Slot`."""
        self._free += indexes

    @property
    def claimed(self) -> int:
        """Slots in use."""
        return len(self._blocks) * BLOCK_SLOTS - len(self._free)

    def close(self) -> None:
        for block in self._blocks:
            block.close()
        os.close(self._file)

    def _grow(self) -> None:
        """Add a block of free slots, written out so that a full disk shows here and not as SIGBUS later."""
        start = len(self._blocks) * _BLOCK_BYTES
        if os.pwrite(self._file, bytes(_BLOCK_BYTES), start) != _BLOCK_BYTES:
            raise OSError("the disk is full")
        self._blocks.append(mmap.mmap(self._file, _BLOCK_BYTES, offset=start))
        first = (len(self._blocks) - 1) * BLOCK_SLOTS
        self._free += range(first + BLOCK_SLOTS - 1, first - 1, -1)


def recover(path: Path) -> list[Line]:
    """What a dead worker left: its claimed slots as lines with the outcome `lost`.

    They hold the tokens counted so far, at the price that was kept with the line. What cannot be read is logged.
    """
    data = path.read_bytes()
    lines = []
    for offset in range(0, len(data) - SLOT_BYTES + 1, SLOT_BYTES):
        if data[offset] == _CLAIMED:
            line = _read(data, offset)
            if line is None:
                _log.error("a slot of a dead worker cannot be read", file=path.name, offset=offset)
            else:
                lines.append(line)
    return lines


def _read(data: bytes, offset: int) -> Line | None:
    _, crc, length, following = _HEADER.unpack_from(data, offset)
    cached, tokens_in, tokens_out = _COUNTERS.unpack_from(data, offset + _HEADER.size)
    text = data[offset + _TEXT : offset + _TEXT + min(length, _ROOM)]
    while len(text) < length and following:
        start = (following - 1) * SLOT_BYTES
        piece = data[start + _TEXT : start + _TEXT + min(length - len(text), _ROOM)]
        following = _HEADER.unpack_from(data, start)[3] if piece else 0
        text += piece
    if zlib.crc32(text) != crc or len(text) != length:
        return None
    price, bracket, fields = text.partition(b"]")
    usage = Usage(tokens_in, tokens_out, cached)
    return _lost(from_json(fields), usage, Price(*orjson.loads(price + bracket)))


def _lost(line: Line, usage: Usage, price: Price) -> Line:
    return replace(
        line,
        tokens_in=usage.prompt_tokens,
        tokens_cached=usage.cached_tokens,
        tokens_out=usage.completion_tokens,
        nano_usd=price.nano_usd(usage),
        outcome="lost",
    )
