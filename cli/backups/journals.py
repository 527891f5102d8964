"""Lines of the ledger that are not in SQL yet, out of the journals of this host's workers, and back into a folder."""

import re
import shutil
from pathlib import Path

from api.ledger.files import Files, workers

_JOURNAL = re.compile(r"(.+)\.(\d{6})\.journal")


def copy(folder: Path, to: Path) -> int:
    """Copy whole lines of what is there, in place of what an earlier copy had. Returns: bytes.

    What the keeper has shipped meanwhile may be in the copy, too: SQL takes a line once.
    """
    to.mkdir(parents=True, exist_ok=True, mode=0o700)
    copied = 0
    for files in workers(folder) if folder.is_dir() else ():
        for path in files.journals():
            try:
                data = path.read_bytes()
            except FileNotFoundError:  # shipped whole since the look: SQL has it
                continue
            whole = data[: data.rfind(b"\n") + 1]  # its worker may be writing the line behind
            if whole:
                (to / path.name).write_bytes(whole)
                copied += len(whole)
    return copied


def lay(copied: Path, folder: Path) -> int:
    """Lay journals down as those of workers that have died: the keeper ships them. Returns: how many."""
    found = [match for path in copied.glob("*") if (match := _JOURNAL.fullmatch(path.name))]
    for match in found:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = Files(folder, match[1])
        shutil.copyfile(copied / match[0], files.journal(int(match[2])))
        files.lock.touch(0o600)
    return len(found)
