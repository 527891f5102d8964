"""Whether two questions ask the same.

Vectors do not tell: questions that differ in one figure or name are nearer to each other than most that mean the same
(`docs/performance.md`). So both are brought into one form, and nothing of either may be left over.
"""

from collections.abc import Iterator, Sequence

from api.caching.sameness.form import Form, Reader, Segment, Word

Segments = tuple[Segment, ...]


def ask_the_same(reader: Reader, one: str, other: str) -> bool:
    """Whether whoever asks one would be served by a right and whole answer to the other."""
    left, right = reader.read(one), reader.read(other)
    if left is None or right is None:
        return False
    if same(left, right):
        return True
    short = left.capitals ^ right.capitals
    nearer, other_nearer = reader.read(one, short, right.surfaces), reader.read(other, short, left.surfaces)
    return nearer is not None and other_nearer is not None and same(nearer, other_nearer)


def same(one: Form, other: Form) -> bool:
    """Whether two forms are those of one question: nothing of either is left over, and all belongs together alike."""
    if not _kinds_agree(one.kind, other.kind) or not _markers_agree(one, other):
        return False
    left, right = one.segments, other.segments
    if _passive(left, right) or _passive(right, left):
        return True
    return any(_all_agree(way, like) for way in _ways(left) for like in _ways(right))


def _ways(segments: Segments) -> Iterator[Segments]:
    """In which order the parts may stand: as they do, and with what was put to the front at the end.

    Nothing else moves, since what stands before a part is what it belongs to. Where no comma ends the part in front, it
    may end behind any of its words.
    """
    yield segments
    front = next((at for at, segment in enumerate(segments) if not segment.head), len(segments))
    if front:
        yield (*segments[front:], *segments[:front])
    first, *rest = segments
    for at in range(1, len(first.words) if first.head else 0):
        yield (Segment("", first.words[at:]), *rest, Segment(first.head, first.words[:at]))


def _all_agree(some: Segments, others: Segments) -> bool:
    return len(some) == len(others) and all(map(_segments_agree, some, others))


def _passive(active: Sequence[Segment], passive: Sequence[Segment]) -> bool:
    """Whether one says in the passive what the other asks of an object first: "what does A do", "what is done by A"."""
    if len(active) != 1 or len(passive) != 2 or active[0].head:
        return False
    by = next((segment for segment in passive if segment.head == "by"), None)
    done = next((segment for segment in passive if not segment.head), None)
    if by is None or done is None or not by.words:
        return False
    words, agent = active[0].words, len(by.words)
    return any(
        _agree(words[at : at + agent], by.words) and _agree((*words[:at], *words[at + agent :]), done.words)
        for at in range(1, len(words) - agent)
    )


def _kinds_agree(one: str, other: str) -> bool:
    """A question that does not say what it asks for may ask what something is, or how it is done."""
    return one == other or (not one and other in _UNSAID) or (not other and one in _UNSAID)


_UNSAID = ("what", "how")


def _markers_agree(one: Form, other: Form) -> bool:
    """Of leave nothing need be said where a way, a place or a time is asked for."""
    idle = {"can"} if one.kind in _LEAVE_IDLE or other.kind in _LEAVE_IDLE else set()
    return one.markers - idle == other.markers - idle


_LEAVE_IDLE = ("how", "where", "when")


def _segments_agree(one: Segment, other: Segment) -> bool:
    return one.head == other.head and _agree(one.words, other.words)


def _agree(some: Sequence[Word], others: Sequence[Word]) -> bool:
    return len(some) == len(others) and all(map(_words_agree, some, others))


def _words_agree(one: Word, other: Word) -> bool:
    """Two forms of a word, or two words for one thing; what was mended only for what somebody has written so."""
    if one.written == other.written:
        return True
    if one.canon != other.canon or (one.written != one.meant and other.written != other.meant):
        return False
    return one.stem != other.stem or _are_forms(one.meant, other.meant)


def _are_forms(one: str, other: str) -> bool:
    """Whether two words of one stem differ only as a noun or verb does by number and person.

    `closing` is not `closed`, nor `operator` `operation`.
    """
    return one == other or bool(_bases(one) & _bases(other))


def _bases(word: str) -> set[str]:
    """What a word may be a plural, or the third person, of; and itself."""
    found = {word}
    if word.endswith("ies"):
        found.add(f"{word[:-3]}y")
    if word.endswith("es"):
        found.add(word[:-2])
    if word.endswith("s") and not word.endswith("ss"):
        found.add(word[:-1])
    return found
