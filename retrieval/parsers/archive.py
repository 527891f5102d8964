"""ZIP files that may be bombs: parts are decompressed piece by piece, and counted."""

import io
import zipfile
import zlib
from collections.abc import Iterator

from retrieval.errors import DocumentRejected
from retrieval.parsers.bounds import Bounds

_PIECE_BYTES = 2**16
_MAX_RATIO = 250  # decompressed to compressed; real documents reach about 30, deflate at most 1,032
_RATIO_FREE_BYTES = 8 * 2**20  # below this the ratio says nothing: a form with a thousand empty rows is no bomb
_ENCRYPTED = 0x1
_BROKEN = "The file is damaged or was cut off on its way ({detail}): send it again, or save it anew."


class Archive:
    """Reads parts of a ZIP file.

    Raises: DocumentRejected: it is cut off, damaged or encrypted, or unpacks to more than `bounds` allow.
    """

    def __init__(self, data: bytes, bounds: Bounds) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
            raise DocumentRejected(_BROKEN.format(detail="its table of contents can't be read")) from error
        self._names = frozenset(self._zip.namelist())
        self._left = bounds.unpacked_bytes
        self._limit = bounds.unpacked_bytes

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def names(self) -> frozenset[str]:
        """The names of all parts."""
        return self._names

    def pieces(self, name: str) -> Iterator[bytes]:
        """A part in pieces; what is read of all parts counts together."""
        entry = self._zip.getinfo(name)
        if entry.flag_bits & _ENCRYPTED:
            raise DocumentRejected("The file is encrypted: save a copy without a password.")
        unpacked = 0
        try:
            with self._zip.open(entry) as part:
                while piece := part.read(_PIECE_BYTES):
                    unpacked += len(piece)
                    self._left -= len(piece)
                    if self._left < 0:
                        raise DocumentRejected(
                            f"The file unpacks to more than {self._limit:,} bytes, the limit: split it."
                        )
                    if unpacked > _RATIO_FREE_BYTES and unpacked > _MAX_RATIO * entry.compress_size:
                        raise DocumentRejected(
                            f"The file unpacks to more than {_MAX_RATIO} times its size, as no document does: "
                            "save it anew, or send its text."
                        )
                    yield piece
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            raise DocumentRejected(_BROKEN.format(detail=f"its part {name} can't be unpacked")) from error
