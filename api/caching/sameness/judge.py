"""Whether two questions ask the same.

Vectors do not tell: questions that differ in one figure or name are nearer to each other than most that mean the same
(`docs/performance.md`). So both are brought into one form, and nothing of either may be left over.
"""

from collections.abc import Sequence

from api.caching.sameness.form import Form, Reader, Segment, Word


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
    left, right = list(one.segments), list(other.segments)
    for segment in one.segments:
        found = next((at for at, like in enumerate(right) if _segments_agree(segment, like)), None)
        if found is not None:
            del right[found]
            left.remove(segment)
    return (not left and not right) or _moved(left, right) or _passive(left, right) or _passive(right, left)


def _moved(left: Sequence[Segment], right: Sequence[Segment]) -> bool:
    """Whether the last words of one segment only stand behind another one, as where a part was put to the front."""
    for one in left:
        for other in right:
            for count in range(1, min(len(one.words), len(other.words)) + 1):
                if not all(map(_words_agree, one.words[-count:], other.words[-count:])):
                    break
                kept = Segment(one.head, one.words[:-count]), Segment(other.head, other.words[:-count])
                if _rest_agrees([*left], [*right], one, other, kept):
                    return True
    return False


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


def _rest_agrees(
    left: list[Segment], right: list[Segment], one: Segment, other: Segment, kept: tuple[Segment, Segment]
) -> bool:
    left.remove(one)
    right.remove(other)
    for segment, among in ((kept[0], right), (kept[1], left)):
        if not segment.head and not segment.words:
            continue
        found = next((at for at, like in enumerate(among) if _segments_agree(segment, like)), None)
        if found is None:
            return False
        del among[found]
    return not left and not right


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
    """What was mended is only taken for what somebody has written so."""
    return one.surface == other.surface or (one.canon == other.canon and not (one.mended and other.mended))
