"""Excerpts without repetitions: nothing is shown twice, and what stands together in a document is shown together.

Sizes are bytes of UTF-8, since no tokenizer makes more than one token of a byte, and each makes fewer of most texts.
"""

from collections.abc import Sequence
from dataclasses import replace

from api.answers.context import Excerpt
from api.answers.sentences import spans
from retrieval.search import Passage

AROUND_BYTES = 20  # the marks around an excerpt
_FEWEST_BYTES = 80  # of the last one's rest; what is shorter says little
_NEAR = 0.6  # of what fits: a sentence that ends there ends the excerpt, else a word does


def distinct(passages: Sequence[Passage]) -> list[Passage]:
    """Passages, the best first, without those that another holds: by its span in the same document, or by its text.

    One that holds another stands where the better of them stood.
    """
    ranks: dict[int, int] = {}
    for rank, passage in enumerate(passages):
        holders = [at for at, other in enumerate(passages) if _holds(other, at, passage, rank)]
        outermost = min(holders, key=lambda at: (passages[at].start - passages[at].end, at), default=rank)
        ranks[outermost] = min(rank, ranks.get(outermost, rank))
    found: dict[str, Passage] = {}
    for at in sorted(ranks, key=ranks.__getitem__):
        found.setdefault(passages[at].text, passages[at])
    return list(found.values())


def fitted(excerpts: Sequence[Excerpt], max_bytes: int) -> list[Excerpt]:
    """As many of the best as fit, the last of them shortened where only a part of it does."""
    kept: list[Excerpt] = []
    left = max_bytes
    for excerpt in excerpts:
        size = size_of([excerpt])
        if not excerpt.text.strip():
            continue
        if size > left:
            rest = shortened(excerpt, left - AROUND_BYTES)
            if rest is not None and (not kept or left - AROUND_BYTES >= _FEWEST_BYTES):
                kept.append(rest)
            break
        kept.append(excerpt)
        left -= size
    return kept


def shortened(excerpt: Excerpt, max_bytes: int) -> Excerpt | None:
    """Its beginning, to the end of a sentence or of a word where one is near; None: nothing fits."""
    text = excerpt.text
    most = len(text.encode()[: max(0, max_bytes)].decode(errors="ignore"))
    if most >= len(text):
        return excerpt
    ends = [end for _, end in spans(text) if _NEAR * most <= end <= most]
    words = len(text[: most + 1].rstrip().rpartition(" ")[0].rstrip())
    length = ends[-1] if ends else words if words >= _NEAR * most else most
    return replace(excerpt, end=excerpt.start + length) if length and text[:length].strip() else None


def merged(excerpts: Sequence[Excerpt]) -> list[Excerpt]:
    """The same, but those of one document version that overlap or touch are one, where the best of them stood."""
    groups: list[list[tuple[int, Excerpt]]] = []
    in_order = sorted(enumerate(excerpts), key=lambda ranked: (_document(ranked[1].passage), ranked[1].start))
    for rank, excerpt in in_order:
        last = groups[-1] if groups else []
        same = bool(last) and _document(last[0][1].passage) == _document(excerpt.passage)
        if same and excerpt.start <= max(other.end for _, other in last):
            last.append((rank, excerpt))
        else:
            groups.append([(rank, excerpt)])
    groups.sort(key=lambda group: min(rank for rank, _ in group))
    whole = [_one([excerpt for _, excerpt in sorted(group, key=lambda ranked: ranked[0])]) for group in groups]
    by_text: dict[str, Excerpt] = {}
    for excerpt in whole:
        by_text.setdefault(excerpt.text, excerpt)
    return list(by_text.values())


def in_document_order(excerpts: Sequence[Excerpt]) -> list[Excerpt]:
    """Document after document, the one with the best excerpt first; within one as they stand in it."""
    places: dict[tuple[str, int], int] = {}
    for excerpt in excerpts:
        places.setdefault(_document(excerpt.passage), len(places))
    return sorted(excerpts, key=lambda excerpt: (places[_document(excerpt.passage)], excerpt.start))


def size_of(excerpts: Sequence[Excerpt]) -> int:
    """Bytes that they take in a prompt, marks included."""
    return sum(len(excerpt.text.encode()) + AROUND_BYTES for excerpt in excerpts)


def _one(excerpts: Sequence[Excerpt]) -> Excerpt:
    """Excerpts that stand together, the best first, as one."""
    best = excerpts[0].passage
    start, end = min(one.start for one in excerpts), max(one.end for one in excerpts)
    if best.start <= start and end <= best.end:
        return Excerpt(best, start, end)
    by_span = {(passage.start, passage.end): passage for excerpt in excerpts for passage in excerpt.passages}
    others = (passage for span, passage in by_span.items() if span != (best.start, best.end))
    return Excerpt(best, start, end, tuple(others))


def _document(passage: Passage) -> tuple[str, int]:
    return passage.document_id, passage.document_version


def _holds(outer: Passage, at: int, inner: Passage, rank: int) -> bool:
    """Whether the first holds the second; of two with one span the better one does."""
    if at == rank or _document(outer) != _document(inner):
        return False
    if not (outer.start <= inner.start and inner.end <= outer.end):
        return False
    return (outer.start, outer.end) != (inner.start, inner.end) or at < rank
