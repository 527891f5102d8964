"""Prometheus's and Alertmanager's own programs: the installed ones, or those unpacked from Debian's packages.

`python -m tests.support.promtool` fetches the packages by apt and unpacks them under .stoker/tools, without root.
"""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.process import ROOT

UNPACKED = ROOT / ".stoker" / "tools" / "prometheus"
_PACKAGES = {"prometheus": "prometheus", "promtool": "prometheus", "amtool": "prometheus-alertmanager"}
_DEADLINE_S = 120.0


def program(name: str) -> str:
    """Where it is; skips the test where it is not here."""
    found = shutil.which(name) or shutil.which(UNPACKED / "usr" / "bin" / name)
    if found is None:
        package = _PACKAGES[name]
        pytest.skip(f"{name} is not here: run `python -m tests.support.promtool`, or install Debian's `{package}`")
    return str(found)


def promtool(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it in a folder; skips the test where it is not here."""
    return run("promtool", *arguments, folder=folder)


def run(name: str, *arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one of the programs in a folder."""
    command = [program(name), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)


def _unpack() -> None:
    for package in sorted(set(_PACKAGES.values())):
        with TemporaryDirectory() as folder:
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
            (file,) = Path(folder).glob("*.deb")
            UNPACKED.mkdir(parents=True, exist_ok=True)
            subprocess.run(["dpkg", "-x", file, UNPACKED], check=True)


if __name__ == "__main__":
    _unpack()
