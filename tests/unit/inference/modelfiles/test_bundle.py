"""Models in one file: what comes out is what went in, and nothing that the file merely claims."""

import copy
import hashlib
import io
import json
import struct
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.modelfiles import bundle, defaults, unbundle
from inference.modelfiles.errors import BundleRefused, Damaged, DiskFull, ModelFilesError, NameRefused, NotFound
from inference.modelfiles.hub import Hub
from inference.modelfiles.names import ModelName
from inference.modelfiles.pull import pull
from inference.modelfiles.store import Store
from tests.support.hub import FakeHub

TINY = ModelName("acme/tiny")
DATA = b"weights " * 1000
FILES = {"config.json": b"{}", "model.safetensors": DATA}


@pytest.fixture
def there(tmp_path: Path) -> Store:
    """The store of a host that reaches no hub."""
    return Store(tmp_path / "there")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def promise(name: str = "acme/tiny", files: dict[str, bytes] = FILES) -> dict[str, object]:
    listed = [{"path": path, "size": len(data), "sha256": digest(data)} for path, data in files.items()]
    return {"format": 1, "name": name, "source": "a hub", "files": listed}


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


def first(*models: dict[str, object], form: int = 1) -> tuple[tarfile.TarInfo, bytes]:
    return member(bundle.FIRST, json.dumps({"format": form, "models": models}).encode())


def members(files: dict[str, bytes] = FILES) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(f"acme--tiny/{path}", data) for path, data in files.items()]


def written(file: Path, *parts: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(file, "w:", format=form) as archive:
        for info, data in parts:
            archive.addfile(info, io.BytesIO(data))
    return file


def is_empty(store: Store) -> bool:
    return [path for path in store.folder.rglob("*") if path.is_file() and path.name != ".clock"] == []


def test_what_is_exported_there_is_imported_here(
    hub: FakeHub, client: Hub, store: Store, there: Store, tmp_path: Path
) -> None:
    folder = pull(store, client, TINY)
    versioned = ModelName("acme/tiny", revision="v1")
    pull(store, client, versioned)
    file = tmp_path / "models.tar"
    assert [each.manifest.name for each in bundle.export(store, [TINY, versioned, TINY], file)] == [
        "acme/tiny", "acme/tiny@v1",
    ]  # fmt: skip
    assert unbundle.take_in(there, file) == (["acme/tiny", "acme/tiny@v1"], [])
    assert there.verify(TINY) == store.verify(TINY)
    for path in folder.iterdir():
        assert (there.path_of(TINY) / path.name).read_bytes() == path.read_bytes()
    with tarfile.open(file) as archive:
        assert archive.getnames()[:2] == ["stoker-models.json", "acme--tiny/config.json"]
    before = len(hub.asked)
    assert pull(there, client, TINY, refresh=False) == there.path_of(TINY)
    assert len(hub.asked) == before


def test_what_is_there_and_equal_is_left_as_it_is(there: Store, tmp_path: Path) -> None:
    file = written(tmp_path / "b.tar", first(promise()), *members())
    assert unbundle.take_in(there, file) == (["acme/tiny"], [])
    inode = there.path_of(TINY).stat().st_ino
    assert unbundle.take_in(there, file) == ([], ["acme/tiny"])
    assert there.path_of(TINY).stat().st_ino == inode


def test_another_content_takes_the_place_of_what_is_there(there: Store, tmp_path: Path) -> None:
    unbundle.take_in(there, written(tmp_path / "a.tar", first(promise()), *members()))
    other = {"model.safetensors": b"other"}
    unbundle.take_in(there, written(tmp_path / "b.tar", first(promise(files=other)), *members(other)))
    assert there.verify(TINY).size == 5
    assert (there.path_of(TINY) / "model.safetensors").read_bytes() == b"other"


CONFIG, WEIGHTS = members()
HOSTILE: dict[str, tuple[Callable[[], list[tuple[tarfile.TarInfo, bytes]]], type[ModelFilesError]]] = {
    "no manifest": (lambda: members(), BundleRefused),
    "nothing": (list, BundleRefused),
    "another format": (lambda: [first(promise(), form=2), *members()], BundleRefused),
    "a manifest that is no JSON": (lambda: [member(bundle.FIRST, b"{"), *members()], BundleRefused),
    "models that are none": (lambda: [first({"name": 1}), *members()], BundleRefused),
    "a negative size": (
        lambda: [first({**promise(), "files": [{"path": "x", "size": -1, "sha256": digest(b"")}]})], BundleRefused,
    ),
    "a checksum that is none": (
        lambda: [first({**promise(), "files": [{"path": "x", "size": 0, "sha256": "../x"}]})], BundleRefused,
    ),
    "a model without files": (lambda: [first({**promise(), "files": []})], BundleRefused),
    "a model twice": (lambda: [first(promise(), promise()), *members(), *members()], BundleRefused),
    "a name that leaves the folder": (lambda: [first(promise("../tiny"))], NameRefused),
    "a path that leaves the folder": (
        lambda: [first(promise(files={"../../x": b""})), *members({"../../x": b""})], NameRefused,
    ),
    "an absolute path": (
        lambda: [first(promise(files={"/tmp/stoker/x": b""})), *members({"/tmp/stoker/x": b""})], NameRefused,
    ),
    "our own manifest": (
        lambda: [first(promise(files={"stoker.json": b"{}"})), *members({"stoker.json": b"{}"})], BundleRefused,
    ),
    "a file twice in the manifest": (
        lambda: [first({**promise(), "files": [{"path": "x", "size": 0, "sha256": digest(b"")}] * 2})], BundleRefused,
    ),
    "a wrong checksum": (
        lambda: [first(promise()), CONFIG, member("acme--tiny/model.safetensors", b"x" * len(DATA))], BundleRefused,
    ),
    "more bytes than promised": (
        lambda: [first(promise()), CONFIG, member("acme--tiny/model.safetensors", DATA + b"x")], BundleRefused,
    ),
    "fewer bytes than promised": (
        lambda: [first(promise()), CONFIG, member("acme--tiny/model.safetensors", DATA[:-1])], BundleRefused,
    ),
    "a member twice": (lambda: [first(promise()), CONFIG, CONFIG, WEIGHTS], BundleRefused),
    "another member": (lambda: [first(promise()), CONFIG, member("x", b"{}"), WEIGHTS], BundleRefused),
    "an absolute member": (lambda: [first(promise()), member("/etc/x", b"{}"), WEIGHTS], BundleRefused),
    "a member that leaves": (lambda: [first(promise()), member("acme--tiny/../x", b"{}"), WEIGHTS], BundleRefused),
    "a member after the end": (lambda: [first(promise()), *members(), member("x", b"x")], BundleRefused),
    "a member less": (lambda: [first(promise()), CONFIG], BundleRefused),
    "a symbolic link": (
        lambda: [first(promise()), member("acme--tiny/config.json", b"", tarfile.SYMTYPE, "/etc/passwd"), WEIGHTS],
        BundleRefused,
    ),
    "a hard link": (
        lambda: [
            first(promise()), CONFIG,
            member("acme--tiny/model.safetensors", b"", tarfile.LNKTYPE, "acme--tiny/config.json"),
        ],
        BundleRefused,
    ),
    "a device": (lambda: [first(promise()), member("acme--tiny/config.json", b"", tarfile.CHRTYPE)], BundleRefused),
    "a pipe": (lambda: [first(promise()), member("acme--tiny/config.json", b"", tarfile.FIFOTYPE)], BundleRefused),
    "a folder": (lambda: [first(promise()), member("acme--tiny", b"", tarfile.DIRTYPE), *members()], BundleRefused),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_bundle_that_is_not_what_it_should_be_leaves_nothing(there: Store, tmp_path: Path, what: str) -> None:
    parts, error = HOSTILE[what]
    file = written(tmp_path / "b.tar", *(copy.deepcopy(part) for part in parts()))
    with pytest.raises(error):
        unbundle.take_in(there, file)
    assert is_empty(there)
    assert sorted(path.name for path in tmp_path.iterdir()) in (["b.tar"], ["b.tar", "there"])


def test_one_wrong_model_keeps_the_others_out_too(there: Store, tmp_path: Path) -> None:
    good = promise("acme/good", {"model.safetensors": DATA})
    file = written(
        tmp_path / "b.tar", first(good, promise()), member("acme--good/model.safetensors", DATA), CONFIG,
        member("acme--tiny/model.safetensors", b"x" * len(DATA)),
    )  # fmt: skip
    with pytest.raises(BundleRefused, match="wrong checksum"):
        unbundle.take_in(there, file)
    assert is_empty(there)


def test_every_bundle_that_is_cut_is_refused(there: Store, tmp_path: Path) -> None:
    whole = written(tmp_path / "b.tar", first(promise()), *members()).read_bytes()
    end = whole.rindex(b"weights ") + 8  # after it only tar's own zeros follow
    for length in (0, 1, 511, 512, 700, 1024, 1600, 2048, 2600, 3000, end - 1):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(BundleRefused):
            unbundle.take_in(there, tmp_path / "cut.tar")
        assert is_empty(there)


def test_a_header_that_wants_all_memory_is_refused(there: Store, tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    (tmp_path / "b.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048)
    with pytest.raises(BundleRefused, match="at once"):
        unbundle.take_in(there, tmp_path / "b.tar")


def test_a_sparse_member_is_refused(there: Store, tmp_path: Path) -> None:
    info = tarfile.TarInfo("acme--tiny/config.json")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o " % 2  # the size that it would unpack to
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    begin = written(tmp_path / "a.tar", first(promise())).read_bytes()[: 512 + 512 * 2]
    (tmp_path / "b.tar").write_bytes(begin + bytes(header) + struct.pack("1024x"))
    with pytest.raises(BundleRefused):
        unbundle.take_in(there, tmp_path / "b.tar")


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, b"\x1f\x8b" + b"\0" * 600])
def test_what_is_no_bundle_is_refused(there: Store, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(BundleRefused, match="no bundle of models"):
        unbundle.take_in(there, tmp_path / "b.tar")
    with pytest.raises(BundleRefused, match="does not exist"):
        unbundle.take_in(there, tmp_path / "gone.tar")


def test_a_disk_that_fills_is_said_and_nothing_is_left(
    there: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "b.tar", first(promise()), *members())
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(DiskFull, match="make room"):
        unbundle.take_in(there, file)
    monkeypatch.undo()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inference.modelfiles.unbundle.os.fsync", full)
    with pytest.raises(DiskFull, match="is full"):
        unbundle.take_in(there, file)
    assert is_empty(there)


def test_a_damaged_model_is_not_exported_and_verify_names_the_file(client: Hub, store: Store, tmp_path: Path) -> None:
    weights = pull(store, client, TINY) / "model.safetensors"
    weights.write_bytes(b"x" * weights.stat().st_size)
    with pytest.raises(Damaged, match=r"model\.safetensors has a wrong checksum"):
        bundle.export(store, [TINY], tmp_path / "b.tar")
    assert list(tmp_path.glob("*.tar*")) + list(tmp_path.glob(".*.tar*")) == []
    with pytest.raises(Damaged, match=r"model\.safetensors has a wrong checksum"):
        store.verify(TINY)
    (weights.parent / "more.safetensors").write_bytes(b"x")
    (weights.parent / "config.json").unlink()
    with pytest.raises(Damaged, match=r"config\.json is missing.*more\.safetensors does not belong"):
        store.verify(TINY)
    assert [each["state"] for each in store.listed()] == ["damaged"]
    with pytest.raises(NotFound, match="models pull"):
        bundle.export(store, [TINY], tmp_path / "b.tar")


def test_an_existing_file_is_not_written_over(store: Store, client: Hub, tmp_path: Path) -> None:
    pull(store, client, TINY)
    (tmp_path / "b.tar").write_text("mine")
    with pytest.raises(ModelFilesError, match="exists"):
        bundle.export(store, [TINY], tmp_path / "b.tar")
    assert (tmp_path / "b.tar").read_text() == "mine"


def test_default_models_travel_to_a_host_without_their_packages(
    store: Store, there: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    model = site / defaults.EMBEDDING_PACKAGE / "model"
    (model / "1_Pooling").mkdir(parents=True)
    (model / "modules.json").write_text("[]")
    (model / "1_Pooling" / "config.json").write_text("{}")
    (site / defaults.LLM_PACKAGE).mkdir()
    (site / defaults.LLM_PACKAGE / "m.gguf").write_bytes(b"12345")
    for package in (defaults.EMBEDDING_PACKAGE, defaults.LLM_PACKAGE):
        (site / package / "__init__.py").write_text("")
    llm = store.folder / defaults.LLM_NAME  # as an older Stoker made it
    llm.mkdir(parents=True)
    (llm / "stoker.json").write_text('{"source": "m.gguf", "source_bytes": 5}')
    (llm / "model.safetensors").write_bytes(DATA)
    monkeypatch.setattr(sys, "path", [str(site)])
    names = [ModelName(name) for name in defaults.NAMES]
    bundle.export(store, names, tmp_path / "b.tar")

    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ModelFilesError, match="not installed"):
        defaults.prepare(there.folder)
    assert unbundle.take_in(there, tmp_path / "b.tar")[0] == list(defaults.NAMES)
    ready = defaults.prepare(there.folder)
    assert ready == {
        "embedding": {"folder": str(there.folder / "all-minilm-l6-v2"), "name": "all-minilm-l6-v2"},
        "llm": {"folder": str(there.folder / "smollm2-135m"), "name": "smollm2-135m"},
    }
    assert (there.folder / "all-minilm-l6-v2" / "1_Pooling" / "config.json").read_text() == "{}"
    monkeypatch.setattr(sys, "path", [str(site)])
    assert defaults.prepare(there.folder)["llm"] == ready["llm"]  # it is that package's model: nothing is made again
