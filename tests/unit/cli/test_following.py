"""What `./stoker ingest --watch` and `--manifest` make of odd folders and files, without a gateway."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import watch as watching
from cli.client import Client
from cli.errors import ApiRefused, CliError
from cli.manifest import read_manifest
from cli.watch import Memory, Watch


class Gateway(Client):
    """Takes everything, and remembers by name."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", "key")
        self.documents: dict[str, str] = {}
        self.refusals: list[ApiRefused] = []

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        return {"status": "succeeded", "documents": [], "name": path}

    def upload(self, path: str, fields: Any, files: Any) -> dict[str, Any]:
        if self.refusals:
            raise self.refusals.pop()
        for name, _, _ in files:
            self.documents[name] = f"doc_{name}"
        return {"job_id": "job", "document_ids": [f"doc_{name}"]}

    def delete(self, path: str) -> dict[str, Any]:
        self.documents = {name: key for name, key in self.documents.items() if not path.endswith(key)}
        return {}


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.md", "far/b.md"):
        path = tmp_path / "notes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "notes"


@pytest.fixture
def follow(gateway: Gateway, folder: Path, tmp_path: Path) -> Watch:
    return Watch(gateway, "notes", folder, Memory(tmp_path / "memory.json"))


def look_often(follow: Watch) -> None:
    for _ in range(4):
        follow.look()


def no_entry(real: Callable[..., Any], place: Path) -> Callable[..., Any]:
    def enter(path: Any = ".", *args: Any, **how: Any) -> Any:
        if Path(path) == place:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **how)

    return enter


def test_documents_of_a_folder_that_cannot_be_read_just_now_are_not_deleted(
    follow: Watch, gateway: Gateway, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_often(follow)
    assert set(gateway.documents) == {"a.md", "far/b.md"}
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(os, "scandir", no_entry(os.scandir, folder / "far"))
        look_often(follow)
    assert set(gateway.documents) == {"a.md", "far/b.md"}
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Path, "stat", no_entry(Path.stat, folder / "a.md"))
        look_often(follow)
    assert set(gateway.documents) == {"a.md", "far/b.md"}
    (folder / "a.md").unlink()
    look_often(follow)
    assert set(gateway.documents) == {"far/b.md"}


def test_a_name_of_any_bytes_or_with_brackets_ends_nothing(follow: Watch, gateway: Gateway, folder: Path) -> None:
    (folder / os.fsdecode(b"\xff.md")).write_text("no text")
    (folder / "[").mkdir()
    (folder / "[" / "red].md").write_text("brackets")
    gateway.refusals.append(ApiRefused(400, "no [/such] thing", None, ""))
    look_often(follow)
    assert set(gateway.documents) == {"a.md", "far/b.md"}


@pytest.mark.parametrize("status", [429, 503])
def test_a_gateway_that_has_too_much_to_do_is_waited_for(
    status: int, gateway: Gateway, folder: Path, tmp_path: Path
) -> None:
    gateway.refusals.append(ApiRefused(status, "later", None, ""))
    looks = iter(range(4))

    def rest(_: float) -> None:
        if next(looks, None) is None:
            raise KeyboardInterrupt

    watching.watch(gateway, "notes", folder, tmp_path / "state", rest=rest)
    assert set(gateway.documents) == {"a.md", "far/b.md"}


def test_a_gateway_that_refuses_altogether_ends_the_watch(gateway: Gateway, folder: Path, tmp_path: Path) -> None:
    gateway.refusals.append(ApiRefused(403, "not yours", None, ""))
    with pytest.raises(ApiRefused, match="not yours"):
        watching.watch(gateway, "notes", folder, tmp_path / "state", rest=lambda _: None)


def test_a_line_of_a_manifest_ends_where_json_lines_do_and_a_mark_at_its_begin_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    file = tmp_path / "all.jsonl"
    file.write_text('\ufeff{"path": "a.md", "title": "One\u2028two\x85three"}\r\n', encoding="utf-8")
    assert [source.name for source in read_manifest(file).files] == ["One\u2028two\x85three"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"path": "a.md", "metadata": ' + '{"a": ' * 100_000, "no JSON"),
        ('{"path": "' + "a" * 5000 + '"}', "there is no file"),
        ('{"url": "https://docs.example/", "title": "\\ud83d"}', "half a character"),
    ],
)
def test_a_line_of_a_manifest_that_is_at_fault_is_named(line: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    file.write_text(line)
    with pytest.raises(CliError, match=f"line 1: .*{words}"):
        read_manifest(file)
