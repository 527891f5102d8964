"""An export's folder, made out of a gateway's records and the files of its models; whole, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.catalog import FILE, CatalogWriter
from edge.errors import ExportBroken
from edge.indexing import IndexWriter
from edge.manifest import Manifest, sums

RECORDS = 1
"""The format of the gateway's records that is read."""
EMBEDDING, LLM = "embedding", "llm"
_AGAIN = "run the same command again"
_ODD = (".git", ".cache", "__pycache__")  # folders that are no part of a model
_MODEL_FILES = {".json", ".txt", ".model", ".safetensors", ".jinja", ".md"}
"""What a model is loaded from; weights in formats that can hold code, and code, stay behind."""

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model's files, and the name that it is served under."""

    path: Path
    name: str


def write(
    records: Iterable[Record],
    to: Path,
    embedding: ModelFolder,
    llm: ModelFolder | None,
    stoker: str,
    now_s: float,
) -> Manifest:
    """Make the folder: beside its place, and moved there when it is whole.

    Args:
        records: of `/v1/collections/{name}/export`, as they come.

    Raises: ExportBroken: they are not whole, a model's files are none, or the folder can't be written; nothing is left.
    """
    if to.exists():
        raise ExportBroken(f"{to} exists", "choose another folder with --output, or take that one away")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}."))
    except OSError as error:
        raise ExportBroken(
            f"{to} can't be written: {error.strerror}", "name a folder of yours with --output"
        ) from error
    try:
        made = _fill(beside, records, now_s)
        models = {EMBEDDING: embedding.name}
        _copy(embedding, beside / EMBEDDING, "modules.json")
        if llm is not None:
            models[LLM] = llm.name
            _copy(llm, beside / LLM, "config.json")
        manifest = Manifest(
            stoker=stoker,
            exported_at=now_s,
            collection=made.collection,
            index=made.index,
            models=models,
            documents=made.documents,
            files=sums(beside),
            warnings=tuple(_warnings(made.collection)),
        )
        manifest.write(beside)
        _persist(beside)
        os.chmod(beside, 0o700)
        os.rename(beside, to)
    except OSError as error:
        raise ExportBroken(f"{to} can't be written: {error.strerror}", "make room, or choose another folder") from error
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(beside)
    return manifest


@dataclass(frozen=True, slots=True)
class _Made:
    collection: Record
    index: Record
    documents: int


def _fill(folder: Path, records: Iterable[Record], now_s: float) -> _Made:
    """Catalog and index. Raises: ExportBroken."""
    coming = iter(records)
    collection = next(coming, {})
    if collection.get("kind") == "error":
        raise _refusal(collection)
    if collection.get("kind") != "collection" or collection.get("format") != RECORDS:
        raise ExportBroken("what the gateway sent is no export of this version", "let both be of one version")
    documents, ended = 0, None
    dimensions, chunks = collection["dimensions"], collection["chunks"]
    with CatalogWriter(folder / FILE) as catalog, IndexWriter(folder, dimensions, chunks) as index:
        catalog.collection(collection, now_s)
        for record in coming:
            match record.get("kind"):
                case "document":
                    catalog.document(record)
                    index.document(record)
                    documents += 1
                case "chunks":
                    index.add(record)
                case "statistics":
                    catalog.statistics(record["terms"])
                case "end":
                    ended = record
                case "error":
                    raise _refusal(record)
        if ended is None or (ended["documents"], ended["chunks"]) != (documents, index.chunks):
            raise ExportBroken("what the gateway sent is not whole", _AGAIN)
        catalog.finish()
        index.finish()
        about = {"kind": index.kind, "metric": "cosine", "dimensions": dimensions, "chunks": index.chunks}
    return _Made(collection, about, documents)


def _warnings(collection: Record) -> list[str]:
    said = []
    if collection["local_only"] or collection["providers"] is not None or collection["regions"] is not None:
        said.append(
            "text of this collection is bound to its house: carry the folder to machines of the house only; questions "
            "go to no central gateway but the one that it was exported from"
        )
    return said


def _copy(model: ModelFolder, to: Path, sign: str) -> None:
    """Copy a model's files, links followed. Raises: ExportBroken: it is no model."""
    if not (model.path / sign).is_file():
        raise ExportBroken(f"{model.path} is no model: it has no {sign}", "name the folder of a Hugging Face model")

    def left_out(folder: str, names: Sequence[str]) -> list[str]:
        return [
            name
            for name in names
            if name in _ODD or (not Path(folder, name).is_dir() and Path(name).suffix.lower() not in _MODEL_FILES)
        ]

    shutil.copytree(model.path, to, ignore=left_out, copy_function=shutil.copyfile)
    if not any(to.rglob("*.safetensors")):
        raise ExportBroken(
            f"{model.path} has no weights in safetensors", "convert them first: other formats may hold code"
        )


def _persist(folder: Path) -> None:
    """Have all of it on the disk before it gets its name."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refusal(record: Record) -> ExportBroken:
    error = record.get("error") or {}
    return ExportBroken(f"the gateway could not go on: {error.get('message', 'it does not say why')}", _AGAIN)
