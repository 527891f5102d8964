"""promtool, which checks and tests Prometheus's rules: the installed one, or one unpacked from Debian's package.

`python -m tests.support.promtool` fetches that package by apt and unpacks it under .stoker/tools, without root.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.process import ROOT

UNPACKED = ROOT / ".stoker" / "tools" / "prometheus"
_DEADLINE_S = 120.0


def promtool(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it in a folder; skips the test where it is not here."""
    found = shutil.which("promtool") or shutil.which(UNPACKED / "usr" / "bin" / "promtool")
    if found is None:
        pytest.skip("promtool is not here: run `python -m tests.support.promtool`, or install Debian's `prometheus`")
    return subprocess.run(
        [found, *arguments], cwd=folder, capture_output=True, text=True, timeout=_DEADLINE_S, check=False
    )


def _unpack() -> None:
    with TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "prometheus"], cwd=folder, check=True)
        (package,) = Path(folder).glob("*.deb")
        UNPACKED.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg", "-x", package, UNPACKED], check=True)


if __name__ == "__main__":
    _unpack()
    sys.exit(0 if (UNPACKED / "usr" / "bin" / "promtool").exists() else 1)
