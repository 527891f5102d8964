"""What is in an export, and whose."""

import shutil
from pathlib import Path

import pytest

from edge.manifest import Manifest
from tests.integration.edge.conftest import COLLECTION, SECRET, Origin
from tests.support import edge

_WORD = b"90210"  # that only the closed document holds


def _holds(folder: Path, word: bytes) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and word in path.read_bytes()]


def test_only_what_everyone_may_read_is_exported(folder: Path) -> None:
    assert Manifest.read(folder).collection["readers"] == ["*"]
    assert _holds(folder / ".", _WORD) == []


def test_a_principals_documents_are_exported_when_asked_for(origin: Origin, tmp_path: Path) -> None:
    to = tmp_path / "theirs"
    said = origin.export(to, "--principal", "user:usr_harbour")
    assert "122 of 122 documents" in said
    assert Manifest.read(to).collection["readers"] == ["*", "user:usr_harbour"]
    assert "texts.utf8" in _holds(to, SECRET.encode())
    assert _holds(to, b"usr_harbour") == ["manifest.json"]  # no document says who else may read it


def test_naming_a_principal_opens_nothing_that_the_key_may_not_read(origin: Origin, tmp_path: Path) -> None:
    to = tmp_path / "mine"
    key = origin.everyone.headers["authorization"].removeprefix("Bearer ")
    said = origin.export(to, "--principal", "user:usr_harbour", key=key)
    assert "121 of" in said
    assert _holds(to, _WORD) == []


@pytest.mark.parametrize("principal", ["usr_harbour", "user:", "*", "user:a\nb", "role:admin"])
def test_a_principal_that_is_none_is_refused(origin: Origin, tmp_path: Path, principal: str) -> None:
    done = edge.export(
        origin.url, origin.desk.gate.key, COLLECTION, "--embedding-model", origin.model, "--output",
        str(tmp_path / "x"), "--principal", principal,
    )  # fmt: skip
    assert done.returncode == 1
    assert "user:ID" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_touched(origin: Origin, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    words = (COLLECTION, "--embedding-model", origin.model, "--output", str(folder))
    done = edge.export(origin.url, origin.desk.gate.key, *words)
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_without_the_models_files_nothing_is_left(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = (COLLECTION, "--embedding-model", str(tmp_path / "empty"), "--output", str(tmp_path / "x"))
    done = edge.export(origin.url, origin.desk.gate.key, *words)
    assert done.returncode == 1
    assert "is no model" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_damaged_copy_is_refused_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with (copy / "texts.utf8").open("r+b") as file:
        file.seek(100)
        file.write(b"X")
    said = edge.refused(copy)
    assert "texts.utf8 is damaged" in said
    assert "what to do" in said


def test_another_models_files_are_refused(folder: Path, tmp_path: Path) -> None:
    """The weights of the first layers exchanged for others: a model of the same form, and of another space."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = copy / "embedding" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    middle, size = len(data) // 2, 20_000_000
    data[middle : middle + size] = data[middle - size : middle]
    weights.write_bytes(data)
    edge.resign(copy)
    assert "is not the all-minilm-l6-v2" in edge.refused(copy)


def test_who_is_not_at_home_needs_a_key(folder: Path, tmp_path: Path) -> None:
    assert "--key" in edge.refused(folder, "--host", "0.0.0.0")
    with edge.serve(folder, tmp_path / "log", env={"STOKER_EDGE_KEY": "open sesame"}, key="open sesame") as served:
        body = {"query": "pier", "collection": COLLECTION}
        assert served.client.post("/v1/search", json=body).status_code == 200
        for headers in ({"authorization": "Bearer open"}, {"authorization": ""}, {"authorization": "Bearer ö"}):
            asked = {name: value.encode() for name, value in headers.items()}
            answer = served.client.post("/v1/search", json=body, headers=asked)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_page_of_elsewhere_reads_nothing_where_no_key_is_asked_for(served: edge.Served) -> None:
    answer = served.client.get("/v1/collections", headers={"host": "attacker.example"})
    assert answer.status_code == 401
    assert served.client.get("/v1/collections").json()["data"][0]["name"] == COLLECTION
