"""Files of metrics are mapped into memory: where they have holes, a full disk ends the process by SIGBUS."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring.mapped import SolidFile
from tests.support.process import ROOT

_OWN = ("unshare", "--user", "--map-root-user", "--mount", "--kill-child", "--fork")
_COUNTS = "tests.unit.monitoring.counting_on_a_full_disk"


def holes(file: Path) -> int:
    found = file.stat()
    return max(0, found.st_size - found.st_blocks * 512)


def test_a_file_has_room_for_all_that_it_is_long_also_when_it_grew(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    file = SolidFile(str(path))
    assert holes(path) == 0
    for number in range(3000):
        file.write_value(f"series {number}", float(number), 0.0)
    assert path.stat().st_size == 2**17
    assert holes(path) == 0
    assert [value for _, value, _ in file.read_all_values()] == list(range(3000))
    file.close()


def test_a_file_without_room_to_grow_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "counter_1.db"
    file = SolidFile(str(path))
    file.write_value("a", 1.0, 0.0)

    def refuse(handle: int, _: int, wanted: int) -> None:
        os.ftruncate(handle, wanted)  # as some file systems do before they find that there is no room
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="no space left"):
        file.write_value("b" * 2**17, 1.0, 0.0)
    assert path.stat().st_size == 2**16
    assert list(file.read_all_values()) == [("a", 1.0, 0.0)]
    file.close()


def test_who_counts_on_a_full_disk_goes_on_and_tells_all_of_it_when_there_is_room(tmp_path: Path) -> None:
    """On a real file system, mounted where only this process sees it."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    if shutil.which("unshare") is None or subprocess.run([*_OWN, "sh", "-c", mount], check=False).returncode != 0:
        pytest.skip("no file system can be mounted here: unshare, or user namespaces, are not allowed")
    command = f"{mount} && exec {sys.executable} -m {_COUNTS} {tmp_path}"
    done = subprocess.run([*_OWN, "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    told = json.loads(done.stdout)
    assert told == {
        "while full": {"old": 5, "in files": 3, "empty": []},
        "with room": {"old": 6, "new": 1500, "late": 1, "in memory": 0},
    }
