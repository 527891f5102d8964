"""A backup's folder: what is believed of it, and what no backup has in it."""

import json
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from api.ledger import journal
from api.ledger.files import Files
from cli.backups import journals, manifest, note, told, vectors
from cli.backups.making import clean, kept
from cli.backups.manifest import Manifest
from cli.backups.restoring import restore, undo
from cli.errors import CliError
from cli.settings import CliSettings
from retrieval.index import Place, Row
from storage.migrate import revisions


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    folder = tmp_path / "backup"
    for name in ("objects/sources/src_1", "sql/stoker.db", "vectors/col_1/rev_1.jsonl.gz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 100)
    manifest.seal(folder, Manifest("backup_1", 1.0, "0.1.0", revisions()[-1], "sqlite", [], [], 1, 1, 1, 1))
    return folder


def _flip(folder: Path) -> None:
    file = folder / "objects/sources/src_1"
    data = bytearray(file.read_bytes())
    data[50] ^= 1
    file.write_bytes(bytes(data))


def _told(folder: Path, **changes: object) -> None:
    about = json.loads((folder / manifest.MANIFEST).read_text())
    (folder / manifest.MANIFEST).write_text(json.dumps({**about, **changes}))


def _sums(folder: Path, change: Callable[[str], str]) -> None:
    (folder / manifest.SUMS).write_text(change((folder / manifest.SUMS).read_text()))


_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (_flip, "src_1 is damaged"),
    "a file is gone": (lambda folder: (folder / "sql/stoker.db").unlink(), "not whole: sql/stoker.db is missing"),
    "a file is empty": (lambda folder: (folder / "sql/stoker.db").write_bytes(b""), "stoker.db is damaged"),
    "a file is strange": (lambda folder: (folder / "objects/other").write_bytes(b"x"), "is no part of the backup"),
    "a link": (lambda folder: (folder / "objects/other").symlink_to("/etc/passwd"), "is no plain file"),
    "the sums are gone": (lambda folder: (folder / manifest.SUMS).unlink(), "can't be read"),
    "the sums end early": (lambda folder: _sums(folder, lambda text: text[: len(text) // 2]), "SHA256SUMS is damaged"),
    "the sums lack a file": (
        lambda folder: _sums(folder, lambda text: "".join(text.splitlines(keepends=True)[1:])),
        "SHA256SUMS is not whole|is no part of the backup",
    ),
    "the sums lead elsewhere": (
        lambda folder: _sums(folder, lambda text: text + f"{'0' * 64}  ../../etc/passwd\n"),
        "SHA256SUMS is damaged",
    ),
    "the manifest is cut": (lambda folder: (folder / manifest.MANIFEST).write_text('{"format": 1,'), "is damaged"),
    "the manifest is altered": (lambda folder: _told(folder, schema="0001"), "manifest.json is damaged"),
    "the manifest is no object": (lambda folder: (folder / manifest.MANIFEST).write_text("[]"), "is damaged"),
    "the manifest is gone": (lambda folder: (folder / manifest.MANIFEST).unlink(), "it has no manifest.json"),
    "another format": (lambda folder: _told(folder, format=9), "has format 9"),
}


@pytest.mark.parametrize("what", _DAMAGES)
def test_a_backup_that_is_not_as_it_was_written_is_refused_with_the_remedy(backup: Path, what: str) -> None:
    assert manifest.read(backup).id == "backup_1"
    damage, said = _DAMAGES[what]
    damage(backup)
    with pytest.raises(CliError, match=said) as refused:
        manifest.read(backup)
    assert refused.value.remedy


@pytest.mark.parametrize("what", ["one bit", "the manifest is cut"])
def test_a_damaged_backup_changes_nothing(backup: Path, tmp_path: Path, what: str) -> None:
    _DAMAGES[what][0](backup)
    with pytest.raises(CliError):
        restore(CliSettings(data_dir=tmp_path / "new"), backup)
    assert not (tmp_path / "new").exists()


def test_a_backup_of_a_newer_schema_or_of_another_database_is_refused(backup: Path, tmp_path: Path) -> None:
    settings = CliSettings(data_dir=tmp_path / "new")
    for changes, said in (({"schema": "9999"}, "does not know"), ({"sql": "postgresql"}, "is of postgresql")):
        other = tmp_path / str(changes)
        shutil.copytree(backup, other)
        about = json.loads((other / manifest.MANIFEST).read_text())
        manifest.seal(other, Manifest(**{**about, **changes}))
        with pytest.raises(CliError, match=said):
            restore(settings, other)
    assert not (tmp_path / "new").exists()


def test_an_interrupted_restore_keeps_a_stack_from_starting_and_says_what_to_do(tmp_path: Path) -> None:
    note.require_none(tmp_path)
    note.Note("backup_1", "/kept/backup", [Place("col_1", None, 2), Place("col_2", "pool", 0)], ["col_1_g2"]).save(
        tmp_path
    )
    with pytest.raises(CliError) as refused:
        note.require_none(tmp_path)
    assert "/kept/backup again" in refused.value.remedy
    assert "--undo" in refused.value.remedy
    found = note.load(tmp_path)
    assert found is not None
    assert [place.name for place in found.places] == ["col_1_g2", "pool"]


def test_there_is_nothing_to_undo_where_nothing_was_interrupted(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="was interrupted"):
        undo(CliSettings(data_dir=tmp_path / "new", milvus_uri="http://127.0.0.1:9"))


def test_no_secret_is_in_the_settings_that_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "STOKER_DATABASE_URL": "postgresql+asyncpg://me:hush-1@db/stoker",
        "STOKER_REDIS_URL": "redis://:hush-2@cache/0",
        "STOKER_API_KEY": "hush-3",
        "STOKER_MILVUS_URI": "http://me:hush-4@milvus:19530",
        "STOKER_SOMETHING_NEW": "hush-5",
        "STOKER_BUDGET_WEBHOOK": "https://hooks.example/hush-6",
    }
    for name, value in {**secrets, "STOKER_PORT": "8181"}.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "stoker.yaml"
    config.write_text(
        "model_list:\n"
        "  - model_name: a\n"
        "    litellm_params: {model: openai/a, api_key: hush-7, extra_headers: {x-any: hush-8}}\n"
        "  - model_name: b\n"
        "    litellm_params: {model: openai/b, api_key: os.environ/B_KEY, aws_secret_access_key: hush-9}\n"
    )
    text = told.as_text(config)
    assert "hush" not in text
    found = json.loads(text)
    assert found["environment"]["STOKER_PORT"] == "8181"
    assert set(secrets) <= set(found["left_out"])
    assert found["configuration"]["model_list"][1]["litellm_params"]["api_key"] == "os.environ/B_KEY"


def test_rows_come_back_bit_by_bit(tmp_path: Path) -> None:
    dense = np.random.default_rng(1).normal(size=384).astype(np.float32)
    rows = [
        Row(
            f"rev_1_{at}",
            "rev_1",
            "doc_1",
            "t",
            "col_1",
            ["*"],
            "a\n.txt",
            at,
            at + 5,
            None,
            "té\0xt",
            {"y": [1]},
            dense,
            {7: 0.1},
        )
        for at in range(7)
    ]
    vectors.write(tmp_path / "pool/rev_1.jsonl.gz", rows)
    parts = list(vectors.read(tmp_path / "pool/rev_1.jsonl.gz", 3))
    assert [len(part) for part in parts] == [3, 3, 1]
    for before, after in zip(rows, chain(*parts), strict=True):
        assert (before.dense.tobytes(), before.sparse) == (after.dense.tobytes(), after.sparse)
        assert before.text == after.text


def test_lines_of_a_living_worker_are_copied_whole_and_laid_down_as_a_dead_ones(tmp_path: Path) -> None:
    live, copied, laid = tmp_path / "live", tmp_path / "copied", tmp_path / "laid"
    live.mkdir()
    files = Files(live, "host.1.abc")
    files.lock.touch()
    files.journal(1).write_bytes(b"first\n")
    files.journal(2).write_bytes(b"second\nhalf of the thi")
    files.slots.write_bytes(b"\0" * 10)
    assert journals.copy(live, copied) == len(b"first\nsecond\n")
    assert journals.lay(copied, laid) == 2
    there = Files(laid, "host.1.abc")
    assert there.lock.exists()
    assert [path.read_bytes() for path in there.journals()] == [b"first\n", b"second\n"]
    assert [offset for path in there.journals() for _, offset in journal.read(path, 0, ended=True)] == [6, 7]


def test_what_a_killed_backup_left_goes_and_whole_ones_stay(tmp_path: Path) -> None:
    dead, living = (f".stoker-20260101T000000Z.{pid}.partial" for pid in (999_999_999, 1))
    for name in (dead, living, "stoker-1", "stoker-2", "x"):
        (tmp_path / name).mkdir()
    for name in ("stoker-2", "stoker-1"):
        (tmp_path / name / manifest.SUMS).touch()
    (tmp_path / "stoker-3").mkdir()  # nobody's whole one
    clean(tmp_path)
    assert not (tmp_path / dead).exists()
    assert (tmp_path / living).exists()
    assert [path.name for path in kept(tmp_path)] == ["stoker-1", "stoker-2"]
