"""An export's folder is whole, or it is not there; a folder that is not whole is not served."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import ExportBroken, FolderRefused
from edge.exporting import ModelFolder, write
from edge.manifest import NAME, Manifest
from tests.unit.edge.records import records

_TEXTS = ("The pier opens at 9.", "Straße mit 𝄞 und Ödipus.", "The ferry Heron leaves at 10.")


@pytest.fixture
def folder(tmp_path: Path, model: ModelFolder) -> Path:
    write(records(_TEXTS), tmp_path / "out", model, None, "0.1.0", 1.0)
    return tmp_path / "out"


def test_an_export_is_whole(folder: Path) -> None:
    manifest = Manifest.read(folder)
    manifest.check(folder)
    assert manifest.documents == 3
    assert manifest.index == {"kind": "flat", "metric": "cosine", "dimensions": 4, "chunks": 3}
    assert manifest.models == {"embedding": "model"}
    assert not any(name.endswith((".py", ".bin")) for name in manifest.files)  # code stays behind


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _link(path: Path) -> None:
    elsewhere = Path(tempfile.mkdtemp()) / "file"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("harm", [_cut, _change, Path.unlink, _link])
def test_each_file_that_was_harmed_is_refused_by_name(
    folder: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    for name in sorted(Manifest.read(folder).files):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        harm(copy / name)
        with pytest.raises(FolderRefused, match=Path(name).name) as refusal:
            Manifest.read(copy).check(copy)
        assert "copy the folder again" in refusal.value.remedy
        shutil.rmtree(copy)


def test_a_file_that_was_put_in_is_refused(folder: Path) -> None:
    (folder / "embedding" / "modeling_evil.py").write_text("print()")
    with pytest.raises(FolderRefused, match="no part of the export"):
        Manifest.read(folder).check(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_manifest_that_was_cut_or_changed_is_refused(folder: Path, data: st.DataObject) -> None:
    whole = (folder / NAME).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = data.draw(st.sampled_from([whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]]))
    other = folder.parent / "other"
    other.mkdir(exist_ok=True)
    (other / NAME).write_bytes(broken)
    with pytest.raises(FolderRefused):
        Manifest.read(other)


def test_a_manifest_that_says_something_else_is_refused(folder: Path) -> None:
    raw = json.loads((folder / NAME).read_text())
    (folder / NAME).write_text(json.dumps({**raw, "documents": 4}))
    with pytest.raises(FolderRefused, match="its checksum is another"):
        Manifest.read(folder)


def test_another_format_is_named_with_the_version_that_reads_it(folder: Path) -> None:
    raw = json.loads((folder / NAME).read_text())
    (folder / NAME).write_text(json.dumps({**raw, "format": 2, "stoker": "9.9.9"}))
    with pytest.raises(FolderRefused, match=r"format 2.*9\.9\.9"):
        Manifest.read(folder)


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderRefused, match="no export"):
        Manifest.read(tmp_path)


def test_records_that_break_off_leave_nothing(tmp_path: Path, model: ModelFolder) -> None:
    whole = list(records(_TEXTS))
    for count in range(len(whole)):
        with pytest.raises(ExportBroken):
            write(whole[:count], tmp_path / "out", model, None, "0.1.0", 1.0)
    error = {"kind": "error", "error": {"message": "Milvus is away"}}
    with pytest.raises(ExportBroken, match="Milvus is away"):
        write([*whole[:3], error], tmp_path / "out", model, None, "0.1.0", 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_gateway_that_lies_about_chunks_is_refused(tmp_path: Path, model: ModelFolder) -> None:
    for lie in ({"end": [10_000]}, {"start": [-1]}, {"document": "doc_9"}, {"held": [1]}, {"dense": ""}):
        lying = [{**one, **lie} if one["kind"] == "chunks" else one for one in records(_TEXTS)]
        with pytest.raises(ExportBroken):
            write(lying, tmp_path / "out", model, None, "0.1.0", 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_interrupted_export_leaves_nothing(tmp_path: Path, model: ModelFolder) -> None:
    def interrupted():  # type: ignore[no-untyped-def]
        yield from list(records(_TEXTS))[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(interrupted(), tmp_path / "out", model, None, "0.1.0", 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
