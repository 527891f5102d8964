"""What can go wrong with model files.

ModelFilesError         message and remedy
├── NameRefused         no name of a model, or a path that would leave its folder
├── NotFound            the hub, or the folder of models, has no such thing
├── Gated               the hub wants a licence accepted, or another token
├── HubAway             the hub can't be reached, or breaks off again and again
├── DiskFull            no room for what is to come
├── ChecksumWrong       what came is not what was promised
├── NoWeights           nothing in it that could be loaded
├── Damaged             a folder is not what its manifest says
└── BundleRefused       the file is no bundle, or says what no bundle may say
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ModelFilesError(Exception):
    """An expected failure.

    Args:
        message: what went wrong.
        remedy: what the person can do about it.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}: {remedy}")
        self.message = message
        self.remedy = remedy


class NameRefused(ModelFilesError):
    """No name of a model, or a path that would leave its folder."""


class NotFound(ModelFilesError):
    """There is no such thing."""


class Gated(ModelFilesError):
    """The hub does not let this caller in."""


class HubAway(ModelFilesError):
    """The hub can't be reached."""


class DiskFull(ModelFilesError):
    """No room."""


class ChecksumWrong(ModelFilesError):
    """What came is not what was promised."""


class NoWeights(ModelFilesError):
    """Nothing that could be loaded."""


class Damaged(ModelFilesError):
    """A folder is not what its manifest says."""


class BundleRefused(ModelFilesError):
    """No bundle, or one that says what no bundle may say."""


@contextmanager
def disk_errors(folder: Path, resumes: str = "") -> Iterator[None]:
    """Turn a full disk into `DiskFull`.

    Args:
        resumes: what the person may count on when the command is run again.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"the disk of {folder} is full", f"make room and run the command again{resumes}") from error
