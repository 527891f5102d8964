"""From a model's name to its folder, by way of the hub."""

import contextlib
import re
import shutil
from pathlib import Path

from inference.modelfiles import gguf
from inference.modelfiles.choice import needed, needed_gguf
from inference.modelfiles.claims import Claim, part_of
from inference.modelfiles.errors import ChecksumWrong, HubAway, disk_errors
from inference.modelfiles.hub import Entry, Hub, Listing
from inference.modelfiles.manifest import File, Manifest, digest_of, files_of
from inference.modelfiles.names import ModelName, safe_path
from inference.modelfiles.says import Progress, say
from inference.modelfiles.store import NAME, Store, size_of

_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_RESUMES = ": it goes on where it stopped"


def pull(store: Store, hub: Hub, name: ModelName, *, refresh: bool = True) -> Path:
    """Make sure that the model is there.

    Args:
        refresh: ask the hub also where the model is there; else that will do, and so will huggingface_hub's own copy
            while the hub is away.

    Returns: its folder.
    Raises: ModelFilesError: what is fetched so far stays, and the next call goes on with it.
    """
    found = store.find(name)
    if found is not None and not refresh:
        return found.folder
    try:
        listing = hub.listing(name)
    except HubAway:
        if found is not None:
            say("pull", f"the hub can't be asked; {name} stays as it is", done=False)
            return found.folder
        cached = None if refresh else hub.cached(name)
        if cached is None:
            raise
        say("pull", f"the hub can't be reached; taking {name} from {cached}", done=False)
        return cached
    if not _COMMIT.fullmatch(listing.commit):
        raise HubAway(f"{hub.endpoint} gives no commit of {name}", "check that HF_ENDPOINT is a hub's address")

    def is_done() -> bool:
        there = store.find(name)
        return there is not None and there.manifest.commit == listing.commit

    if is_done():
        say("pull", f"{name} is there already, as the hub has it", done=False)
        return store.path_of(name)
    entries = _chosen(listing, name)
    key = f"{name.folder}~{listing.commit[:12]}"
    with disk_errors(store.folder, _RESUMES), store.claims.held(key, is_done) as claim:
        if claim is not None:
            store.claims.discard(f"{name.folder}~", keep=key)
            store.claims.sweep()
            (claim.folder / NAME).write_text(str(name))
            files = _make(store, hub, name, listing.commit, entries, claim)
            manifest = Manifest(str(name), hub.endpoint, files, name.revision, listing.commit)
            return store.publish(claim, name, manifest)
    return store.path_of(name)


def _chosen(listing: Listing, name: ModelName) -> list[Entry]:
    """What is needed of what the hub has, the small files first: a refusal then comes before the long wait."""
    entries = {entry.path: entry for entry in listing.entries}
    for path in entries:
        if path.startswith("/") or ".." in path.split("/"):
            safe_path(path)
    paths = needed_gguf(entries, name.repo, name.gguf) if name.gguf else needed(entries, name.repo)
    return sorted((entries[safe_path(path)] for path in paths), key=lambda entry: (entry.size, entry.path))


def _make(store: Store, hub: Hub, name: ModelName, commit: str, entries: list[Entry], claim: Claim) -> tuple[File, ...]:
    """Fill the claim's tree. Returns: what is in it."""
    place = claim.raw if name.gguf else claim.tree
    total = sum(entry.size for entry in entries)
    converted = total * gguf.ROOM_FACTOR if name.gguf else 0
    store.require_room(total - min(total, size_of(place)) + converted)
    progress = Progress("pull", f"fetching {name}", total)
    for entry in entries:
        _bring(hub, name, commit, entry, place / entry.path, progress)
    progress.end()
    if not name.gguf:
        _leave_only(claim.tree, {entry.path for entry in entries})
        return tuple(
            File(entry.path, entry.size, entry.sha256 or digest_of(claim.tree / entry.path))
            for entry in sorted(entries, key=lambda entry: entry.path)
        )
    say("pull", f"converting {name.gguf} for vLLM", done=False)
    shutil.rmtree(claim.tree, ignore_errors=True)
    claim.tree.mkdir()
    gguf.write_folder(place / entries[0].path, claim.tree)
    return files_of(claim.tree)


def _bring(hub: Hub, name: ModelName, commit: str, entry: Entry, target: Path, progress: Progress) -> None:
    """Fetch a file unless it is there, and look at its checksum.

    Raises: ChecksumWrong: twice it was not what the hub itself says.
    """
    if target.exists() and _is_right(target, entry):
        progress.add(entry.size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    part = part_of(target)
    for tried in (1, 2):
        progress.add(part.stat().st_size if part.exists() else 0)
        with contextlib.suppress(ChecksumWrong):  # more came than belongs to it
            hub.fetch(name, commit, entry, part, progress.add)
            if _is_right(part, entry):
                part.rename(target)
                return
        progress.add(-part.stat().st_size)
        part.unlink()
        if tried == 1:
            say("pull", f"{entry.path} came with a wrong checksum; fetching it once more", done=False)
    raise ChecksumWrong(
        f"{entry.path} of {name} is not what the hub says it is, twice",
        "if it stays so, whoever stands between you and the hub changes files: try another network",
    )


def _is_right(path: Path, entry: Entry) -> bool:
    """By SHA-256, or by git's digest for small files; by its size alone where the hub gives neither."""
    if path.stat().st_size != entry.size:
        return False
    if entry.sha256 is not None:
        return digest_of(path) == entry.sha256
    return entry.git_sha1 is None or digest_of(path, git=True) == entry.git_sha1


def _leave_only(tree: Path, paths: set[str]) -> None:
    """Remove what an earlier choice of files had left."""
    for path in list(tree.rglob("*")):
        if path.is_file() and path.relative_to(tree).as_posix() not in paths:
            path.unlink()
