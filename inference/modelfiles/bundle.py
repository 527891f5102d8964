"""Models into one file, for hosts that reach no hub: `export`.

The file is a tar, not compressed, for weights hardly shrink. Its first member, `stoker-models.json`, holds the
manifests; then come the files, `FOLDER/PATH`, in exactly the order of the manifests. `unbundle.py` takes no other.
"""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from inference.modelfiles import defaults
from inference.modelfiles import manifest as manifests
from inference.modelfiles.errors import ModelFilesError, NotFound, disk_errors
from inference.modelfiles.manifest import File
from inference.modelfiles.names import ModelName
from inference.modelfiles.says import Progress
from inference.modelfiles.store import Store, Stored, require_room

FORMAT = 1
FIRST = "stoker-models.json"
_HEADERS = 2048  # bytes of tar's own for a file, and for filling its last block


def export(store: Store, names: Sequence[ModelName], to: Path) -> list[Stored]:
    """Write models to a file, each checksum looked at on the way; nothing is left of it where that fails.

    Returns: what is in it.
    Raises: NotFound, Damaged, DiskFull; ModelFilesError: the file exists.
    """
    if to.exists():
        raise ModelFilesError(f"{to} exists", "name another file, or delete it")
    models = [_found(store, name) for name in dict.fromkeys(names)]
    described = json.dumps({"format": FORMAT, "models": [model.manifest.as_json() for model in models]}, indent=1)
    total = sum(model.manifest.size for model in models)
    count = sum(len(model.manifest.files) for model in models)
    require_room(to.parent, total + len(described) + _HEADERS * (count + 2))
    progress = Progress("export", f"writing {to.name}", total)
    handle, temporary = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}.")
    try:
        with (
            disk_errors(to.parent),
            os.fdopen(handle, "wb") as file,
            tarfile.open(fileobj=file, mode="w:", format=tarfile.GNU_FORMAT) as archive,
        ):
            archive.addfile(_member(FIRST, len(described.encode())), io.BytesIO(described.encode()))
            for model in models:
                for each in model.manifest.files:
                    _add(archive, model, each, progress)
        os.replace(temporary, to)
    finally:
        Path(temporary).unlink(missing_ok=True)
    progress.end()
    return models


def _found(store: Store, name: ModelName) -> Stored:
    if str(name) in defaults.NAMES:
        return defaults.described(store.folder, str(name))
    found = store.find(name)
    if found is None:
        raise NotFound(f"{name} is not in {store.folder}, or not whole", f"./stoker models pull {name}")
    return found


def _add(archive: tarfile.TarFile, model: Stored, file: File, progress: Progress) -> None:
    member = f"{ModelName.parse(model.manifest.name).folder}/{file.path}"
    with (model.folder / file.path).open("rb") as source:
        reader = _Digesting(source, progress)
        archive.addfile(_member(member, file.size), reader)
    if reader.digest.hexdigest() != file.sha256:
        raise manifests.damaged(model.manifest, [f"{file.path} has a wrong checksum"])


class _Digesting(io.RawIOBase):
    """A file that is digested as it is read."""

    def __init__(self, source: BinaryIO, progress: Progress) -> None:
        self.digest = hashlib.sha256()
        self._source = source
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        self._progress.add(len(data))
        return data


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member
