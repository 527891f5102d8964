"""libfaketime: the installed one, or the one unpacked from Debian's package; has processes believe in another time.

`python -m tests.support.faketime` fetches the package by apt and unpacks it under .stoker/tools, without root;
`./stoker test` does so first.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.process import ROOT

UNPACKED = ROOT / ".stoker" / "tools" / "faketime"
_NAME = "libfaketimeMT.so.1"  # for programs with threads


def _found() -> Path | None:
    for place in (Path("/usr/lib"), UNPACKED):
        for file in sorted(place.glob(f"**/faketime/{_NAME}")):
            return file
    return None


class Clock:
    """The wall clock of processes; their monotonic clock stays as it is, as when a machine's clock is set.

    Args:
        file: holds how far the clock is off; written anew by `jump`.
    """

    def __init__(self, file: Path) -> None:
        library = _found()
        if library is None:
            pytest.skip("libfaketime is not here: run `python -m tests.support.faketime`, or install `libfaketime`")
        self._library = library
        self._file = file
        self.jump(0)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that a process starts with to follow this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: float) -> None:
        """Be so far off from now on; the processes see it within a second."""
        written = self._file.with_suffix(".written")
        written.write_text(f"{seconds:+g}\n")
        written.replace(self._file)


def _unpack() -> int:
    """Fetch it where it is missing. Returns: an exit status."""
    if _found() is not None:
        return 0
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        print("libfaketime: not here, and neither are apt-get and dpkg", file=sys.stderr)
        return 1
    with TemporaryDirectory() as folder:
        fetched = subprocess.run(["apt-get", "download", "libfaketime"], cwd=folder, capture_output=True, text=True)
        files = list(Path(folder).glob("*.deb"))
        if fetched.returncode != 0 or not files:
            print(f"libfaketime could not be fetched: {fetched.stderr.strip()[-300:]}", file=sys.stderr)
            return 1
        UNPACKED.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg", "-x", files[0], UNPACKED], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(_unpack())
