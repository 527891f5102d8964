"""Chunks with exact spans: every chunk is `text[start:end]`, and together they cover all that isn't white space.

Text is cut at headings, then between paragraphs, then between sentences, words and, last, anywhere. A chunk carries
the path of headings above it as context for embedding and lexical search; the context is no part of the chunk's text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retrieval.parsers.parsed import Parsed

_HEADING = re.compile(r"(#{1,6})[ \t]+(.*)")
_FENCE = re.compile(r"[ \t]*(```+|~~~+)")
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+|(?<=[。！？])|\n+")
_WORD_END = re.compile(r"\s+")
_WORDS = re.compile(r"[^\W_]+|[^\w\s]|_")
_WIDE = re.compile("[\u0e00-\u0eff\u1100-\u11ff\u2e80-\ud7ff\uf900-\ufaff\U0001f000-\U0003ffff]")
_CHARACTERS_PER_PIECE = 6.0  # a WordPiece vocabulary keeps common English words whole
_HEADING_CHARACTERS = 120  # of one heading, in the context of what stands below it
_CONTEXT_CHARACTERS = 300  # of all of them; what is nearest to the chunk is kept
_JOINED_BELOW = 0.25  # share of a chunk's size below which a section is joined with the next


@dataclass(frozen=True, slots=True)
class Chunk:
    """One passage: `text == document[start:end]`.

    Attributes:
        page: of its first character; None where the format has no pages.
        context: the document's title and the headings above, joined by " > "; may be empty.
    """

    text: str
    start: int
    end: int
    page: int | None
    context: str

    def indexed_text(self) -> str:
        """What is embedded and analysed."""
        return f"{self.context}\n{self.text}" if self.context else self.text


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a chunk may be: in characters, and in estimated tokens of the embedder."""

    characters: int = 950
    tokens: int = 220


@dataclass(frozen=True, slots=True)
class _Block:
    """A paragraph, a code block or a heading."""

    start: int
    end: int
    level: int = 0  # of a heading
    title: str = ""


def chunk(parsed: Parsed, limits: Limits, title: str = "") -> list[Chunk]:
    """Cut a document into chunks, in order and without overlap."""
    text = parsed.text
    page_starts = [start for _, start, _ in parsed.pages]
    chunks = []
    for start, end, path in _sections(parsed, limits):
        context = " > ".join(part for part in (title, *path) if part)[-_CONTEXT_CHARACTERS:]
        for left, right in _split(text, start, end, limits):
            # Pages without text share their start with the next page: the last of them holds the character.
            page = parsed.pages[max(0, bisect_right(page_starts, left) - 1)][0] if page_starts else None
            chunks.append(Chunk(text[left:right], left, right, page, context))
    return chunks


def estimate_tokens(text: str) -> int:
    """Estimate WordPiece tokens: a piece for each punctuation mark and wide character, one or more for a word."""
    count = 0
    for match in _WORDS.finditer(text):
        word = match.group()
        wide = 0 if word.isascii() else len(_WIDE.findall(word))
        count += wide + -(-(len(word) - wide) // int(_CHARACTERS_PER_PIECE))
    return count


def _sections(parsed: Parsed, limits: Limits) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Group blocks into spans that fit into one chunk, or hold one block that doesn't; with the headings above."""
    text = parsed.text
    headings: list[tuple[int, str]] = []
    start = end = -1
    path: tuple[str, ...] = ()
    body = False  # whether the span holds more than headings
    for block in _blocks(text, parsed.structured):
        joined = start >= 0 and _fits(text, start, block.end, limits)
        if joined and block.level and body:
            joined = end - start < limits.characters * _JOINED_BELOW
        if block.level:
            while headings and headings[-1][0] >= block.level:
                headings.pop()
            headings.append((block.level, block.title))
        if not joined:
            if start >= 0:
                yield start, end, path
            start, body = block.start, False
            path = tuple(name for _, name in headings)
        end = block.end
        body = body or not block.level
    if start >= 0:
        yield start, end, path


def _blocks(text: str, structured: bool) -> Iterator[_Block]:
    start = end = -1
    fence = ""
    for left, right in _lines(text):
        line = text[left:right]
        mark = _FENCE.match(line) if structured else None
        if mark and not fence:
            fence = mark.group(1)
        elif mark and mark.group(1).startswith(fence):
            fence = ""
        heading = _HEADING.match(line) if structured and not fence and not mark else None
        blank = not line.strip()
        if start >= 0 and (heading or (blank and not fence)):
            yield _Block(start, end)
            start = -1
        if heading:
            title = heading.group(2).rstrip(" \t#").strip()
            yield _Block(left, right, len(heading.group(1)), title[:_HEADING_CHARACTERS])
        elif not blank:
            start = left if start < 0 else start
            end = right
    if start >= 0:
        yield _Block(start, end)


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield start, end
        start = end + 1


def _split(text: str, start: int, end: int, limits: Limits) -> Iterator[tuple[int, int]]:
    """Cut a span into pieces that fit, at the best boundary there is; pieces carry no white space at their ends."""
    start, end = _trim(text, start, end)
    if start >= end:
        return
    if _fits(text, start, end, limits):
        yield start, end
        return
    for boundary in (_SENTENCE_END, _WORD_END):
        pieces = _pieces(text, start, end, boundary)
        if len(pieces) > 1:
            break
    else:
        pieces = _even_pieces(start, end, limits)
    left, right = pieces[0]
    tokens = estimate_tokens(text[left:right])
    for piece_start, piece_end in pieces[1:]:
        more = estimate_tokens(text[piece_start:piece_end])  # no less than what the piece adds where it is appended
        if piece_end - left <= limits.characters and (
            piece_end - left <= limits.tokens or tokens + more <= limits.tokens
        ):
            right, tokens = piece_end, tokens + more
        else:
            yield from _split(text, left, right, limits)
            left, right, tokens = piece_start, piece_end, more
    if (left, right) == (start, end):  # nothing was cut off: only hard cuts are left
        raise AssertionError("a span that doesn't fit was not cut")
    yield from _split(text, left, right, limits)


def _pieces(text: str, start: int, end: int, boundary: re.Pattern[str]) -> Sequence[tuple[int, int]]:
    pieces = []
    left = start
    for match in boundary.finditer(text, start, end):
        if match.end() >= end:
            break
        if match.end() > left:
            pieces.append((left, match.end()))
            left = match.end()
    pieces.append((left, end))
    return pieces


def _even_pieces(start: int, end: int, limits: Limits) -> Sequence[tuple[int, int]]:
    step = max(1, min(limits.characters, limits.tokens) // 2)
    return [(left, min(left + step, end)) for left in range(start, end, step)]


def _fits(text: str, start: int, end: int, limits: Limits) -> bool:
    if end - start > limits.characters:
        return False
    # No estimate is above one token for each character, so short spans need no counting.
    return end - start <= limits.tokens or estimate_tokens(text[start:end]) <= limits.tokens


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
