"""Caddy's own program: the installed one, or the one unpacked from Debian's package. `./stoker test` fetches it.

`python -m tests.deploy.programs` unpacks it under .stoker/tools, without root.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.process import ROOT

UNPACKED = ROOT / ".stoker" / "tools" / "caddy"


def caddy() -> str:
    """Where it is; skips the test where it is not here."""
    found = shutil.which("caddy") or shutil.which(UNPACKED / "usr" / "bin" / "caddy")
    if found is None:
        pytest.skip("caddy is not here: run `python -m tests.deploy.programs`, or install Debian's `caddy`")
    return str(found)


def _unpack() -> int:
    """Fetch it where it is missing. Returns: an exit status."""
    if shutil.which("caddy") or (UNPACKED / "usr/bin/caddy").exists():
        return 0
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        print("caddy: not here, and neither are apt-get and dpkg", file=sys.stderr)
        return 1
    with TemporaryDirectory() as folder:
        fetched = subprocess.run(["apt-get", "download", "caddy"], cwd=folder, capture_output=True, text=True)
        files = list(Path(folder).glob("*.deb"))
        if fetched.returncode != 0 or not files:
            print(f"caddy could not be fetched: {fetched.stderr.strip()[-300:]}", file=sys.stderr)
            return 1
        UNPACKED.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg", "-x", files[0], UNPACKED], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(_unpack())
