"""A model comes whole, or it does not come; what went wrong has a remedy."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from inference import models
from inference.modelfiles import gguf
from inference.modelfiles.claims import WORK
from inference.modelfiles.errors import (
    ChecksumWrong,
    Damaged,
    DiskFull,
    Gated,
    HubAway,
    ModelFilesError,
    NameRefused,
    NotFound,
    NoWeights,
)
from inference.modelfiles.hub import Hub
from inference.modelfiles.names import ModelName
from inference.modelfiles.pull import pull
from inference.modelfiles.says import Progress
from inference.modelfiles.store import Store
from tests.support.hub import COMMIT, FakeHub, Model
from tests.support.process import ROOT
from tests.unit.inference.modelfiles.conftest import WEIGHTS, small_model

TINY = ModelName("acme/tiny")
KEY = f"acme--tiny~{COMMIT[:12]}"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def nothing_published(store: Store) -> bool:
    return [path.name for path in store.folder.glob("*") if path.name != WORK] == []


def test_a_model_comes_with_what_it_needs_and_a_manifest(hub: FakeHub, client: Hub, store: Store) -> None:
    folder = pull(store, client, TINY)
    assert files(folder) == ["config.json", "model.safetensors", "stoker.json", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    manifest = json.loads((folder / "stoker.json").read_text())
    assert (manifest["name"], manifest["source"], manifest["commit"]) == ("acme/tiny", hub.url, COMMIT)
    assert [(each["path"], each["size"]) for each in manifest["files"]] == [
        ("config.json", 23), ("model.safetensors", len(WEIGHTS)), ("tokenizer.json", 2),
    ]  # fmt: skip
    assert store.verify(TINY).commit == COMMIT
    assert list((store.folder / WORK).glob("[!.]*")) == []


def test_what_is_there_is_not_fetched_again(hub: FakeHub, client: Hub, store: Store) -> None:
    folder = pull(store, client, TINY)
    asked = len(hub.asked)
    assert pull(store, client, TINY, refresh=False) == folder
    assert len(hub.asked) == asked  # not even asked
    assert pull(store, client, TINY) == folder
    assert [path for _, path, _ in hub.asked[asked:]] == ["/api/models/acme/tiny"]


def test_a_new_commit_takes_the_old_one_s_place(hub: FakeHub, client: Hub, store: Store) -> None:
    pull(store, client, TINY)
    hub.models["acme/tiny"] = Model({"model.safetensors": b"new", "config.json": b"{}"}, commit="b" * 40)
    folder = pull(store, client, TINY)
    assert (folder / "model.safetensors").read_bytes() == b"new"
    assert files(folder) == ["config.json", "model.safetensors", "stoker.json"]
    assert store.verify(TINY).commit == "b" * 40
    assert list((store.folder / WORK).glob("[!.]*")) == []


def test_progress_is_said_twice_a_second_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    progress = Progress("pull", "fetching", 100, clock=lambda: now_s)
    for _ in range(100):
        progress.add(1)
        now_s += 0.125
    progress.end()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 26
    assert [line["bytes"] for line in lines[:3]] == [1, 5, 9]
    assert lines[-1] == {"step": "pull", "message": "fetching", "bytes": 100, "total": 100, "done": True}


def test_progress_is_that_of_the_whole_model(client: Hub, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    pull(store, client, TINY)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    of_bytes = [line for line in lines if "bytes" in line]
    total = len(WEIGHTS) + 25
    assert {line["total"] for line in of_bytes} == {total}
    assert of_bytes[-1]["bytes"] == total
    assert of_bytes[-1]["done"]


def test_a_cut_connection_is_gone_on_with_and_no_byte_comes_twice(hub: FakeHub, client: Hub, store: Store) -> None:
    hub.cut["model.safetensors"] = [100_000, 50_000, 0, 0, 1000]
    pull(store, client, TINY)
    assert store.verify(TINY)
    assert hub.served["model.safetensors"] == len(WEIGHTS)
    asked = [headers.get("range") for name, path, headers in hub.asked if name == "store"]
    assert asked == [
        None, "bytes=100000-", "bytes=150000-", "bytes=150000-", "bytes=150000-", "bytes=151000-",
    ]  # fmt: skip


def test_the_next_run_goes_on_where_the_last_one_gave_up(hub: FakeHub, client: Hub, store: Store) -> None:
    hub.cut["model.safetensors"] = [100_000, 0, 0, 0, 0]
    with pytest.raises(HubAway, match="it resumes"):
        pull(store, client, TINY)
    assert nothing_published(store)
    assert [each["state"] for each in store.listed()] == ["waiting"]
    pull(store, client, TINY)
    assert store.verify(TINY)
    assert hub.served["model.safetensors"] == len(WEIGHTS)
    assert hub.served["config.json"] == 23  # what was whole did not come again


def test_a_killed_process_s_bytes_are_gone_on_with(hub: FakeHub, client: Hub, store: Store) -> None:
    hub.cut["model.safetensors"] = [200_000]
    hub.hangs = threading.Event()
    command = [sys.executable, "-m", "inference.models", "pull", "--models-dir", str(store.folder), "acme/tiny"]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        assert hub.broke_off.wait(60)
        [part] = _await_parts(store, 100_000, process)
        os.kill(process.pid, signal.SIGKILL)
    kept = part.stat().st_size
    pull(store, client, TINY)
    assert store.verify(TINY)
    assert hub.served["model.safetensors"] == 200_000 + len(WEIGHTS) - kept


def _await_parts(store: Store, size: int, process: "subprocess.Popen[bytes]") -> list[Path]:
    """The parts, once they have so many bytes: the other process reads what has long been sent."""
    while process.poll() is None:
        parts = [part for part in store.folder.rglob("*.part") if part.stat().st_size >= size]
        if parts:
            return parts
    raise AssertionError(f"it ended with {process.returncode}")


def test_a_hub_that_knows_no_ranges_sends_all_again_and_the_bytes_are_right(
    hub: FakeHub, client: Hub, store: Store
) -> None:
    hub.ignores_ranges = True
    hub.cut["model.safetensors"] = [100_000]
    pull(store, client, TINY)
    assert store.verify(TINY)
    assert hub.served["model.safetensors"] == 100_000 + len(WEIGHTS)


@pytest.mark.parametrize("path", ["model.safetensors", "tokenizer.json"])  # by SHA-256, and by git's digest
def test_wrong_bytes_are_fetched_once_more(hub: FakeHub, client: Hub, store: Store, path: str) -> None:
    right = hub.models["acme/tiny"].files[path]
    hub.lies[path] = [b"x" * len(right)]
    folder = pull(store, client, TINY)
    assert (folder / path).read_bytes() == right


@pytest.mark.parametrize("path", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("more", [0, 1])
def test_bytes_that_are_wrong_twice_are_an_error_and_nothing_is_left_of_them(
    hub: FakeHub, client: Hub, store: Store, path: str, more: int
) -> None:
    hub.lies[path] = [b"x" * (len(hub.models["acme/tiny"].files[path]) + more)] * 2
    with pytest.raises(ChecksumWrong, match=f"{path} of acme/tiny is not what the hub says"):
        pull(store, client, TINY)
    assert nothing_published(store)
    assert not [found for found in files(store.folder) if path in found]


def test_wrong_bytes_at_the_beginning_do_not_spoil_what_is_resumed(hub: FakeHub, client: Hub, store: Store) -> None:
    hub.lies["model.safetensors"] = [b"x" * len(WEIGHTS)]
    hub.cut["model.safetensors"] = [100_000]
    pull(store, client, TINY)
    assert store.verify(TINY)


@pytest.mark.parametrize(
    ("where", "status", "code", "error", "remedy"),
    [
        ("/api/models/acme/tiny", 401, "RepoNotFound", NotFound, "HF_TOKEN"),
        ("/api/models/acme/tiny", 404, "RepoNotFound", NotFound, "check the name"),
        ("/api/models/acme/tiny", 404, "RevisionNotFound", NotFound, "branches"),
        ("/acme/tiny/resolve", 403, "GatedRepo", Gated, "accept it at http://.*/acme/tiny, and set HF_TOKEN"),
        ("/acme/tiny/resolve", 401, "GatedRepo", Gated, "accept it at"),
        ("/acme/tiny/resolve", 403, "", Gated, "accept it at"),
        ("/api/models/acme/tiny", 403, "", Gated, "accept it at"),
        ("/acme/tiny/resolve", 404, "EntryNotFound", NotFound, "run the command again"),
        ("/acme/tiny/resolve", 503, "", HubAway, "try again later"),
        ("/acme/tiny/resolve", 429, "", HubAway, "try again later"),
        ("/api/models/acme/tiny", 500, "", HubAway, "try again later"),
        ("/api/models/acme/tiny", 200, "", HubAway, "does not answer as a hub does"),
    ],
)
def test_a_refusal_says_what_to_do(
    hub: FakeHub,
    client: Hub,
    store: Store,
    where: str,
    status: int,
    code: str,
    error: type[ModelFilesError],
    remedy: str,
) -> None:
    hub.refuses[where] = (status, code)
    with pytest.raises(error, match=remedy):
        pull(store, client, TINY)
    assert nothing_published(store)


def test_a_hub_that_is_away_is_said_and_what_is_there_stays(hub: FakeHub, client: Hub, store: Store) -> None:
    away = Hub("http://127.0.0.1:9", pause_s=0, tries=2)
    with pytest.raises(HubAway, match="models import here"):
        pull(store, away, TINY)
    with pytest.raises(HubAway):
        pull(store, away, TINY, refresh=False)
    folder = pull(store, client, TINY)
    assert pull(store, away, TINY) == folder


def test_offline_mode_is_named(store: Store, client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubAway, match="HF_HUB_OFFLINE is set"):
        pull(store, client, TINY)


def test_while_the_hub_is_away_another_program_s_copy_will_do(
    hub: FakeHub, client: Hub, store: Store, tmp_path: Path
) -> None:
    snapshot = tmp_path / "hf/hub/models--acme--tiny/snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = tmp_path / "hf/hub/models--acme--tiny/refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    away = Hub("http://127.0.0.1:9", pause_s=0, tries=1)
    assert pull(store, away, TINY, refresh=False) == snapshot
    with pytest.raises(HubAway):
        pull(store, away, TINY)


def test_a_disk_that_is_too_small_is_known_before_a_byte_comes(
    hub: FakeHub, client: Hub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": len(WEIGHTS) + 24}))
    with pytest.raises(DiskFull, match="make room"):
        pull(store, client, TINY)
    assert not hub.served
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": len(WEIGHTS) + 25}))
    pull(store, client, TINY)


def test_a_disk_that_fills_on_the_way_is_said_and_the_next_run_goes_on(hub: FakeHub, client: Hub, store: Store) -> None:
    part = store.folder / WORK / f"{KEY}.free" / "tree" / "model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="run the command again: it goes on where it stopped"):
        pull(store, client, TINY)
    assert nothing_published(store)
    part.unlink()
    pull(store, client, TINY)
    assert store.verify(TINY)
    assert hub.served["config.json"] == 23


@pytest.mark.parametrize("path", ["../model.safetensors", "1_Pooling/../../x.json", "/etc/x.json"])
def test_a_file_that_would_leave_the_folder_is_refused(hub: FakeHub, client: Hub, store: Store, path: str) -> None:
    hub.models["acme/tiny"] = Model({**small_model().files, path: b"{}"})
    with pytest.raises(NameRefused, match=r"leaves its folder|absolute"):
        pull(store, client, TINY)
    assert nothing_published(store)


def test_a_model_without_weights_is_refused(hub: FakeHub, client: Hub, store: Store) -> None:
    hub.models["acme/tiny"] = Model({"config.json": b"{}", "tiny-Q4.gguf": b"GGUF"})
    with pytest.raises(NoWeights, match=r"name one of them, such as acme/tiny:tiny-Q4\.gguf"):
        pull(store, client, TINY)
    hub.models["acme/tiny"] = Model({"config.json": b"{}", "training_args.bin": b"x"})
    with pytest.raises(NoWeights, match="no weights"):
        pull(store, client, TINY)


def test_a_token_is_shown_to_the_hub_and_to_nobody_else(hub: FakeHub, store: Store) -> None:
    pull(store, Hub(hub.url, token="hf_secret", pause_s=0), TINY)
    by = {
        name: {headers.get("authorization") for each, _, headers in hub.asked if each == name}
        for name in ("hub", "store")
    }
    assert by == {"hub": {"Bearer hf_secret"}, "store": {None}}


def test_a_gguf_file_is_fetched_alone_and_converted(
    hub: FakeHub, client: Hub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def converted(file: Path, folder: Path) -> None:
        assert file.read_bytes() == b"GGUF" * 10
        (folder / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(gguf, "write_folder", converted)
    hub.models["acme/tiny"] = Model({"a.gguf": b"GGUF" * 10, "b.gguf": b"other"}, frozenset({"a.gguf"}))
    name = ModelName.parse("acme/tiny:a.gguf@v1")
    folder = pull(store, client, name)
    assert folder.name == "acme--tiny--a.gguf@v1"
    assert files(folder) == ["model.safetensors", "stoker.json"]
    assert store.verify(name).revision == "v1"
    assert hub.served["b.gguf"] == 0
    with pytest.raises(NotFound, match=r"it has a\.gguf, b\.gguf"):
        pull(store, client, ModelName.parse("acme/tiny:c.gguf"))


def test_a_foreign_folder_in_its_place_is_left_alone(client: Hub, store: Store) -> None:
    folder = store.path_of(TINY)
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(Damaged, match="Stoker did not make it"):
        pull(store, client, TINY)
    assert files(folder) == ["mine.txt"]


def test_a_command_says_its_failure_in_one_line(
    hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("inference.modelfiles.hub.Hub", lambda: Hub(hub.url, pause_s=0))

    def said(*words: str) -> tuple[int, dict[str, Any]]:
        code = models.main([words[0], "--models-dir", str(store.folder), *words[1:]])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    code, line = said("pull", "acme/gone")
    assert code == 1
    assert line["message"].endswith("has no model acme/gone, or keeps it private")
    assert "HF_TOKEN" in line["remedy"]
    assert said("pull", "smollm2-135m")[1]["remedy"] == "./stoker up makes it ready"
    assert said("pull", "acme/tiny") == (
        0, {"ready": {"model": {"folder": str(store.path_of(TINY)), "name": "tiny"}}},
    )  # fmt: skip
    assert said("verify", "acme/tiny")[1]["verified"]["files"] == 3
    assert [each["state"] for each in said("list")[1]["models"]] == ["whole"]
    assert said("remove", "acme/tiny") == (0, {"removed": "acme/tiny"})
    assert said("list") == (0, {"models": []})
