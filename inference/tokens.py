"""Texts to token ids, with the model's own tokenizer: prompts put before, what is too long refused or cut.

Pure but for the tokenizer, which is never set to cut or to pad, so several threads may use it at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Cut(StrEnum):
    """What becomes of a text that is longer than the model takes."""

    NONE = "NONE"
    """It is refused."""
    START = "START"
    """Its beginning is left out."""
    END = "END"
    """Its end is left out."""


@dataclass(frozen=True, slots=True)
class Tokenised:
    """One text, or one pair of texts, as tokens.

    Attributes:
        ids: token ids with the model's special tokens, at least 1 and at most as many as the model takes.
        types: for each id, which text of a pair it belongs to, as the model was taught; None for a single text.
        truncated: the text was longer and has been cut.
    """

    ids: list[int]
    types: list[int] | None = None
    truncated: bool = False


class TextTooLong(Exception):
    """A text has more tokens than the model takes, and was not to be cut.

    Attributes:
        index: of the text in its request.
        tokens: that it has, special ones included.
        most: that the model takes.
    """

    def __init__(self, index: int, tokens: int, most: int) -> None:
        super().__init__(f"text {index} has {tokens} tokens, and the model takes {most}")
        self.index, self.tokens, self.most = index, tokens, most


class TokenUnknown(Exception):
    """A token id is none of the model's.

    Attributes:
        index: of the text in its request.
        token: the id.
        vocabulary: how many ids there are, the first being 0.
    """

    def __init__(self, index: int, token: int, vocabulary: int) -> None:
        super().__init__(f"text {index} holds the token id {token}, and the model has {vocabulary}")
        self.index, self.token, self.vocabulary = index, token, vocabulary


class Encoding(Protocol):
    """What `tokenizers.Encoding` tells."""

    ids: list[int]
    type_ids: list[int]
    special_tokens_mask: list[int]
    sequence_ids: list[int | None]


class Backend(Protocol):
    """What is used of `tokenizers.Tokenizer`."""

    def encode_batch(self, input: list[Any]) -> Sequence[Encoding]: ...

    def get_vocab_size(self) -> int: ...


class Tokeniser:
    """A model's tokenizer.

    Args:
        backend: it; neither truncation nor padding may be switched on in it.
        max_tokens: that the model takes, special ones included.
    """

    def __init__(self, backend: Backend, max_tokens: int) -> None:
        self._backend = backend
        self._max_tokens = max_tokens
        empty = backend.encode_batch([""])[0].ids
        (sample,) = backend.encode_batch(["a"])
        head = _leading(sample.special_tokens_mask)
        self._head, self._tail = empty[:head], empty[head:]
        self.vocabulary = backend.get_vocab_size()

    def texts(self, texts: Sequence[str], prompt: str = "", cut: Cut = Cut.NONE, first: int = 0) -> list[Tokenised]:
        """Tokens of texts, each behind the prompt.

        Args:
            first: place of the first of them in their request, for errors.

        Raises: TextTooLong.
        """
        kept = len(self._inner(prompt)) if prompt and cut is Cut.START else 0
        encodings = self._backend.encode_batch([prompt + text for text in texts])
        head, tail = len(self._head), len(self._tail)
        return [
            self._fitted(at, encoding.ids[head : len(encoding.ids) - tail], cut, kept)
            for at, encoding in enumerate(encodings, first)
        ]

    def ids(self, rows: Sequence[Sequence[int]], cut: Cut = Cut.NONE) -> list[Tokenised]:
        """Texts that are token ids already: special tokens are added where they are missing, and no prompt is.

        Raises: TextTooLong, TokenUnknown.
        """
        return [self._fitted(at, self._checked(at, row), cut, 0) for at, row in enumerate(rows)]

    def pairs(self, query: str, documents: Sequence[str], cut: Cut = Cut.NONE) -> list[Tokenised]:
        """Tokens of a query with each of some documents; only documents are cut.

        Raises: TextTooLong: a pair is too long, or the query alone leaves no room for a document.
        """
        encodings = self._backend.encode_batch([(query, document) for document in documents])
        return [self._fitted_pair(at, encoding, cut) for at, encoding in enumerate(encodings)]

    def _inner(self, text: str) -> list[int]:
        ids = self._backend.encode_batch([text])[0].ids
        return ids[len(self._head) : len(ids) - len(self._tail)]

    def _checked(self, at: int, row: Sequence[int]) -> list[int]:
        for token in row:
            if not 0 <= token < self.vocabulary:
                raise TokenUnknown(at, token, self.vocabulary)
        ids, head, tail = list(row), len(self._head), len(self._tail)
        marked = (head or tail) and ids[:head] == self._head and ids[len(ids) - tail :] == self._tail
        return ids[head : len(ids) - tail] if marked and len(ids) >= head + tail else ids

    def _fitted(self, at: int, inner: list[int], cut: Cut, kept: int) -> Tokenised:
        room = self._max_tokens - len(self._head) - len(self._tail)
        if len(inner) <= room:
            return Tokenised([*self._head, *inner, *self._tail])
        if cut is Cut.NONE:
            raise TextTooLong(at, len(inner) + self._max_tokens - room, self._max_tokens)
        kept = min(kept, room)
        rest = inner[:room] if cut is Cut.END else [*inner[:kept], *inner[len(inner) - (room - kept) :]]
        return Tokenised([*self._head, *rest, *self._tail], truncated=True)

    def _fitted_pair(self, at: int, encoding: Encoding, cut: Cut) -> Tokenised:
        over = len(encoding.ids) - self._max_tokens
        if over <= 0:
            return Tokenised(encoding.ids, encoding.type_ids)
        document = [place for place, of in enumerate(encoding.sequence_ids) if of == 1]
        if cut is Cut.NONE or over >= len(document):
            raise TextTooLong(at, len(encoding.ids), self._max_tokens)
        gone = set(document[-over:] if cut is Cut.END else document[:over])
        kept: Callable[[list[int]], list[int]] = lambda row: [one for place, one in enumerate(row) if place not in gone]  # noqa: E731
        return Tokenised(kept(encoding.ids), kept(encoding.type_ids), truncated=True)


def _leading(special: Sequence[int]) -> int:
    count = 0
    while count < len(special) and special[count]:
        count += 1
    return count
