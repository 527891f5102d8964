"""Files of metrics are mapped into memory: where they have holes, a full disk ends the process by SIGBUS."""

import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.mmap_dict import MmapedDict

from monitoring.metrics import fill_holes


def holes(file: Path) -> int:
    found = file.stat()
    return max(0, found.st_size - found.st_blocks * 512)


def test_a_worker_that_begins_has_room_for_all_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    own, other = tmp_path / f"counter_{os.getpid()}.db", tmp_path / "counter_1.db"
    kept: list[Any] = [MmapedDict(str(file)) for file in (own, other)]  # type: ignore[no-untyped-call]
    assert holes(own) > 0
    kept[0].write_value("a", 1.0, 0.0)
    fill_holes()
    assert holes(own) == 0
    assert holes(other) > 0, "another process's own affair"
    assert list(kept[0].read_all_values()) == [("a", 1.0, 0.0)]
    for each in kept:
        each.close()


def test_without_a_shared_folder_there_is_nothing_to_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    fill_holes()
