"""What tells two attempts at a document apart: the same fingerprint means the same text, chunks and vectors."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from retrieval.settings import RetrievalSettings

_PIPELINE = 4  # raised when parsing, chunking or analysis change what they make of a file


def of_content(
    settings: RetrievalSettings,
    *,
    sha256: str,
    media_type: str,
    filename: str,
    chunking: Mapping[str, Any],
    embedding_space: str,
) -> str:
    """Of all that a revision's text and vectors are made from; the name is in it as the title may come from there."""
    cutting = {name: value for name, value in settings.model_dump().items() if name.startswith("chunk_")}
    return _digest([_PIPELINE, sha256, media_type, filename, cutting, dict(chunking), embedding_space])


def of_said(metadata: Mapping[str, Any], readers: Sequence[str]) -> str:
    """Of what the rows in the index say of a document beside its content."""
    return _digest([dict(metadata), sorted(readers)])


def of_text(text: str) -> str:
    """Of one chunk as it is embedded."""
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
