"""Which moment a backup is of, when what it stands on is deleted while it is copied."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cli.backups import catalog, journals, making, manifest
from cli.backups.making import backup
from cli.settings import CliSettings
from tests.support.database import fresh_sqlite

_FILE = (
    "INSERT INTO files (id, tenant_id, creator, filename, purpose, media_type, bytes, sha256, object_key, created_at) "
    "VALUES (?, 'default', 'key:k', 'f', 'user_data', 'text/plain', 1, '', ?, 0.0)"
)


@pytest.fixture
def settings(tmp_path: Path) -> CliSettings:
    """A stack with ten files that does not run."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    fresh_sqlite(data_dir / "stoker.db")
    (data_dir / "objects/files").mkdir(parents=True)
    with sqlite3.connect(data_dir / "stoker.db") as connection:
        connection.execute("INSERT INTO tenants (id, name, created_at) VALUES ('default', 'default', 0.0)")
        for number in range(10):
            connection.execute(_FILE, (f"file_{number}", f"files/file_{number}"))
            (data_dir / f"objects/files/file_{number}").write_text(f"bytes of {number}")
    connection.close()
    return CliSettings(data_dir=data_dir, milvus_uri="http://127.0.0.1:9")


def _remove(settings: CliSettings, number: int, *, told: bool) -> None:
    if told:
        with sqlite3.connect(settings.data_dir / "stoker.db") as connection:
            connection.execute("UPDATE files SET deleted_at = 1.0 WHERE id = ?", (f"file_{number}",))
        connection.close()
    (settings.data_dir / f"objects/files/file_{number}").unlink()


def _objects(folder: Path) -> set[str]:
    return {path.name for path in (folder / manifest.OBJECTS).rglob("*") if path.is_file()}


def test_what_is_deleted_while_it_is_copied_makes_the_backup_one_of_a_later_moment(
    settings: CliSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, calls = catalog.needs, 0

    async def needs(*words: Any) -> catalog.Needs:
        nonlocal calls
        found = await usual(*words)
        if calls == 0:
            _remove(settings, 0, told=True)  # behind the moment, before the copy
        calls += 1
        return found

    monkeypatch.setattr(making.catalog, "needs", needs)
    folder, made = backup(settings, tmp_path / "kept")
    assert (made.rounds, made.lost) == (2, [])
    assert _objects(folder) == {f"file_{number}" for number in range(1, 10)}
    with sqlite3.connect(folder / "sql/stoker.db") as copy:
        assert copy.execute("SELECT count(*) FROM files WHERE deleted_at IS NULL").fetchone() == (9,)
    copy.close()


def test_what_was_copied_and_then_deleted_is_not_kept(
    settings: CliSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, copy, rounds = catalog.needs, journals.copy, 0

    async def needs(*words: Any) -> catalog.Needs:
        found = await usual(*words)
        if rounds == 1:
            _remove(settings, 0, told=True)
        return found

    def begin(*words: Any) -> int:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            _remove(settings, 5, told=True)  # it has been copied by then
        return copy(*words)

    monkeypatch.setattr(making.catalog, "needs", needs)
    monkeypatch.setattr(making.journals, "copy", begin)
    folder, made = backup(settings, tmp_path / "kept")
    assert made.rounds == 2
    assert _objects(folder) == {f"file_{number}" for number in (1, 2, 3, 4, 6, 7, 8, 9)}


def test_what_the_stack_has_lost_is_told_and_all_else_is_kept(settings: CliSettings, tmp_path: Path) -> None:
    _remove(settings, 3, told=False)
    folder, made = backup(settings, tmp_path / "kept")
    assert made.lost == ["files/file_3"]
    assert len(_objects(folder)) == 9


def test_the_newest_backups_stay(settings: CliSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["stoker-1", "stoker-2", "stoker-3"])
    monkeypatch.setattr(making.time, "strftime", lambda *_: next(names))
    for _ in range(3):
        backup(settings, tmp_path / "kept", keep=2)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["stoker-2", "stoker-3"]


def test_a_backup_that_fails_leaves_nothing(settings: CliSettings, tmp_path: Path) -> None:
    (settings.data_dir / "stoker.db").write_bytes(b"no database")
    with pytest.raises(making.CliError, match="can't be made"):
        backup(settings, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []
