"""kubectl, whose kustomize renders k8s/: the installed one, or one that is unpacked from Debian's packages.

`python -m tests.support.kubectl` fetches a package by apt and unpacks it under .stoker/tools, without root; `./stoker
test` does so first. Debian 12's own is too old: it knows no components.
"""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.process import ROOT

UNPACKED = ROOT / ".stoker" / "tools" / "kubectl"
_PACKAGES = ("kubectl", "kubernetes-client")
_DEADLINE_S = 120.0
_MAJOR = 4
"""Of kustomize, from which on it knows components and `replicas` of StatefulSets."""


@cache
def program() -> str:
    """Where it is; skips the test where none that is new enough is here."""
    for found in (shutil.which("kubectl"), shutil.which(UNPACKED / "usr" / "bin" / "kubectl")):
        if found is not None and _is_new(str(found)):
            return str(found)
    pytest.skip("no kubectl with kustomize 4 is here: run `python -m tests.support.kubectl`, or install one")


@cache
def kustomize(folder: Path) -> str:
    """What a folder renders to, as YAML. Raises: AssertionError: nothing; the message says why."""
    command = [program(), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _is_new(found: str) -> bool:
    asked = subprocess.run([found, "version", "--client", "-o", "json"], capture_output=True, text=True, check=False)
    try:
        version = str(json.loads(asked.stdout)["kustomizeVersion"])
    except (ValueError, LookupError):
        return False
    return int(version.removeprefix("v").partition(".")[0]) >= _MAJOR


def _unpack() -> int:
    """Fetch what is missing. Returns: an exit status."""
    here = (shutil.which("kubectl"), shutil.which(UNPACKED / "usr" / "bin" / "kubectl"))
    if any(found is not None and _is_new(str(found)) for found in here):
        return 0
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        print("kubectl: not here, and neither are apt-get and dpkg", file=sys.stderr)
        return 1
    for package in _PACKAGES:
        with TemporaryDirectory() as folder:
            subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, check=False)
            for file in Path(folder).glob("*.deb"):
                UNPACKED.mkdir(parents=True, exist_ok=True)
                subprocess.run(["dpkg", "-x", file, UNPACKED], check=True)
                found = shutil.which(UNPACKED / "usr" / "bin" / "kubectl")
                if found is not None and _is_new(str(found)):
                    return 0
    print("no package of kubectl with kustomize 4 could be fetched", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(_unpack())
