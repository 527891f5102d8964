"""`./stoker restore`: a backup into an empty stack.

SQL comes last, and whole or not at all: until then the stack is as empty as it was, however the restore ends. A note in
the data folder says what is under way; while it is there, `./stoker up` starts nothing, and the same restore goes on or
is undone.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.progress import Progress

from cli.backups import journals, manifest, note, vectors
from cli.backups.manifest import Manifest
from cli.backups.note import Note
from cli.backups.stores import Stores, reached, take_still
from cli.console import err
from cli.errors import CliError
from cli.settings import CliSettings
from core.dependency import DependencyError
from retrieval.errors import IndexRefused
from storage.dump import DumpRefused, fill, holds, is_empty, kind_of
from storage.migrate import revisions
from storage.objects import ObjectError, ObjectStore

_ROWS_AT_ONCE = 500
_REVISIONS_AT_ONCE = 100
_OBJECTS_AT_ONCE = 8
_INDEX_S = 300.0
_EMPTY = "name an empty one: another --data-dir, database, bucket or Milvus"


def restore(settings: CliSettings, folder: Path) -> Manifest:
    """Fill an empty stack that does not run; run again, it goes on where it was interrupted.

    Raises: CliError: the backup or the stack can't be taken, and then nothing was changed; or a part failed, and then
        the same restore goes on when it is run again.
    """
    with _bar("reading the backup") as advance:
        backup = manifest.read(folder, advance)
    _check_versions(settings, backup)
    with _alone(settings):
        _run(_restore(settings, folder, backup))
    return backup


def undo(settings: CliSettings) -> None:
    """Take away what an interrupted restore has brought. Raises: CliError: there was none, or it has got through."""
    with _alone(settings):
        _run(_undo(settings))


def _check_versions(settings: CliSettings, backup: Manifest) -> None:
    if backup.schema not in revisions():
        said = f"the backup is of Stoker {backup.stoker} with schema {backup.schema}, which this version does not know"
        raise CliError(said, "restore it with that version or a newer one")
    if kind_of(settings.sql_url()) != backup.sql:
        raise CliError(
            f"the backup is of {backup.sql}, and this stack keeps SQL in {kind_of(settings.sql_url())}",
            "set STOKER_DATABASE_URL to one of the same kind, or move collections by ./stoker collections export",
        )


async def _restore(settings: CliSettings, folder: Path, backup: Manifest) -> None:
    async with reached(settings) as stores:
        under_way = note.load(settings.data_dir)
        if under_way is None:
            await _require_empty(settings, stores, backup)
            under_way = Note(backup.id, str(folder), [each.place for each in backup.places])
            under_way.save(settings.data_dir)
        elif under_way.backup != backup.id:
            remedy = f"run ./stoker restore {under_way.folder}, or ./stoker restore --undo first"
            raise CliError("a restore of another backup was interrupted here", remedy)
        if await is_empty(settings.sql_url()):
            await _put_objects(folder / manifest.OBJECTS, stores.objects)
            journals.lay(folder / manifest.LEDGER, settings.data_dir / "ledger")
            await _put_rows(settings, folder / manifest.VECTORS, stores, backup, under_way)
            await fill(settings.sql_url(), folder / manifest.SQL, backup.sql, backup.schema, backup.tables)
        elif not await holds(settings.sql_url(), backup.tables):
            raise CliError("somebody has filled SQL in the meantime", f"./stoker restore --undo, then {_EMPTY}")
    note.remove(settings.data_dir)


async def _undo(settings: CliSettings) -> None:
    under_way = note.load(settings.data_dir)
    if under_way is None:
        raise CliError(f"no restore into {settings.data_dir} was interrupted", "there is nothing to undo")
    async with reached(settings) as stores:
        if not await is_empty(settings.sql_url()):
            remedy = f"run ./stoker restore {under_way.folder} again, which ends it"
            raise CliError("SQL is filled: the restore has got through, but for its note", remedy)
        for key in await stores.objects.list_keys(""):
            await stores.objects.delete(key)
        for place in under_way.places:
            await stores.index.drop(place)
    shutil.rmtree(settings.data_dir / "ledger", ignore_errors=True)
    note.remove(settings.data_dir)


async def _require_empty(settings: CliSettings, stores: Stores, backup: Manifest) -> None:
    """Raises: CliError: something is kept there already."""
    if not await is_empty(settings.sql_url()):
        raise CliError("the stack is not empty: SQL has tenants", _EMPTY)
    if await stores.objects.list_keys(""):
        raise CliError(f"the stack is not empty: {settings.object_store_url()} has files", _EMPTY)
    ledger = settings.data_dir / "ledger"
    if ledger.is_dir() and any(ledger.iterdir()):
        raise CliError(f"the stack is not empty: {ledger} has lines that are not in SQL", _EMPTY)
    names = set(await stores.index.names())
    for place in (each.place for each in backup.places):
        theirs = place.pool is None or await stores.index.rest_of(place.pool, [place.collection_id])
        if place.name in names and theirs:
            raise CliError(f"the stack is not empty: the index has rows of {place.name}", _EMPTY)


async def _put_objects(folder: Path, objects: ObjectStore) -> None:
    files = _files_below(folder)
    with _bar("files", len(files)) as advance:
        for first in range(0, len(files), _OBJECTS_AT_ONCE):
            some = files[first : first + _OBJECTS_AT_ONCE]
            await asyncio.gather(*(_put(objects, path.relative_to(folder).as_posix(), path) for path in some))
            advance(len(some))


async def _put(objects: ObjectStore, key: str, file: Path) -> None:
    await objects.put(key, await asyncio.to_thread(file.read_bytes))


async def _put_rows(settings: CliSettings, folder: Path, stores: Stores, backup: Manifest, under_way: Note) -> None:
    by_name = {each.place.name: each for each in backup.places}
    by_place = {name: list(files) for name, files in groupby(_files_below(folder), lambda file: file.parent.name)}
    with _bar("vectors", backup.revisions) as advance:
        for name, files in by_place.items():
            if name in under_way.filled:
                continue
            if name not in by_name:
                raise CliError(f"{folder / name} belongs to no collection", "take another copy of the backup")
            about = by_name[name]
            await stores.index.ensure(about.place, about.dimensions, _INDEX_S)
            await _remove_begun(stores, backup, name, files)
            for file in files:
                for rows in vectors.read(file, _ROWS_AT_ONCE):
                    await stores.index.insert(about.place, rows, _INDEX_S)
                advance(1)
            await stores.index.flush(about.place, _INDEX_S)
            under_way = under_way.with_filled(name)
            under_way.save(settings.data_dir)


async def _remove_begun(stores: Stores, backup: Manifest, name: str, files: list[Path]) -> None:
    """What an interrupted restore has written of these: rows that came twice would be found twice."""
    ids = [file.name.partition(".")[0] for file in files]
    for place in (each.place for each in backup.places if each.place.name == name):
        for first in range(0, len(ids), _REVISIONS_AT_ONCE):
            await stores.index.delete_revisions(place, ids[first : first + _REVISIONS_AT_ONCE])


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def _alone(settings: CliSettings) -> Iterator[None]:
    """No stack may run on the data folder meanwhile."""
    lock = take_still(settings)
    try:
        yield
    finally:
        os.close(lock)


def _run(work: Coroutine[Any, Any, None]) -> None:
    again = "mend that, and run ./stoker restore again: it goes on"
    try:
        asyncio.run(work)
    except DependencyError as error:
        raise CliError(f"a part is away: {error}", again) from error
    except (DumpRefused, IndexRefused, ObjectError) as error:
        raise CliError(f"the restore did not get through: {error}", again) from error
    except OSError as error:
        raise CliError(f"the restore did not get through: {error.strerror or error}", again) from error


@contextmanager
def _bar(text: str, total: int | None = None) -> Iterator[Callable[[int], object]]:
    with Progress(console=err, disable=not err.is_terminal, transient=True) as bars:
        bar = bars.add_task(text, total=total)
        yield lambda count: bars.advance(bar, count)
