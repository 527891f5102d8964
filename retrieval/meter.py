"""How many tokens a piece of text takes: by the embedder's own tokenizer, or estimated where its file is not here."""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer

TokenStarts = Callable[[str], Sequence[int]]  # the places at which a text's tokens begin, in characters, in order

_WIDE = "\u0e00-\u0eff\u1100-\u11ff\u2e80-\ud7ff\uf900-\ufaff\U0001f000-\U0003ffff"
# An estimate of WordPiece's pieces: its English vocabulary keeps common words whole, cuts numbers and foreign words
# short, and has a piece for each punctuation mark and wide character.
_PIECE = r"[{wide}]|[A-Za-z]{{1,{letters}}}|[0-9]{{1,3}}|(?:(?![{wide}])[^\W_A-Za-z0-9]){{1,2}}|[^\w\s]|_"
_WIDE_SIGN = re.compile(f"[{_WIDE}]")  # a word of its own
_ENGLISH_PIECE = re.compile(_PIECE.format(wide=_WIDE, letters=6))
_OTHER_PIECE = re.compile(_PIECE.format(wide=_WIDE, letters=3))
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH_WORD = re.compile(
    r"\b(?:the|of|and|to|in|is|for|that|it|with|as|be|are|on|by|this|or|from|an|not|which|at|was|you|if|name)\b", re.I
)
_ENGLISH_SHARE = 0.05  # of its words by which a text is told to be English
_JUDGED = 20_000  # characters
_PART_CHARACTERS = 4096  # given to the tokenizer at once

ESTIMATE_MARGIN = 0.85  # of a limit in tokens that an estimate may fill, so that the real count stays below it


def estimator(text: str) -> TokenStarts:
    """An estimate that fits the language of a text: English words take fewer tokens than others."""
    head = text[:_JUDGED]
    english = len(_ENGLISH_WORD.findall(head)) >= _ENGLISH_SHARE * len(_WORD.findall(head))
    piece = _ENGLISH_PIECE if english else _OTHER_PIECE
    return lambda part: [match.start() for match in piece.finditer(part)]


def tokenizer_starts(file: Path) -> TokenStarts:
    """The embedder's own tokenizer.

    Args:
        file: its `tokenizer.json`.

    Raises: ValueError: there is no such file, or it is none.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{file} is no tokenizer.json that can be read") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def starts(text: str) -> list[int]:
        found = []
        for first, part in _parts(text):
            found += [first + start for start, _ in tokenizer.encode(part, add_special_tokens=False).offsets]
        return found

    return starts


class Meter:
    """Counts tokens of any span of one text, which is tokenized once."""

    def __init__(self, text: str, token_starts: TokenStarts) -> None:
        self._text = text
        self._token_starts = token_starts
        self._starts = token_starts(text)

    def count(self, start: int, end: int) -> int:
        """Tokens of `text[start:end]`; where an end of the span cuts a word, its part is tokenized anew."""
        if self._cuts_word(start) or self._cuts_word(end):
            return len(self._token_starts(self._text[start:end]))
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def _cuts_word(self, place: int) -> bool:
        if not 0 < place < len(self._text):
            return False
        before, after = self._text[place - 1], self._text[place]
        if before.isspace() or after.isspace():
            return False
        if before.isalnum() and after.isalnum() and not (_WIDE_SIGN.match(before) or _WIDE_SIGN.match(after)):
            return True
        nearest = bisect_left(self._starts, place)
        return nearest == len(self._starts) or self._starts[nearest] != place


def _parts(text: str) -> list[tuple[int, str]]:
    """Cut where a line or a word ends, so that no token is cut unless it is longer than a part."""
    parts = []
    first = 0
    while first < len(text):
        last = first + _PART_CHARACTERS
        if last < len(text):
            last = max(text.rfind("\n", first, last), text.rfind(" ", first, last)) + 1 or last
        parts.append((first, text[first:last]))
        first = last
    return parts
