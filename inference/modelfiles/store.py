"""The folder of models: one folder each, under its final name only when it is whole."""

import contextlib
import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from inference.modelfiles import manifest as manifests
from inference.modelfiles.claims import Claim, Claims
from inference.modelfiles.errors import Damaged, DiskFull, NotFound
from inference.modelfiles.manifest import Manifest
from inference.modelfiles.names import MANIFEST, ModelName
from inference.modelfiles.says import Progress

NAME = "name"  # in a claim's folder: whose it is


@dataclass(frozen=True, slots=True)
class Stored:
    """A model in its place."""

    folder: Path
    manifest: Manifest


class Store:
    """The models in a folder, which several hosts may share.

    Args:
        folder: made when the first model comes.
        claims: on its models.
    """

    def __init__(self, folder: Path, claims: Claims | None = None) -> None:
        self.folder = folder
        self.claims = claims or Claims(folder)

    def path_of(self, name: ModelName) -> Path:
        return self.folder / name.folder

    def find(self, name: ModelName) -> Stored | None:
        """The model, if it is there and no file is missing; bytes are not read."""
        folder = self.path_of(name)
        manifest = manifests.read(folder)
        if manifest is None or manifest.name != str(name) or not manifests.is_whole(folder, manifest):
            return None
        return Stored(folder, manifest)

    def listed(self) -> list[dict[str, object]]:
        """Every model: name, bytes, source, commit, folder, and its state: whole, damaged, waiting or under way."""
        found: list[dict[str, object]] = []
        for folder in sorted(self.folder.glob("[!.]*/")):
            manifest = manifests.read(folder)
            if manifest is not None:
                state = "whole" if manifests.is_whole(folder, manifest) else "damaged"
                size = manifest.size or size_of(folder)
                found.append(_line(manifest.name, size, manifest.source, manifest.commit, folder, state))
        for folder, lives in sorted(self.claims.others("")):
            with contextlib.suppress(OSError):  # it may end while we look; what is being removed has no name
                name = (folder / NAME).read_text()
                found.append(_line(name, size_of(folder), "", None, folder, "under way" if lives else "waiting"))
        return found

    def verify(self, name: ModelName) -> Manifest:
        """Read all bytes of a model again. Raises: NotFound; Damaged: what is wrong with which file."""
        folder = self.path_of(name)
        manifest = manifests.read(folder)
        if manifest is None or manifest.name != str(name):
            raise NotFound(f"{name} is not in {self.folder}", "./stoker models list shows what is")
        progress = Progress("verify", f"reading {name}", manifest.size)
        problems = manifests.problems_of(folder, manifest, progress.add)
        progress.end()
        if problems:
            raise manifests.damaged(manifest, problems)
        return manifest

    def remove(self, name: ModelName) -> None:
        """Remove a model, and what an interrupted pull left of it. Raises: NotFound."""
        folder = self.path_of(name)
        manifest = manifests.read(folder)
        mine = [path for path, lives in self.claims.others(f"{name.folder}~") if not lives]
        if manifest is None and not mine:
            raise NotFound(f"{name} is not in {self.folder}", "./stoker models list shows what is")
        if manifest is not None:
            # Out of its name in one step: nobody finds it half removed.
            trash = self.claims.trash(name.folder)
            folder.rename(trash)
            shutil.rmtree(trash)
        self.claims.discard(f"{name.folder}~")

    def publish(self, claim: Claim, name: ModelName, manifest: Manifest) -> Path:
        """Give a whole tree its final name; where an equal one stands by now, that one stays.

        Another content under the same name is replaced: between two renames the name is gone for a moment.

        Raises: Damaged: what stands there is not ours.
        """
        folder = self.path_of(name)
        manifests.write(claim.tree, manifest)
        _open_to_all(claim.tree)
        try:
            claim.tree.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            _sync(self.folder)
            return folder
        there = manifests.read(folder)
        if there is None or there.name != manifest.name:
            raise Damaged(f"{folder} is in the way, and Stoker did not make it", "move it away and run again")
        if there.files != manifest.files or not manifests.is_whole(folder, there):
            folder.rename(claim.folder / "old")  # it goes with the claim
            claim.tree.rename(folder)
            _sync(self.folder)
        return folder

    def require_room(self, need: int) -> None:
        """Raises: DiskFull: the folder's disk has fewer bytes than are needed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        require_room(self.folder, need)


def require_room(folder: Path, need: int) -> None:
    """Raises: DiskFull: the folder's disk has fewer bytes than are needed."""
    room = shutil.disk_usage(folder).free
    if room < need:
        raise DiskFull(f"{folder} has {room >> 20} MiB free and needs {need >> 20}", "make room, run again")


def size_of(folder: Path) -> int:
    """Bytes of all files in it."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it may be gone by now
            total += path.stat().st_size if path.is_file() else 0
    return total


def _line(name: str, size: int, source: str, commit: str | None, folder: Path, state: str) -> dict[str, object]:
    return {"name": name, "bytes": size, "source": source, "commit": commit, "folder": str(folder), "state": state}


def _open_to_all(tree: Path) -> None:
    """Whoever serves the model may be another user than who fetched it."""
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    _sync(tree / MANIFEST)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
