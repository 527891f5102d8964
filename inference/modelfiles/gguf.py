"""A GGUF file into a folder in Hugging Face's layout: vLLM 0.32 reads no GGUF itself."""

import os
import shutil
import tempfile
from pathlib import Path

from inference.modelfiles import manifest as manifests
from inference.modelfiles.errors import ModelFilesError, disk_errors
from inference.modelfiles.manifest import Manifest
from inference.modelfiles.says import say
from inference.modelfiles.store import require_room

ROOM_FACTOR = 4
"""4-bit weights written as bfloat16, and the margin."""


def convert(gguf: Path, target: Path) -> None:
    """Write a GGUF file as a folder in bfloat16; `target` appears only when it is whole.

    Raises: DiskFull; ModelFilesError: it can't be converted.
    """
    require_room(target.parent, gguf.stat().st_size * ROOM_FACTOR)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        with disk_errors(target.parent):
            write_folder(gguf, partial)
            made_of = gguf.stat().st_size
            files = manifests.files_of(partial)
            manifests.write(partial, Manifest(target.name, gguf.name, files, source_bytes=made_of))
        partial.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_folder(gguf: Path, folder: Path) -> None:
    """Write weights in bfloat16, configuration and tokenizer. Raises: ModelFilesError."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read at import; nothing here is fetched
    try:
        import torch  # type: ignore[import-not-found]
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # type: ignore[import-not-found]
        from transformers.utils import logging  # type: ignore[import-not-found]
    except ImportError as error:
        raise ModelFilesError(f"{gguf.name} needs torch to be converted", "run it in .stoker/envs/inference") from error

    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        say("llm", "weights read; writing", done=False)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    except Exception as error:  # whatever transformers says of a file that it does not understand
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "make room if the disk is full; else take the model's safetensors"
        raise ModelFilesError(f"{gguf.name} could not be converted: {reason}", remedy) from error
    for file in folder.iterdir():
        file.chmod(0o644)
