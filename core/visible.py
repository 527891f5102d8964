"""Text as a reader sees it: what is invisible is taken out, since nobody could check what it says."""

import re

# Each shows nothing, and hides words from readers or turns their order: soft hyphens, fillers, zero-width spaces, marks
# of direction, invisible operators, annotations, tags, and selectors that can spell out a whole text.
_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff"
    "\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Controls but tab and newline, lone surrogates, and what is no character.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# These shape letters and signs beside them: Persian, Indic scripts and emoji need them, one at a time.
_JOINERS = re.compile("[\u200c\u200d\ufe00-\ufe0f]+")
_WITHIN_EMOJI = "\ufe0f\u200d"


def visible(text: str) -> str:
    """Take out controls but tab and newline, and all that is invisible; doing it again changes nothing."""
    return _JOINERS.sub(_joined, without_hidden(text))


def without_hidden(text: str) -> str:
    """The same, but for what joins or shapes its neighbours: for a piece of a text, whose neighbours are not known."""
    return _CONTROL.sub("", _HIDDEN.sub("", text))


def _joined(run: re.Match[str]) -> str:
    text, (start, end) = run.string, run.span()
    before, after = text[start - 1 : start], text[end : end + 1]
    if not _shaped(before):
        return ""
    joiners = run.group()
    if joiners.startswith(_WITHIN_EMOJI) and _shaped(after):
        return _WITHIN_EMOJI
    return joiners[0] if joiners[0] >= "\ufe00" or _shaped(after) else ""


def _shaped(char: str) -> bool:
    """Whether it may have a joiner beside it."""
    return char != "" and not char.isascii() and not char.isspace()
