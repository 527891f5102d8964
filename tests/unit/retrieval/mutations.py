"""Files broken in the ways in which files break, and in which attackers break them."""

import io
import random
import zipfile
import zlib
from collections.abc import Callable

_PIECES = (
    *(b"\x00", b"\xff" * 4, b"<", b"]]>", b"&e;", b"{", b"}" * 50, b"\\bin99999", b"=?utf-8?q?", b"9" * 40, b"-1"),
    *(b"A1:XFD1048576", b'number-rows-repeated="99999999"', b"<a>" * 600, b"\xed\xa0\x80", b"\r\n.\r\n", b"../../x"),
)


def mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """The file with one to three mutations.

    Args:
        other: a file to take pieces of.
    """
    for _ in range(chance.randint(1, 3)):
        if data[:2] == b"PK" and chance.random() < 0.6:
            data = _with_other_parts(data, other, chance)
        else:
            data = chance.choice(_MUTATIONS)(data, other, chance)
    return data


def _flipped(data: bytes, _other: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 3, 30))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _truncated(data: bytes, _other: bytes, chance: random.Random) -> bytes:
    return data[: chance.randint(0, len(data))]


def _spliced(data: bytes, other: bytes, chance: random.Random) -> bytes:
    place, start = chance.randint(0, len(data)), chance.randint(0, len(other))
    piece = other[start : start + chance.randint(0, 2000)]
    return data[:place] + piece + data[place + chance.choice((0, len(piece))) :]


def _inserted(data: bytes, _other: bytes, chance: random.Random) -> bytes:
    place = chance.randint(0, len(data))
    return data[:place] + chance.choice(_PIECES) + data[place:]


def _repeated(data: bytes, _other: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    piece = data[start : start + chance.randint(1, 300)]
    return data[:start] + piece * chance.choice((2, 50, 2000)) + data[start:]


_MUTATIONS: tuple[Callable[[bytes, bytes, random.Random], bytes], ...] = (
    _flipped,
    _truncated,
    _spliced,
    _inserted,
    _repeated,
)


def _with_other_parts(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """A ZIP file of which a part is mutated, lost, doubled or swapped for another."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, RuntimeError, EOFError, ValueError):
        return _flipped(data, other, chance)
    if not parts:
        return data
    number = chance.randrange(len(parts))
    name, content = parts[number]
    match chance.randrange(5):
        case 0:
            del parts[number]
        case 1:
            parts[number] = (name, parts[chance.randrange(len(parts))][1])
        case 2:
            parts[number] = (name, b" " * 20_000_000)
        case _:
            parts[number] = (name, chance.choice(_MUTATIONS)(content, other, chance))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, text in parts:
            archive.writestr(zipfile.ZipInfo(each), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
