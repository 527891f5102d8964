"""Prometheus's and Alertmanager's own programs: the installed ones, or those unpacked from Debian's packages.

`python -m tests.support.promtool` fetches the packages by apt and unpacks them under .stoker/tools, without root;
`./stoker test` does so first.
"""

import shutil
import subprocess
import sys
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


def _unpack() -> int:
    """Fetch what is missing. Returns: an exit status."""
    missing = [name for name in _PACKAGES if shutil.which(name) is None and not (UNPACKED / "usr/bin" / name).exists()]
    if not missing:
        return 0
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        print(f"{', '.join(missing)}: not here, and neither are apt-get and dpkg", file=sys.stderr)
        return 1
    for package in sorted({_PACKAGES[name] for name in missing}):
        with TemporaryDirectory() as folder:
            fetched = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True)
            files = list(Path(folder).glob("*.deb"))
            if fetched.returncode != 0 or not files:
                print(f"{package} could not be fetched: {fetched.stderr.strip()[-300:]}", file=sys.stderr)
                return 1
            UNPACKED.mkdir(parents=True, exist_ok=True)
            subprocess.run(["dpkg", "-x", files[0], UNPACKED], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(_unpack())
