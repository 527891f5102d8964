"""The hub: what a model holds there, and its bytes.

Bytes come over plain HTTP by `Range`, into one file that goes on where it broke off: in this process, or in the next.
huggingface_hub 1.33 and later removes what it had when a download fails, and its Xet way keeps no part of a file that
another process could go on with, so only its names, headers, session and errors are used here. It is 1.33 in one of
our environments and 2.4 in the other; their sessions are httpx and httpx2, which have the same methods.

Source: https://huggingface.co/docs/hub/api
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, get_session, hf_hub_url, hf_raise_for_status, snapshot_download
from huggingface_hub import errors as hub_errors
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from inference.modelfiles.errors import ChecksumWrong, Gated, HubAway, ModelFilesError, NotFound
from inference.modelfiles.names import ModelName
from inference.modelfiles.says import say

T = TypeVar("T")

_HttpError: type[Exception] = hub_errors.HTTPError  # type: ignore[attr-defined]  # the root of httpx's or httpx2's
_TIMEOUT_S = 30.0  # of a connection, and of silence
_MOST_PAUSE_S = 30.0
_PASSING = (408, 429, 500, 502, 503, 504)
_AWAY = (
    "check the network and HF_ENDPOINT; without a hub, carry it: "
    "./stoker models export where there is one, ./stoker models import here"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file on the hub.

    Attributes:
        size: bytes.
        sha256: of a large file's content; None for small ones, which have
        git_sha1: git's own digest.
    """

    path: str
    size: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A model on the hub, at one commit."""

    commit: str
    entries: list[Entry]


class Hub:
    """The hub at an address.

    Args:
        endpoint: its address; None: HF_ENDPOINT, or Hugging Face's.
        token: to use; None: HF_TOKEN, or that of `hf auth login`; False: none.
        tries: how often in a row the hub may fail without giving a byte.
        pause_s: before the second try, in seconds; it doubles.
    """

    def __init__(
        self, endpoint: str | None = None, token: str | bool | None = None, tries: int = 5, pause_s: float = 1.0
    ) -> None:
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._token = token
        self._tries = tries
        self._pause_s = pause_s

    def listing(self, name: ModelName) -> Listing:
        """Ask what the model holds now. Raises: NotFound, Gated, HubAway."""
        api = HfApi(endpoint=self.endpoint, token=self._token)
        with self._translated(name):
            info = self._again(
                lambda: api.model_info(name.repo, revision=name.revision, files_metadata=True, timeout=_TIMEOUT_S)
            )
        if info.sha is None:
            raise HubAway(f"{self.endpoint} gives no commit of {name}", "check that HF_ENDPOINT is a hub's address")
        entries = []
        for sibling in info.siblings or ():
            sha256 = sibling.lfs.sha256 if sibling.lfs else None
            size = sibling.lfs.size if sibling.lfs else sibling.size
            if size is not None:  # without one it could not be known when it is whole
                entries.append(Entry(sibling.rfilename, size, sha256, sibling.blob_id))
        return Listing(info.sha, entries)

    def fetch(self, name: ModelName, commit: str, entry: Entry, part: Path, told: Callable[[int], None]) -> None:
        """Bring a file into `part`, going on with what is there already; its checksum is not looked at.

        Args:
            told: of bytes as they come; of fewer than none, where some must come again.

        Raises: NotFound, Gated, HubAway: it broke off too often; ChecksumWrong: more came than the file has;
            OSError: it could not be written.
        """
        if entry.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
            raise HubAway(
                f"{entry.path} has {entry.size / 1e9:.0f} GB, and the hub gives files above 50 GB by Xet only",
                "fetch it by `hf download` into a folder, and name that folder",
            )
        url = hf_hub_url(name.repo, entry.path, revision=commit, endpoint=self.endpoint)
        if _size(part) > entry.size:
            part.unlink()

        def go_on() -> None:
            while _size(part) < entry.size:
                self._stream(url, entry, part, told)
            part.touch()  # an empty file

        with self._translated(name):
            self._again(go_on, lambda: _size(part))

    def cached(self, name: ModelName) -> Path | None:
        """The folder where huggingface_hub itself keeps the model, from another program's download."""
        if name.gguf:
            return None
        try:
            return Path(snapshot_download(name.repo, revision=name.revision, local_files_only=True))
        except (LocalEntryNotFoundError, OSError, ValueError):
            return None

    def _stream(self, url: str, entry: Entry, part: Path, told: Callable[[int], None]) -> None:
        """One answer of the hub, as far as it goes."""
        have = _size(part)
        headers = {**build_hf_headers(token=self._token), "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True) as response:
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if have and not goes_on:
                told(-have)
                have = 0
                if response.status_code == 206:
                    part.unlink()
                    raise _BrokenOff("the hub answered with another range than asked for")
            with part.open("ab" if have else "wb") as file:
                for chunk in response.iter_bytes():
                    have += len(chunk)
                    if have > entry.size:
                        raise ChecksumWrong(f"{entry.path}: more came than the {entry.size} bytes it has", _LIES)
                    file.write(chunk)
                    told(len(chunk))
                file.flush()
                os.fsync(file.fileno())
        if have < entry.size:
            raise _BrokenOff(f"{entry.path} ended after {have} of {entry.size} bytes")

    def _again(self, step: Callable[[], T], position: Callable[[], int] = lambda: 0) -> T:
        """Repeat a step that the network broke; a step that got further begins to count anew."""
        failures = 0
        while True:
            before = position()
            try:
                return step()
            except (_HttpError, _BrokenOff) as error:
                if isinstance(error, HfHubHTTPError) and error.response.status_code not in _PASSING:
                    raise
                failures = 1 if position() > before else failures + 1
                if failures >= self._tries:
                    raise
            pause_s = min(self._pause_s * 2 ** (failures - 1), _MOST_PAUSE_S)
            say("pull", f"the hub gave no answer, or broke off; trying again in {pause_s:g} s", done=False)
            time.sleep(pause_s)

    @contextmanager
    def _translated(self, name: ModelName) -> Iterator[None]:
        """Every error of the hub becomes one of ours."""
        try:
            yield
        except GatedRepoError as error:
            raise self._gated(name) from error
        except RevisionNotFoundError as error:
            raise NotFound(f"{name.repo} has no revision {name.revision}", "look at its page for branches") from error
        except RepositoryNotFoundError as error:
            raise NotFound(
                f"{self.endpoint} has no model {name.repo}, or keeps it private",
                "check the name; for a private one set HF_TOKEN to a token that may read it",
            ) from error
        except EntryNotFoundError as error:
            raise NotFound(f"a file of {name} is gone from the hub", "run the command again") from error
        except HfHubHTTPError as error:
            raise self._refused(name, error.response.status_code) from error
        except OfflineModeIsEnabled as error:
            raise HubAway("HF_HUB_OFFLINE is set, so no hub is asked", "unset it, or import a bundle") from error
        except (_HttpError, _BrokenOff) as error:
            raise HubAway(
                f"{self.endpoint} can't be reached, or breaks off: {error}", f"{_AWAY}; it resumes"
            ) from error
        except (ValueError, TypeError, LookupError) as error:  # such as the page of a network's login
            raise HubAway(f"{self.endpoint} does not answer as a hub does: {error}", _AWAY) from error

    def _refused(self, name: ModelName, status: int) -> ModelFilesError:
        if status == 401:
            return Gated(f"{self.endpoint} does not know the token that it was sent", "set HF_TOKEN to a valid one")
        if status == 403:
            return self._gated(name)
        return HubAway(f"{self.endpoint} answers with status {status}", "try again later; it resumes")

    def _gated(self, name: ModelName) -> Gated:
        return Gated(
            f"{name.repo} is gated: its owner wants a licence accepted",
            f"accept it at {self.endpoint}/{name.repo}, and set HF_TOKEN to a token that may read gated models",
        )


class _BrokenOff(Exception):
    """An answer that ended before its end."""


_LIES = "run the command again; if it stays so, whoever stands between you and the hub changes files"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
