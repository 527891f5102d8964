"""Which of a model's files are needed to serve it."""

import re
from collections.abc import Iterable

from inference.modelfiles.errors import NotFound, NoWeights
from inference.modelfiles.names import MANIFEST

# The folders that sentence-transformers' modules.json names, such as 1_Pooling; and transformers' own for templates.
_MODULE = re.compile(r"\d+_[A-Za-z0-9]+")
_TEMPLATES = "additional_chat_templates"
_SMALL = (".json", ".txt", ".jinja", ".model", ".tiktoken", ".bpe", ".vocab")
_LICENCES = ("LICENSE", "LICENCE", "NOTICE", "COPYING")
# Pickles: taken only where there is nothing else; training_args.bin and optimizer.bin are no weights.
_PICKLES = re.compile(r"(?:pytorch_model|model|adapter_model)[^/]*\.bin")
_TWINS = "consolidated"  # Mistral's own form of what stands beside it in Hugging Face's
_PART_OF_GGUF = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


def needed(paths: Iterable[str], name: str) -> list[str]:
    """Safetensors, configuration, tokenizer, templates, licences; `*.bin` only in a folder without safetensors.

    Raises: NoWeights: none of them are weights.
    """
    folders: dict[str, list[str]] = {}
    ggufs = []
    for path in paths:
        if path == MANIFEST:
            continue
        folder, _, file = path.rpartition("/")
        if folder in ("", _TEMPLATES) or _MODULE.fullmatch(folder):
            folders.setdefault(folder, []).append(file)
        if path.lower().endswith(".gguf"):
            ggufs.append(path)
    chosen: list[str] = []
    weighs = False
    for folder, files in folders.items():
        weights = _weights(files)
        weighs = weighs or bool(weights)
        chosen += [f"{folder}/{file}" if folder else file for file in [*weights, *_small(files, weights)]]
    if not weighs:
        if ggufs:
            raise NoWeights(f"{name} has only GGUF files", f"name one of them, such as {name}:{min(ggufs)}")
        raise NoWeights(f"{name} has no weights in safetensors or PyTorch's form", "name another model")
    return sorted(chosen)


def needed_gguf(paths: Iterable[str], name: str, gguf: str) -> list[str]:
    """The one file. Raises: NotFound, NoWeights."""
    found = sorted(path for path in paths if path.lower().endswith(".gguf"))
    if gguf not in found:
        there = f"it has {', '.join(found[:20])}" if found else "it has no GGUF files"
        raise NotFound(f"{name} has no file {gguf}", there)
    if _PART_OF_GGUF.search(gguf):
        raise NoWeights(f"{gguf} is one part of several", "name a GGUF file in one piece, or the model's safetensors")
    return [gguf]


def _weights(files: list[str]) -> list[str]:
    tensors = [file for file in files if file.endswith(".safetensors")]
    if tensors:
        return [file for file in tensors if not file.startswith(_TWINS)] or tensors
    return [file for file in files if _PICKLES.fullmatch(file)]


def _small(files: list[str], weights: list[str]) -> list[str]:
    """What belongs to the weights; no index of weights that are left out, no picture, no code."""
    small = [file for file in files if file.endswith(_SMALL) or file.upper().startswith(_LICENCES)]
    kept = tuple({file.rpartition(".")[2] for file in weights})
    return [file for file in small if not file.endswith(".index.json") or file.endswith(_indexes(kept))]


def _indexes(endings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f".{ending}.index.json" for ending in endings)
