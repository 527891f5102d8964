"""One process at a time works on a model; what a dead one had is gone on with."""

import os
import shutil
from pathlib import Path

import pytest

from inference.modelfiles.claims import STALE_S, WORK, Claims, Owner
from inference.modelfiles.hub import Hub
from inference.modelfiles.names import ModelName
from inference.modelfiles.pull import pull
from inference.modelfiles.store import Store
from tests.support.hub import COMMIT, FakeHub
from tests.unit.inference.modelfiles.conftest import WEIGHTS

TINY = ModelName("acme/tiny")
KEY = f"acme--tiny~{COMMIT[:12]}"
ME = Owner.this_process()
ELSEWHERE = "abcdefabcdef"


def of_living_process() -> Owner:
    pid = os.getppid()
    return Owner(ME.machine, pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def begun(store: Store, owner: object, held: bytes = b"") -> Path:
    """What a process has in work."""
    folder = store.folder / WORK / f"{KEY}.{owner}"
    (folder / "tree").mkdir(parents=True)
    (folder / "alive").touch()
    (folder / "name").write_text("acme/tiny")
    (folder / "tree" / "model.safetensors.part").write_bytes(held)
    return folder


def never() -> bool:
    return False


@pytest.mark.parametrize("owner", ["free", Owner(ME.machine, 2**22 + 1, "1"), Owner(ME.machine, os.getppid(), "1")])
def test_what_a_dead_process_had_is_gone_on_with(hub: FakeHub, client: Hub, store: Store, owner: object) -> None:
    begun(store, owner, WEIGHTS[:200_000])
    pull(store, client, TINY)
    assert store.verify(TINY)
    assert hub.served["model.safetensors"] == len(WEIGHTS) - 200_000


@pytest.mark.parametrize("owner", [of_living_process(), Owner(ELSEWHERE, 1, "1")])
def test_a_living_process_is_waited_for_and_its_model_is_taken(
    hub: FakeHub, client: Hub, tmp_path: Path, owner: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    pulls = []

    def other_ends(_seconds: float) -> None:
        shutil.rmtree(busy)
        pulls.append(pull(Store(tmp_path), client, TINY))

    store = Store(tmp_path, Claims(tmp_path, pause=other_ends))
    busy = begun(store, owner)
    folder = pull(store, client, TINY)
    assert pulls == [folder]
    assert hub.served["model.safetensors"] == len(WEIGHTS)
    assert "another process is making the same model" in capsys.readouterr().out


def test_a_host_that_gives_no_sign_for_long_has_lost_its_claim(hub: FakeHub, client: Hub, store: Store) -> None:
    folder = begun(store, Owner(ELSEWHERE, 1, "1"), WEIGHTS[:1000])
    part = folder / "tree" / "model.safetensors.part"
    with part.open("ab") as frozen:  # it is only frozen, and has its file open
        for path in (folder, folder / "alive"):
            os.utime(path, (0, path.stat().st_mtime - STALE_S - 5))
        pull(store, client, TINY)
        frozen.write(b"it wakes, and writes on")
    assert hub.served["model.safetensors"] == len(WEIGHTS) - 1000
    assert store.verify(TINY)


def test_a_host_that_gives_signs_keeps_its_claim_however_old_its_folder_is(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    folder = begun(Store(tmp_path), Owner(ELSEWHERE, 1, "1"))
    os.utime(folder, (0, 0))
    assert claims.others("") == [(folder, True)]


def test_two_that_begin_at_once_both_step_back_and_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / WORK / f"key.{Owner(ELSEWHERE, 1, '1')}"
    pauses = []

    def other_steps_back(seconds: float) -> None:
        pauses.append(seconds)
        assert [path.name for path in (tmp_path / WORK).iterdir()] == [other.name]  # so did we
        other.rmdir()

    mkdir = Path.mkdir

    def beside_another(path: Path, *args: object, **more: object) -> None:
        if path.name == f"key.{ME}" and not pauses:
            mkdir(other)
        mkdir(path, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", beside_another)
    claims = Claims(tmp_path, pause=other_steps_back)
    with claims.held("key", never) as claim:
        assert claim is not None
        assert claim.folder.is_dir()
    assert len(pauses) == 1


def test_who_publishes_last_keeps_what_is_there(hub: FakeHub, client: Hub, store: Store) -> None:
    """Where two hosts did work on the same model."""
    begun(store, "free")
    with store.claims.held(KEY, never) as claim:
        assert claim is not None
        folder = pull(
            Store(store.folder, Claims(store.folder, Owner(ELSEWHERE, 7, "7"))),
            client,
            ModelName("acme/tiny", revision="v1"),
        )
        shutil.copytree(folder, claim.tree, dirs_exist_ok=True)
        (claim.tree / "model.safetensors.part").unlink()
        manifest = store.verify(ModelName("acme/tiny", revision="v1"))
        inode = folder.stat().st_ino
        store.publish(claim, ModelName("acme/tiny", revision="v1"), manifest)
    assert folder.stat().st_ino == inode
    assert store.verify(ModelName("acme/tiny", revision="v1"))


def test_what_an_older_commit_left_is_removed(client: Hub, store: Store) -> None:
    old = store.folder / WORK / "acme--tiny~0123.free"
    other = store.folder / WORK / "acme--tiny2~0123.free"
    for path in (old, other):
        path.mkdir(parents=True)
    pull(store, client, TINY)
    assert not old.exists()
    assert other.exists()


def test_remove_takes_what_was_begun_too_but_nothing_from_a_living_process(client: Hub, store: Store) -> None:
    pull(store, client, TINY)
    begun(store, "free")
    busy = begun(store, of_living_process())
    store.remove(TINY)
    assert not store.path_of(TINY).exists()
    assert [path.name for path in (store.folder / WORK).glob("[!.]*")] == [busy.name]
    assert [(each["name"], each["state"]) for each in store.listed()] == [("acme/tiny", "under way")]
