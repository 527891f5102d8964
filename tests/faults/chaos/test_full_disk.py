"""The disk of all data runs full under mixed load, and has room again."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.chaos.trial import Figure
from tests.support.process import ROOT

pytestmark = pytest.mark.long  # every part is started, on a machine that may be slow

_SIZE_MIB = 192
_OWN = ("unshare", "--user", "--map-root-user", "--mount", "--kill-child", "--fork")


def test_a_full_disk_costs_no_line_and_no_document(tmp_path: Path, figure: Figure) -> None:
    """On a small tmpfs, mounted where only these processes see it."""
    probe = f"mount -t tmpfs -o size={_SIZE_MIB}m tmpfs {tmp_path}"
    if shutil.which("unshare") is None or subprocess.run([*_OWN, "sh", "-c", probe], check=False).returncode != 0:
        pytest.skip("no file system can be mounted here: unshare, or user namespaces, are not allowed")
    command = f"{probe} && exec {sys.executable} -m tests.faults.chaos.full_disk {tmp_path}"
    done = subprocess.run(
        [*_OWN, "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    for line in done.stdout.splitlines():
        figure(f"tmpfs of {_SIZE_MIB} MiB: {line}")
