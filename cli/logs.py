"""`./stoker logs`: what the processes wrote."""

import time
from collections.abc import Sequence
from pathlib import Path

from cli.console import out
from cli.errors import CliError
from cli.logfiles import last_lines
from cli.settings import CliSettings

_EVERY_S = 0.3


def show_logs(settings: CliSettings, name: str | None, count: int, *, follow: bool) -> None:
    """Print the last lines of one log, or of all, and go on with what comes when following.

    Raises: CliError: there is no such log.
    """
    files = sorted(settings.logs_dir.glob("*.log"))
    known = [file.stem for file in files]
    if name is not None:
        files = [file for file in files if file.stem == name]
    if not files:
        what = f"no log of {name!r} in {settings.logs_dir}" if name else f"no logs in {settings.logs_dir}"
        raise CliError(what, f"there are: {', '.join(known)}" if known else "./stoker up writes them")
    offsets = {file: file.stat().st_size for file in files}
    for file in files:
        _print(file, last_lines(file, count), many=len(files) > 1)
    while follow:
        time.sleep(_EVERY_S)
        for file in files:
            offsets[file] = _print_new(file, offsets[file], many=len(files) > 1)


def _print_new(file: Path, offset: int, *, many: bool) -> int:
    """Print whole lines that came after `offset`. Returns: where to go on."""
    size = file.stat().st_size
    if size < offset:  # cut short
        offset = 0
    with file.open("rb") as handle:
        handle.seek(offset)
        data = handle.read()
    whole = data[: data.rfind(b"\n") + 1]
    _print(file, whole.decode(errors="replace").splitlines(), many=many)
    return offset + len(whole)


def _print(file: Path, lines: Sequence[str], *, many: bool) -> None:
    for line in lines:
        out.print(f"{file.stem}: {line}" if many else line, markup=False, highlight=False)
