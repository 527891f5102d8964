"""What takes time in proportion to its square is a way to stop a worker: expressions, parsers, filters, names.

The attacks are made from the expressions themselves (`patterns.py`). Bounds of time are a hundred times what is needed.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from api.answers.context import Excerpt
from api.answers.links import LinkBuffer, Links
from api.answers.prompt import messages
from api.answers.sentences import SentenceBuffer, spans
from api.answers.support import Sources
from api.auto.traits import traits_of
from api.caching.sameness import Judge
from core.visible import visible
from monitoring.redaction import redacted
from retrieval.analyzer import analyze
from retrieval.media import detect
from retrieval.parsers.parsed import normalise
from retrieval.search import Passage
from tests.security.patterns import all_patterns, attacks, shortest, use, ways_of

PACKAGES = ("api", "core", "retrieval", "router", "monitoring", "storage", "edge")
CHARACTERS = 30_000
MOST_S = 0.5  # of a processor; a square takes 2 s and more, a line some milliseconds

# Expressions that may take long on a long text, and why they meet none.
BOUNDED = {
    "api.caching.sameness._END": "questions above 300 characters are not compared",
    "monitoring.gpus.readings._PROFILE": "the name of a GPU's profile, from its own driver",
    "retrieval.parsers.xlsx._LITERAL": "a format code of a workbook, in the parser's process, which has a deadline",
    "storage.objects._KEY": "keys that Stoker makes of its own ids",
}


class TooLong(Exception):
    """It would take more than it may."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises: TooLong: the block took more of the processor. Expressions look at signals while they run."""

    def stop(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


PATTERNS = all_patterns(*PACKAGES)


def test_the_expressions_are_found() -> None:
    assert len(PATTERNS) > 120
    assert BOUNDED.keys() <= PATTERNS.keys()


def test_no_expression_takes_the_square_of_its_text(figure: Callable[[str], None]) -> None:
    slow, tried = [], 0
    for name, pattern in PATTERNS.items():
        ways = ways_of(name)
        for text in attacks(pattern, CHARACTERS):
            tried += 1
            try:
                with within(MOST_S):
                    use(pattern, ways, text)
            except TooLong:
                slow.append(f"{name} on {text[:20]!r}...{text[-3:]!r}")
                break
    figure(f"{tried} texts for {len(PATTERNS)} expressions")
    assert [one for one in slow if one.partition(" on ")[0] not in BOUNDED] == []


def _excerpts(text: str) -> list[Excerpt]:
    return [Excerpt(Passage("doc", 1, "rev", "f.txt", text, 0, len(text), None, 1.0, {}), 0, len(text))]


def _linked(text: str) -> None:
    buffer = LinkBuffer(Links(("allowed.example",)))
    for at in range(0, len(text), 50):
        buffer.add(text[at : at + 50])
    buffer.rest()


def _said(text: str) -> None:
    buffer = SentenceBuffer()
    for at in range(0, len(text), 50):
        buffer.add(text[at : at + 50])


JUDGE = Judge()

# What takes texts that somebody else wrote, with the most that it is ever given at once.
TAKERS: dict[str, tuple[Callable[[str], Any], int]] = {
    "a document's normal form": (normalise, CHARACTERS),
    "what nobody sees": (visible, CHARACTERS),
    "what a file is": (lambda text: detect("a", None, text.encode("utf-8", "replace")), CHARACTERS),
    "the words of a text": (analyze, CHARACTERS),
    "the sentences of a text": (lambda text: list(spans(text)), 8000),
    "what a model is told": (lambda text: messages("What?", _excerpts(text)), 8000),
    "what supports an answer": (lambda text: Sources("What is a fare?", _excerpts(text)), 8000),
    "links in an answer": (lambda text: Links(("allowed.example",)).cleaned(text), 8000),
    "links in a streamed answer": (_linked, 15_000),
    "sentences of a streamed answer": (_said, 4000),
    "secrets in what is shown": (lambda text: redacted(text, 4000), CHARACTERS),
    "whether two questions are one": (lambda text: JUDGE.ask_the_same(text, text + "?"), CHARACTERS),
    "how hard a question is": (traits_of, CHARACTERS),
}


OF_TEXTS = ("api.answers", "api.auto", "api.caching", "core", "retrieval", "monitoring.redaction")
TAKEN = [pattern for name, pattern in PATTERNS.items() if name.startswith(OF_TEXTS)]


@pytest.mark.parametrize("taker", TAKERS)
def test_whoever_takes_a_text_is_done_with_any_of_them_soon(taker: str) -> None:
    take, characters = TAKERS[taker]
    slow = []
    for text in dict.fromkeys(text for pattern in TAKEN for text in shortest(pattern, characters)):
        try:
            with within(MOST_S):
                take(text)
        except TooLong:
            slow.append(f"{text[:20]!r}...{text[-3:]!r}")
    assert slow == []
