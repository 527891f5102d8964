"""A real Chromium for the tests of the console: the installed one, or Debian's headless build, unpacked without root.

`python -m tests.support.chromium` fetches the package, with the libraries that the machine lacks, by apt and unpacks
them under .stoker/tools; `./stoker test` does so first.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.process import ROOT

UNPACKED = ROOT / ".stoker" / "tools" / "chromium"
_PACKAGE = "chromium-headless-shell"
_FONTS = ("fonts-inter", "fonts-dejavu-core")  # with which the pictures of the console are taken
_FONT_FILE = UNPACKED / "fonts.conf"
_INSTALLED = ("chromium", "chromium-browser", "google-chrome")

_FONT_CONFIGURATION = f"""<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{UNPACKED / "usr" / "share" / "fonts"}</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{UNPACKED / "cache"}</cachedir>
</fontconfig>
"""


@dataclass(frozen=True)
class Chromium:
    """Where it is, and what its surroundings must say for it to find its libraries."""

    program: Path
    env: dict[str, str]


def chromium() -> Chromium:
    """The browser; skips the test where it is not here."""
    found = _found()
    if found is None:
        pytest.skip("Chromium is not here: run `python -m tests.support.chromium`, or install Debian's `chromium`")
    return found


def _found() -> Chromium | None:
    for name in _INSTALLED:
        if (installed := shutil.which(name)) is not None:
            return Chromium(Path(installed), dict(os.environ))
    program = UNPACKED / "usr" / "lib" / "chromium" / "chromium-headless-shell"
    if not program.exists():
        return None
    folders = sorted({str(file.parent) for file in (UNPACKED / "usr" / "lib").rglob("*.so*")})
    return Chromium(program, {**os.environ, "LD_LIBRARY_PATH": ":".join(folders), "FONTCONFIG_FILE": str(_FONT_FILE)})


def _unpack() -> int:
    """Fetch what is missing. Returns: an exit status."""
    if _found() is not None:
        return 0
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        print("Chromium: not here, and neither are apt-get and dpkg", file=sys.stderr)
        return 1
    with TemporaryDirectory() as folder:
        fetched = subprocess.run(["apt-get", "download", *_wanted()], cwd=folder, capture_output=True, text=True)
        files = sorted(Path(folder).glob("*.deb"))
        if fetched.returncode != 0 or not files:
            print(f"{_PACKAGE} could not be fetched: {fetched.stderr.strip()[-300:]}", file=sys.stderr)
            return 1
        whole = UNPACKED.with_name("chromium.new")
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir(parents=True)
        for file in files:
            subprocess.run(["dpkg", "-x", file, whole], check=True)
        (whole / _FONT_FILE.name).write_text(_FONT_CONFIGURATION)
        whole.rename(UNPACKED)
    return 0


def _wanted() -> list[str]:
    """The package, and what it needs that is not installed here."""
    told = subprocess.run(
        ["apt-get", "install", "--simulate", "--no-install-recommends", _PACKAGE, *_FONTS],
        capture_output=True,
        text=True,
    )
    lines = [line.split() for line in told.stdout.splitlines()]
    return [words[1] for words in lines if words[:1] == ["Inst"]] or [_PACKAGE]


if __name__ == "__main__":
    sys.exit(_unpack())
