"""The page of names that come and go: whoever holds it for long, as a stopped worker does, keeps nobody."""

import fcntl
from pathlib import Path

import pytest

from monitoring import names
from monitoring.names import NamePage
from monitoring.series import Series


async def test_a_worker_that_was_stopped_with_the_page_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    rests: list[float] = []
    monkeypatch.setattr(names.time, "sleep", rests.append)
    page = NamePage(grace_s=0.0)
    with (tmp_path / names._LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            page.tell({"deployment": {"a"}}, ())
        await Series(page, lambda: {"deployment": {"a"}}).look()
    assert 0 < sum(rests) < 10
    assert not page.tell({"deployment": {"a"}}, ())
    assert page.tell({"deployment": set()}, ()).names == {"deployment": {"a"}}
