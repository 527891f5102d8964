"""How long a document's chunks may be: as the document itself says, else its collection, else the settings.

A document's own cutting has the form of OpenAI's static strategy. What it asks for beyond the embedder's window
(`chunk_tokens`) is cut smaller: the end of a longer chunk would be found by its words, and never by its sense.
"""

from collections.abc import Mapping
from typing import Any

from retrieval.chunking import Limits, Strategy
from retrieval.errors import InputInvalid
from retrieval.settings import RetrievalSettings

SIZE, OVERLAP = "max_chunk_size_tokens", "chunk_overlap_tokens"
_SIZES = range(100, 4097)
_CHARACTERS_OF_TOKEN = 4  # of what a chunk repeats; about as many as English has
_MOST_CHARACTERS_OF_TOKEN = 8  # so that tokens bound a chunk, and characters only what has no words
_MOST_CHARACTERS = 8000


def check_own(chunking: object, param: str = "chunking") -> dict[str, int] | None:
    """Take a document's own cutting; None: it has none. Raises: InputInvalid."""
    if chunking is None:
        return None
    if not isinstance(chunking, dict) or chunking.keys() != {SIZE, OVERLAP}:
        raise InputInvalid(param, f'{param} is an object such as {{"{SIZE}": 200, "{OVERLAP}": 50}}.')
    size, overlap = chunking[SIZE], chunking[OVERLAP]
    if type(size) is not int or size not in _SIZES:
        raise InputInvalid(param, f"{param}.{SIZE} is a whole number from {_SIZES.start} to {_SIZES.stop - 1}.")
    if type(overlap) is not int or not 0 <= overlap <= size // 2:
        raise InputInvalid(param, f"{param}.{OVERLAP} is a whole number from 0 to half of {SIZE}.")
    return {SIZE: size, OVERLAP: overlap}


def limits(settings: RetrievalSettings, chunking: Mapping[str, Any]) -> Limits:
    """The limits in force.

    Args:
        chunking: the document's own, else the collection's.
    """
    if SIZE in chunking:
        tokens = min(chunking[SIZE], settings.chunk_tokens)
        characters = min(_MOST_CHARACTERS, _MOST_CHARACTERS_OF_TOKEN * tokens)
        overlap = min(chunking[OVERLAP], tokens // 2) * _CHARACTERS_OF_TOKEN
        return Limits(characters, tokens, overlap, Strategy(settings.chunk_strategy))
    characters = int(chunking.get("characters", settings.chunk_characters))
    return Limits(
        characters=characters,
        tokens=int(chunking.get("tokens", settings.chunk_tokens)),
        overlap=min(int(chunking.get("overlap", settings.chunk_overlap)), characters // 2),
        strategy=Strategy(str(chunking.get("strategy", settings.chunk_strategy))),
    )


def as_static(settings: RetrievalSettings, chunking: Mapping[str, Any]) -> dict[str, int]:
    """A cutting in the form of a document's own: as it was asked for, else what is in force."""
    if SIZE in chunking:
        return {SIZE: chunking[SIZE], OVERLAP: chunking[OVERLAP]}
    found = limits(settings, chunking)
    return {SIZE: found.tokens, OVERLAP: found.overlap // _CHARACTERS_OF_TOKEN}
