"""Chunks with exact spans: every chunk is `text[start:end]`, and together they cover all that isn't white space.

Text is cut at headings, then between paragraphs, then between rows of a table or sentences, words and, last, anywhere.
A chunk carries the path of headings above it as context for embedding and lexical search, and below the first rows of
a table its header; the context is no part of the chunk's text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from retrieval.meter import ESTIMATE_MARGIN, Meter, TokenStarts, estimator
from retrieval.parsers.parsed import Parsed

_HEADING = re.compile(r"(#{1,6})[ \t]+(.*)")
_FENCE = re.compile(r"[ \t]*(```+|~~~+)")
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+|(?<=[。！？])|\n+")
_WORD_END = re.compile(r"\s+")
_ROW_END = re.compile(r"\n+")
_HEADING_CHARACTERS = 120  # of one heading, in the context of what stands below it
_CONTEXT_CHARACTERS = 300  # of all of them; what is nearest to the chunk is kept
_CONTEXT_TOKENS = 32  # what the embedder's 256 leave beside a chunk's 220
_JOINED_BELOW = 0.25  # share of a chunk's size below which a section is joined with the next


class Strategy(StrEnum):
    """How text is cut: along its headings, paragraphs and tables, or into windows of one size."""

    STRUCTURE = "structure"
    FIXED = "fixed"


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
    """How long a chunk may be: in characters, and in tokens of the embedder.

    Attributes:
        overlap: characters that a chunk may repeat of the one before it; at most half of `characters`.
    """

    characters: int = 950
    tokens: int = 220
    overlap: int = 0
    strategy: Strategy = Strategy.STRUCTURE


@dataclass(frozen=True, slots=True)
class _Block:
    """A paragraph, a table, a code block or a heading."""

    start: int
    end: int
    level: int = 0  # of a heading
    title: str = ""
    table: bool = False


@dataclass(slots=True)
class _Section:
    """Blocks that make one chunk, or more where they don't fit; with the headings above."""

    start: int
    end: int
    path: tuple[str, ...] = ()
    body: bool = False  # whether it holds more than headings
    tables: list[_Block] = field(default_factory=list)


def chunk(parsed: Parsed, limits: Limits, title: str = "", token_starts: TokenStarts | None = None) -> list[Chunk]:
    """Cut a document into chunks, in order.

    Args:
        token_starts: the embedder's tokenizer; without it tokens are estimated, and a part of the limit is left free.
    """
    text = parsed.text
    context_starts = token_starts or (lambda context: estimator(context)(context))  # a title may be in another language
    if token_starts is None:
        token_starts = estimator(text)
        limits = replace(limits, tokens=max(1, int(limits.tokens * ESTIMATE_MARGIN)))
    page_starts = [start for _, start, _ in parsed.pages]
    chunks: list[Chunk] = []
    cutter = _Cutter(text, Meter(text, token_starts), limits)
    for section in _sections(parsed, cutter):
        context = _context((title, *section.path), context_starts)
        fixed = limits.strategy == Strategy.FIXED
        rows = parsed.records or bool(parsed.outline or section.tables)
        first = len(chunks)
        for left, right in cutter.split(section.start, section.end, _boundaries(rows, fixed)):
            start = left
            if limits.overlap and len(chunks) > first:
                start = cutter.reach_back(left, right, chunks[-1].start)
            # Pages without text share their start with the next page: the last of them holds the character.
            page = parsed.pages[max(0, bisect_right(page_starts, start) - 1)][0] if page_starts else None
            header = _header(text, section, start)
            about = _context((title, *section.path, header), context_starts) if header else context
            chunks.append(Chunk(text[start:right], start, right, page, about))
    return chunks


def _boundaries(rows: bool, fixed: bool) -> tuple[re.Pattern[str], ...]:
    if fixed:
        return (_WORD_END,)
    return (_ROW_END, _SENTENCE_END, _WORD_END) if rows else (_SENTENCE_END, _WORD_END)


def _context(parts: Sequence[str], token_starts: TokenStarts) -> str:
    context = " > ".join(part for part in parts if part)[-_CONTEXT_CHARACTERS:]
    starts = token_starts(context)
    return context[starts[-_CONTEXT_TOKENS] :] if len(starts) > _CONTEXT_TOKENS else context


def _header(text: str, section: _Section, start: int) -> str:
    """The first row of the table whose later rows a chunk begins with."""
    for table in section.tables:
        if table.start < start < table.end:
            return text[table.start : table.end].partition("\n")[0][:_HEADING_CHARACTERS]
    return ""


def _sections(parsed: Parsed, cutter: "_Cutter") -> Iterator[_Section]:
    """Group blocks into spans that fit into one chunk, or hold one block that doesn't; with the headings above it."""
    if cutter.limits.strategy == Strategy.FIXED:
        yield _Section(0, len(parsed.text), body=True)
        return
    headings: list[tuple[int, str]] = []
    section: _Section | None = None
    slides = {start for _, start, end in parsed.pages if start < end} if parsed.structured else set()
    for block in _blocks(parsed):
        joined = section is not None and cutter.fits(section.start, block.end)
        if section is not None and joined and block.level and section.body:
            joined = section.end - section.start < cutter.limits.characters * _JOINED_BELOW
        if section is not None and not section.body and not block.level:
            joined = True  # a heading stays with what stands below it, and be it cut
        if block.start in slides:
            joined = False  # a slide is a thing of its own, and its number is cited
        if block.level:
            while headings and headings[-1][0] >= block.level:
                headings.pop()
            headings.append((block.level, block.title))
        if section is None or not joined:
            if section is not None:
                yield section
            section = _Section(block.start, block.end)
        if not section.body:
            section.path = tuple(name for _, name in headings)
        section.end = block.end
        section.body = section.body or not block.level
        if block.table:
            section.tables.append(block)
    if section is not None:
        yield section


def _blocks(parsed: Parsed) -> Iterator[_Block]:
    text, structured = parsed.text, parsed.structured
    parts = {place: (level, name) for place, level, name in parsed.outline}
    start = end = -1
    fence = ""
    table, lines = True, 0
    for left, right in _lines(text):
        line = text[left:right]
        mark = _FENCE.match(line) if structured else None
        if mark and not fence:
            fence = mark.group(1)
        elif mark and mark.group(1).startswith(fence):
            fence = ""
        heading = _HEADING.match(line) if structured and not fence and not mark else None
        part = parts.get(left)
        blank = not line.strip()
        if start >= 0 and (heading or part or (blank and not fence)):
            yield _Block(start, end, table=table and lines > 1)
            start = -1
        if heading:
            title = heading.group(2).rstrip(" \t#").strip()
            yield _Block(left, right, len(heading.group(1)), title[:_HEADING_CHARACTERS])
        elif part:
            yield _Block(left, right, part[0], part[1][:_HEADING_CHARACTERS])
        elif not blank:
            if start < 0:
                start, table, lines = left, not parts, 0
            end = right
            table = table and "|" in line
            lines += 1
    if start >= 0:
        yield _Block(start, end, table=table and lines > 1)


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield start, end
        start = end + 1


class _Cutter:
    """Cuts spans of one text into pieces that fit."""

    def __init__(self, text: str, meter: Meter, limits: Limits) -> None:
        self.limits = limits
        self._text = text
        self._meter = meter
        # Room for what is repeated of the chunk before is left in each of them.
        kept = 1 - min(0.5, limits.overlap / limits.characters)
        self._characters = max(1, int(limits.characters * kept))
        self._tokens = max(1, int(limits.tokens * kept))

    def split(self, start: int, end: int, boundaries: tuple[re.Pattern[str], ...]) -> Iterator[tuple[int, int]]:
        """Cut a span at the best boundaries there are; pieces carry no white space at their ends."""
        start, end = _trim(self._text, start, end)
        if start >= end:
            return
        if self.fits(start, end):
            yield start, end
            return
        for number, boundary in enumerate(boundaries):
            pieces = _pieces(self._text, start, end, boundary)
            if len(pieces) > 1:
                boundaries = boundaries[number:]
                break
        else:
            pieces = self._even_pieces(start, end)
        left, right = pieces[0]
        for piece_start, piece_end in pieces[1:]:
            if self.fits(left, piece_end):
                right = piece_end
            else:
                yield from self.split(left, right, boundaries)
                left, right = piece_start, piece_end
        if (left, right) == (start, end):  # nothing was cut off: only hard cuts are left
            raise AssertionError("a span that doesn't fit was not cut")
        yield from self.split(left, right, boundaries)

    def fits(self, start: int, end: int) -> bool:
        """Whether a span may be one chunk, room for the overlap left."""
        return end - start <= self._characters and self._meter.count(start, end) <= self._tokens

    def reach_back(self, start: int, end: int, floor: int) -> int:
        """The first beginning of a word at most `overlap` before `start` with which the chunk still fits."""
        first = max(start - self.limits.overlap, floor + 1)
        for match in _WORD_END.finditer(self._text, max(0, first - 1), start):
            place = match.end()
            if first <= place < start and self._meter.count(place, end) <= self.limits.tokens:
                return place
        return start

    def _even_pieces(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        step = max(1, min(self._characters, self._tokens) // 2)
        return [(left, min(left + step, end)) for left in range(start, end, step)]


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


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
