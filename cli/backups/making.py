"""`./stoker backup`: everything that a stack keeps, as it was at one moment, while it goes on working.

The journals of the ledger are copied first: what a journal has lost since, SQL has. Then SQL is read at one moment, and
what that moment stands on is copied from the other stores. What was deleted since, so that it can't be copied any more,
makes the moment useless: then a later one is taken, for which hardly anything is left to copy.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from cli.backups import catalog, journals, manifest, told, vectors
from cli.backups.catalog import Indexed, Needs
from cli.backups.manifest import Manifest, Placed
from cli.backups.stores import Stores, reached, running, take_still
from cli.console import err
from cli.errors import CliError
from cli.settings import CliSettings
from core.dependency import DependencyError
from core.ids import new_id
from core.version import VERSION
from retrieval.errors import IndexRefused
from retrieval.index import row_id
from storage.dump import Dump, DumpRefused, dump
from storage.migrate import revisions
from storage.objects import ObjectNotFound

_NAME, _UNFINISHED = "stoker-", ".partial"
_MOST_ROUNDS = 5
_ROWS_AT_ONCE = 500
_OBJECTS_AT_ONCE = 8
_INDEX_S = 120.0


@dataclass(slots=True)
class _Copied:
    """What a backup has so far, and what no store had when it was asked for."""

    objects: set[str] = field(default_factory=set)
    revisions: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)


def backup(settings: CliSettings, to: Path, keep: int | None = None) -> tuple[Path, Manifest]:
    """Write a new backup into the folder `to`.

    Args:
        keep: how many of the newest whole ones stay there, this one included; None: all.

    Returns: its folder, and what it is of.
    Raises: CliError: it can't be made; nothing of it is left.
    """
    lock = take_still(settings) if running(settings) is None and settings.milvus_uri is None else None
    to.mkdir(parents=True, exist_ok=True)
    clean(to)
    name = time.strftime(f"{_NAME}%Y%m%dT%H%M%SZ", time.gmtime())
    unfinished, whole = to / f".{name}.{os.getpid()}{_UNFINISHED}", to / name
    if whole.exists():
        raise CliError(f"{whole} exists", "wait for a second, and run the command again")
    try:
        unfinished.mkdir(mode=0o700)
        asyncio.run(_make(settings, unfinished))
        unfinished.rename(whole)
    except DependencyError as error:
        raise CliError(f"a part of the stack is away: {error}", "./stoker status shows which; try again") from error
    except (DumpRefused, IndexRefused) as error:
        raise CliError(f"the backup can't be made: {error}", "mend that, and run the command again") from error
    except OSError as error:
        raise CliError(f"{to} can't be written: {error.strerror or error}", "make room, or choose another") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if lock is not None:
            os.close(lock)
    for old in kept(to)[:-keep] if keep else ():
        shutil.rmtree(old)
    return whole, manifest.read(whole)


def kept(folder: Path) -> list[Path]:
    """The whole backups of a folder, the oldest first."""
    return sorted(path for path in folder.glob(f"{_NAME}*") if (path / manifest.SUMS).is_file())


def clean(folder: Path) -> None:
    """Remove what backups that were killed have left there."""
    for path in folder.glob(f".{_NAME}*{_UNFINISHED}"):
        maker = path.name.removesuffix(_UNFINISHED).rpartition(".")[2]
        if not (maker.isdigit() and Path(f"/proc/{maker}").exists()):
            shutil.rmtree(path, ignore_errors=True)


async def _make(settings: CliSettings, folder: Path) -> None:
    (folder / manifest.SETTINGS).write_text(told.as_text(settings.config))
    copied = _Copied()
    rounds = 0
    async with reached(settings) as stores:
        while True:
            rounds += 1
            journals.copy(settings.data_dir / "ledger", folder / manifest.LEDGER)
            shutil.rmtree(folder / manifest.SQL, ignore_errors=True)
            now_s = time.time()
            seen = await dump(settings.sql_url(), folder / manifest.SQL, lambda c: catalog.needs(c, now_s))  # noqa: B023
            _check_schema(seen)
            before, copied.missing = copied.missing, set()
            await _copy(stores, folder, seen.seen, copied)
            if copied.missing <= before:  # nothing is missing, or what was so at two moments
                break
            if rounds == _MOST_ROUNDS:
                raise CliError(
                    "documents are deleted faster than they can be copied", "make the backup at another time"
                )
    _drop_surplus(folder, seen.seen, copied)
    made = Manifest(
        id=new_id("backup"),
        made_at=now_s,
        stoker=VERSION,
        schema=seen.revision,
        sql=seen.kind,
        tables=seen.tables,
        places=[Placed(place, dimensions) for place, dimensions in seen.seen.places.items()],
        objects=len(copied.objects),
        revisions=len(copied.revisions),
        rows=sum(each.chunks for each in seen.seen.revisions if each.id in copied.revisions),
        rounds=rounds,
        lost=sorted(copied.missing),
    )
    manifest.seal(folder, made)


def _check_schema(seen: Dump[Needs]) -> None:
    known = revisions()[-1]
    if seen.revision != known:
        remedy = "use the version of Stoker that the stack runs, or ./stoker up of this one"
        raise CliError(f"SQL has schema {seen.revision}, and this version's is {known}", remedy)


async def _copy(stores: Stores, folder: Path, needs: Needs, copied: _Copied) -> None:
    """Copy what this moment needs and the backup does not have."""
    objects = sorted(needs.objects - copied.objects)
    indexed = [each for each in needs.revisions if each.id not in copied.revisions]
    with Progress(console=err, disable=not err.is_terminal, transient=True) as bars:
        bar = bars.add_task("copying", total=len(objects) + len(indexed))
        for first in range(0, len(objects), _OBJECTS_AT_ONCE):
            some = objects[first : first + _OBJECTS_AT_ONCE]
            await asyncio.gather(*(_copy_object(stores, folder, key, copied) for key in some))
            bars.advance(bar, len(some))
        for each in indexed:
            await _copy_rows(stores, folder, each, copied)
            bars.advance(bar)


async def _copy_object(stores: Stores, folder: Path, key: str, copied: _Copied) -> None:
    try:
        data = await stores.objects.get(key)
    except ObjectNotFound:
        copied.missing.add(key)
        return
    file = folder / manifest.OBJECTS / key
    file.parent.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(file.write_bytes, data)
    copied.objects.add(key)


async def _copy_rows(stores: Stores, folder: Path, revision: Indexed, copied: _Copied) -> None:
    ids = [row_id(revision.id, number) for number in range(revision.chunks)]
    rows = []
    try:
        for first in range(0, len(ids), _ROWS_AT_ONCE):
            rows += await stores.index.rows(revision.place, ids[first : first + _ROWS_AT_ONCE], _INDEX_S)
    except IndexRefused:  # the collection itself is gone
        rows = []
    if len(rows) < len(ids):
        copied.missing.add(f"rows of {revision.id}")
        return
    await asyncio.to_thread(vectors.write, vectors_of(folder, revision), rows)
    copied.revisions.add(revision.id)


def vectors_of(folder: Path, revision: Indexed) -> Path:
    """The file of a revision's rows."""
    return folder / manifest.VECTORS / revision.place.name / f"{revision.id}.jsonl.gz"


def _drop_surplus(folder: Path, needs: Needs, copied: _Copied) -> None:
    """What an earlier moment needed and this one does not was deleted meanwhile: it is not kept."""
    for key in copied.objects - needs.objects:
        (folder / manifest.OBJECTS / key).unlink()
    copied.objects &= needs.objects
    wanted = {vectors_of(folder, each) for each in needs.revisions}
    for path in (folder / manifest.VECTORS).rglob("*.gz"):
        if path not in wanted:
            path.unlink()
    copied.revisions &= {each.id for each in needs.revisions}


def sizes(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Bytes of each part of a backup."""
    return {
        name: sum(path.stat().st_size for path in (folder / name).rglob("*") if path.is_file())
        for name in names
        if (folder / name).is_dir()
    }
