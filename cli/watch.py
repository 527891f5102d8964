"""`./stoker ingest --watch`: a folder whose new, changed, moved and deleted files a collection follows.

A file is sent once it has stood still between two looks, so that half of one never arrives. What was sent is remembered
by its content, in a file of the data folder, after every step; an interrupted watch goes on where it was.
"""

import fcntl
import fnmatch
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cli.client import Client
from cli.console import err, out
from cli.errors import ApiRefused, ApiUnreachable, CliError
from cli.ingest import SUPPORTED, ensure_collection

IGNORED = ("*~", "~$*", "*.tmp", "*.part", "*.partial", "*.crdownload", "*.swp")
_ENDED = ("succeeded", "failed", "cancelled")
_LATER = (429, 500, 502, 503, 504)  # the gateway has too much to do, or a part of it is away
_POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class Sent:
    """A file as it was sent; `document_id` None: the gateway refused it as it is."""

    sha256: str
    size: int
    mtime_ns: int
    document_id: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look did, by names."""

    sent: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


class Memory:
    """What was sent, kept in a file that is replaced as a whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.sent: dict[str, Sent] = {}
        if file.exists():
            try:
                self.sent = {name: Sent(**row) for name, row in json.loads(file.read_text()).items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise CliError(f"{file} is damaged: {error}", "remove it; all files are then sent once more") from error

    def save(self) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps({name: asdict(row) for name, row in sorted(self.sent.items())}))
        draft.replace(self._file)


class Watch:
    """Looks at a folder, again and again.

    Args:
        ignore: patterns, as of a shell, of names or of paths below the folder.
        as_json: tell what became of each file as a line of JSON.
    """

    def __init__(
        self,
        client: Client,
        collection: str,
        folder: Path,
        memory: Memory,
        ignore: Sequence[str] = (),
        *,
        as_json: bool = False,
    ) -> None:
        self._client = client
        self._collection = collection
        self._folder = folder
        self._memory = memory
        self._ignore = (*IGNORED, *ignore)
        self._as_json = as_json
        self._before: dict[str, tuple[int, int]] = {}
        self._missed: set[str] = set()
        self._unseen: set[str] = set()  # what can't be looked at just now, and so is not gone
        self._told: set[str] = set()

    def look(self) -> Look:
        """Send what is new or changed, then delete what is gone.

        Raises: ApiUnreachable: the gateway is away, and the next look goes on; ApiRefused: it refuses us, for now or
            altogether.
        """
        known = self._memory.sent
        found = dict(self._scan())
        still = {name for name, stamp in found.items() if self._before.get(name) == stamp}
        self._before = found
        if known and not found:
            _note(f"{self._folder} is empty or gone: nothing is deleted for that, and nothing is sent")
            return Look()
        sent: list[str] = []
        refused: list[str] = []
        for name in sorted(still):
            if name in known and (known[name].size, known[name].mtime_ns) == found[name]:
                continue
            outcome = self._send(name, found[name])
            if outcome is not None:
                (sent if outcome else refused).append(name)
        gone = {name for name in known if name not in found and not self._is_unseen(name)}
        deleted = [name for name in sorted(gone & self._missed) if self._delete(name)]
        self._missed = gone
        return Look(tuple(sent), tuple(deleted), tuple(refused))

    def _scan(self) -> Iterator[tuple[str, tuple[int, int]]]:
        root = self._folder.resolve()
        self._unseen = set()
        for folder, folders, files in os.walk(root, onerror=lambda error: self._miss(root, error)):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                path = Path(folder, name)
                below = path.relative_to(root).as_posix()
                if not _can_be_told(below):
                    self._tell_once(ascii(below)[1:-1], "has a name that is no text, and is left out")
                    continue
                if path.suffix.lower() not in SUPPORTED or name.startswith(".") or self._is_ignored(below):
                    continue
                try:
                    if not path.resolve(strict=True).is_relative_to(root):  # a link out of the folder
                        continue
                    stat = path.stat()
                except OSError as error:
                    self._miss(root, error, path)
                    continue
                yield below, (stat.st_size, stat.st_mtime_ns)

    def _miss(self, root: Path, error: OSError, path: Path | None = None) -> None:
        """Remember what is there perhaps and can't be looked at; what went just now is gone."""
        if isinstance(error, FileNotFoundError):
            return
        below = (path or Path(error.filename)).relative_to(root).as_posix()
        self._unseen.add(below)
        self._tell_once(ascii(below)[1:-1], f"cannot be looked at ({error.strerror}): nothing is deleted for that")

    def _is_unseen(self, name: str) -> bool:
        return any(place in (".", name) or name.startswith(f"{place}/") for place in self._unseen)

    def _tell_once(self, name: str, what: str) -> None:
        if name not in self._told:
            self._told.add(name)
            _note(f"{name} {what}")

    def _is_ignored(self, below: str) -> bool:
        name = below.rpartition("/")[2]
        return any(fnmatch.fnmatch(name, glob) or fnmatch.fnmatch(below, glob) for glob in self._ignore)

    def _send(self, name: str, stamp: tuple[int, int]) -> bool | None:
        """Returns: whether it was taken; None: there is nothing to send, or it is changing again."""
        path = self._folder / name
        known = self._memory.sent.get(name)
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                now = os.fstat(file.fileno())
                if (now.st_size, now.st_mtime_ns) != stamp:
                    return None
                if known is not None and known.sha256 == sha256:
                    self._remember(name, Sent(sha256, *stamp, known.document_id))
                    return None
                job = self._client.upload("/v1/ingest", {"collection": self._collection}, [(name, file, None)])
        except OSError as error:
            _note(f"{name} cannot be read: {error.strerror}")
            return None
        except ApiRefused as error:
            if error.status not in (400, 409, 413):
                raise
            _note(f"{name} was refused: {error.message}")
            if self._as_json:
                self._say(name, "refused", error.message)
            self._remember(name, Sent(sha256, *stamp, known.document_id if known else None))
            return False
        self._remember(name, Sent(sha256, *stamp, job["document_ids"][0]))
        return self._tell(name, job["job_id"])

    def _tell(self, name: str, job_id: str) -> bool:
        while True:
            job = self._client.get(f"/v1/jobs/{job_id}")
            if job["status"] in _ENDED:
                break
            time.sleep(_POLL_S)
        error = next((one["error"] for one in job["documents"] if one.get("error")), None)
        self._say(name, job["status"], error)
        return bool(job["status"] == "succeeded")

    def _delete(self, name: str) -> bool:
        document_id = self._memory.sent[name].document_id
        if document_id is not None:
            path = f"/v1/collections/{quote(self._collection, safe='')}/documents/{document_id}"
            try:
                self._client.delete(path)
            except ApiRefused as error:
                if error.status != 404:  # somebody else deleted it
                    raise
        del self._memory.sent[name]
        self._memory.save()
        self._say(name, "deleted")
        return True

    def _say(self, name: str, status: str, error: str | None = None) -> None:
        if self._as_json:
            print(json.dumps({"filename": name, "status": status, "error": error}), flush=True)
        else:
            out.print(f"{name}: {status}" + (f" ({error})" if error else ""), markup=False)

    def _remember(self, name: str, sent: Sent) -> None:
        self._memory.sent[name] = sent
        self._memory.save()


def watch(
    client: Client,
    collection: str,
    folder: Path,
    state_folder: Path,
    ignore: Sequence[str] = (),
    interval_s: float = 2.0,
    rest: Callable[[float], Any] = time.sleep,
    *,
    as_json: bool = False,
) -> None:
    """Follow a folder until Ctrl-C.

    Raises: CliError: it is no folder, is watched already, or the gateway refuses us.
    """
    if not folder.is_dir():
        raise CliError(f"{folder} is no folder", "name the folder that is to be followed")
    ensure_collection(client, collection)
    mark = hashlib.sha256(f"{client.url}\n{collection}\n{folder.resolve()}".encode()).hexdigest()[:16]
    state_folder.mkdir(parents=True, exist_ok=True)
    with _alone(state_folder / f"{mark}.lock", folder):
        watching = Watch(client, collection, folder, Memory(state_folder / f"{mark}.json"), ignore, as_json=as_json)
        _note(f"watching {folder} for {collection}; Ctrl-C ends it")
        try:
            while True:
                try:
                    watching.look()
                except ApiUnreachable as error:
                    _note(f"waiting: {error.message}")
                except ApiRefused as error:
                    if error.status not in _LATER:
                        raise
                    _note(f"waiting: {error.message}")
                rest(interval_s)
        except KeyboardInterrupt:
            _note("ended; what was sent is remembered")


def _can_be_told(name: str) -> bool:
    """Whether a name is text: those of files may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _note(text: str) -> None:
    err.print(text, markup=False)


@contextmanager
def _alone(file: Path, folder: Path) -> Iterator[None]:
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CliError(f"{folder} is being watched for this collection already", "end the other watch") from error
        yield
