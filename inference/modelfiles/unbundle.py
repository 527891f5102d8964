"""Models out of a bundle: `import`. The file may come from anywhere, so nothing in it is believed.

Its members must be regular files that follow the manifests one by one, in name and size; so links, devices, doubled
names, paths that leave the folder and bytes too many have no place in it. Nothing stands under a final name before
every checksum of the whole bundle was right.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from inference.modelfiles.bundle import FIRST, FORMAT
from inference.modelfiles.claims import Claim
from inference.modelfiles.errors import BundleRefused, disk_errors
from inference.modelfiles.manifest import File, Manifest
from inference.modelfiles.names import ModelName
from inference.modelfiles.says import Progress, say
from inference.modelfiles.store import NAME, Store

_READ = 1 << 20
_MOST_READ = 16 << 20  # bytes at once: a header that asks for more is a trap
_REMEDY = "take another copy of the file, made by ./stoker models export"


@dataclass(frozen=True, slots=True)
class _Model:
    """One model of the bundle. `key`: of its claim; `is_there`: whether an equal one stands in its place."""

    name: ModelName
    manifest: Manifest
    key: str
    is_there: Callable[[], bool]


def take_in(store: Store, file: Path) -> tuple[list[str], list[str]]:
    """Make the models of a bundle stand in the folder.

    Returns: names of those that are new, and of those that were there already, and equal.
    Raises: BundleRefused, NameRefused, DiskFull; Damaged: a foreign folder is in the way.
    """
    with _opened(file) as archive:
        models = _models(store, archive, file)
        there = [model for model in models if model.is_there()]
        for model in there:
            say("import", f"{model.name} is there already, and equal", done=False)
        store.require_room(sum(model.manifest.size for model in models if model not in there))
        with disk_errors(store.folder), ExitStack() as stack:
            claims: dict[str, Claim] = {}
            # In one order everywhere, or two imports could wait for each other.
            for model in sorted((model for model in models if model not in there), key=lambda model: model.key):
                claim = stack.enter_context(store.claims.held(model.key, model.is_there))
                if claim is not None:  # else another process has just finished it
                    claims[model.key] = stack.enter_context(_emptied(claim, model.name))
            _take_all(archive, models, claims, file)
            for model in models:
                if model.key in claims:
                    store.publish(claims[model.key], model.name, model.manifest)
    new = [str(model.name) for model in models if model.key in claims]
    return new, [str(model.name) for model in models if str(model.name) not in new]


def _models(store: Store, archive: tarfile.TarFile, file: Path) -> list[_Model]:
    """What the first member promises. Raises: BundleRefused."""
    first = archive.next()
    if first is None or first.name != FIRST or not first.isreg() or first.size > _MOST_READ:
        raise BundleRefused(f"{file} is no bundle of models: it does not begin with {FIRST}", _REMEDY)
    reader = archive.extractfile(first)
    promised = json.loads(reader.read(_MOST_READ)) if reader else None
    if not isinstance(promised, dict) or promised.get("format") != FORMAT:
        raise BundleRefused(f"{file} is no bundle of format {FORMAT}", "import it with the Stoker that made it")
    models = [_model(store, Manifest.of(each)) for each in promised.get("models") or ()]
    if len({model.name.folder for model in models}) != len(models):
        raise BundleRefused(f"{file} holds a model twice", _REMEDY)
    return models


def _model(store: Store, manifest: Manifest) -> _Model:
    name = ModelName.parse(manifest.name)
    if not manifest.files:
        raise BundleRefused(f"{name} has no files in this bundle", _REMEDY)

    def is_there() -> bool:
        found = store.find(name)
        return found is not None and found.manifest.files == manifest.files

    digest = hashlib.sha256(json.dumps(manifest.as_json()).encode()).hexdigest()
    return _Model(name, manifest, f"{name.folder}~b{digest[:11]}", is_there)


def _take_all(archive: tarfile.TarFile, models: list[_Model], claims: dict[str, Claim], file: Path) -> None:
    """Read every member, also those that nobody needs: the bundle is whole, or it is refused."""
    progress = Progress("import", f"reading {file.name}", sum(model.manifest.size for model in models))
    for model in models:
        claim = claims.get(model.key)
        for each in model.manifest.files:
            member = _next(archive, f"{model.name.folder}/{each.path}", each, file)
            _take(archive, member, each, claim.tree / each.path if claim else None, progress)
    extra = archive.next()
    if extra is not None:
        raise BundleRefused(f"{file} holds {extra.name[:200]!r}, of which its manifest says nothing", _REMEDY)
    progress.end()


def _next(archive: tarfile.TarFile, name: str, promised: File, file: Path) -> tarfile.TarInfo:
    """The next member, which must be the one that is promised."""
    member = archive.next()
    if member is None:
        raise BundleRefused(f"{file} ends before {name}: it is not whole", _REMEDY)
    if not member.isreg() or member.issparse():
        raise BundleRefused(f"{file}: {member.name[:200]!r} is a link, a device or no plain file", _REMEDY)
    if member.name != name:
        raise BundleRefused(f"{file} holds {member.name[:200]!r} where {name!r} should be", _REMEDY)
    if member.size != promised.size:
        raise BundleRefused(f"{name} has {member.size} bytes, and {promised.size} were promised", _REMEDY)
    return member


def _take(
    archive: tarfile.TarFile, member: tarfile.TarInfo, promised: File, target: Path | None, progress: Progress
) -> None:
    """Read a member and look at its checksum; write it where there is a target."""
    reader = archive.extractfile(member)
    if reader is None:
        raise BundleRefused(f"{member.name} can't be read", _REMEDY)
    digest = hashlib.sha256()
    with ExitStack() as stack:
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        sink = stack.enter_context(target.open("xb")) if target else None
        while chunk := reader.read(_READ):
            digest.update(chunk)
            progress.add(len(chunk))
            if sink is not None:
                sink.write(chunk)
        if sink is not None:
            sink.flush()
            os.fsync(sink.fileno())
    if digest.hexdigest() != promised.sha256:
        raise BundleRefused(f"{member.name} has a wrong checksum", _REMEDY)


@contextmanager
def _emptied(claim: Claim, name: ModelName) -> Iterator[Claim]:
    """A claim to fill from nothing, of which nothing is left when that fails: the bundle is at hand."""
    shutil.rmtree(claim.tree, ignore_errors=True)
    claim.tree.mkdir()
    (claim.folder / NAME).write_text(str(name))
    try:
        yield claim
    except BaseException:
        shutil.rmtree(claim.folder, ignore_errors=True)
        raise


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    """Raises: BundleRefused: for whatever Python's tarfile can't make sense of."""
    try:
        with _Bounded(io.FileIO(file)) as source, tarfile.open(fileobj=source, mode="r:") as archive:
            yield archive
    except FileNotFoundError as error:
        if error.filename != file and error.filename != str(file):
            raise
        raise BundleRefused(f"{file} does not exist", "name what ./stoker models export wrote") from error
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise BundleRefused(f"{file} is no bundle of models: {error}", _REMEDY) from error


class _Bounded(io.BufferedReader):
    """A file of which nobody reads much at once: a tar's header can ask for any number of bytes, in memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MOST_READ:
            raise BundleRefused(f"a header asks for {size} bytes at once", _REMEDY)
        return super().read(size)
