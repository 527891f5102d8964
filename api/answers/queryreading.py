"""What a model wrote, read as what it was asked for: one question, other wordings, a passage.

Everything here raises `StepFailed` for what is empty or absurd; it is left out then, and the question is searched
without it.
"""

import json
from collections.abc import Sequence
from typing import Any

from api.answers.question import StepFailed

MOST_SAID = 8_000  # characters; nothing is read of an answer that goes on beyond
_MOST_QUESTION = 1_000
_MOST_WORDING = 500
_MOST_PASSAGE = 3_000
_PUNCTUATION = " \t\r\n.?!\"'“”„«»`"


def read_question(said: str, asked: str) -> str:
    """A rewritten question."""
    lines = [line for line in said.strip().splitlines() if line.strip()]
    if len(lines) > 1:
        raise StepFailed("the model wrote more than one line")
    return _plain(said, _MOST_QUESTION, [asked])


def read_wordings(said: str, known: Sequence[str], count: int) -> tuple[str, ...]:
    """At most `count` wordings that are not known; single ones that are absurd, or said before, are left out."""
    found = read_json(said)
    if not isinstance(found, dict) or found.keys() != {"queries"} or not isinstance(found["queries"], list):
        raise StepFailed('the model wrote no JSON object {"queries": [...]}')
    wordings: list[str] = []
    failure = StepFailed("the model wrote no other wording")
    for text in found["queries"]:
        try:
            wordings.append(_plain(text, _MOST_WORDING, [*known, *wordings]))
        except StepFailed as error:
            failure = error
    if not wordings:
        raise failure
    return tuple(wordings[:count])


def read_passage(said: str, known: Sequence[str]) -> str:
    """A passage such as an answer might stand in, which is more than the question as it is known."""
    return _plain(said, _MOST_PASSAGE, known)


def read_json(said: str) -> Any:
    """A JSON value, with nothing around it, no name twice in one object, and no number that JSON does not have."""
    try:
        return json.loads(said, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise StepFailed("the model wrote no JSON") from error


def _plain(text: object, most_characters: int, known: Sequence[str]) -> str:
    """The text with its white space made single, if it is one that can be searched and says something new."""
    if not isinstance(text, str):
        raise StepFailed("the model wrote something that is no text")
    if any(map(_is_broken, text)):
        raise StepFailed("the model wrote control characters or broken Unicode")
    plain = " ".join(text.split())
    if len(plain) >= 2 and plain[0] == plain[-1] == '"':
        plain = plain[1:-1].strip()
    if not _bare(plain):
        raise StepFailed("the model wrote nothing")
    if len(plain) > most_characters:
        raise StepFailed(f"the model wrote more than {most_characters:,} characters")
    if _bare(plain) in map(_bare, known):
        raise StepFailed("the model said again what was asked")
    return plain


def _is_broken(char: str) -> bool:
    code = ord(char)
    return code == 127 or 0xD800 <= code < 0xE000 or (code < 32 and not char.isspace())


def _bare(text: str) -> str:
    """What a text says, whatever its case, spaces and the marks around it."""
    return " ".join(text.casefold().split()).strip(_PUNCTUATION)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")
