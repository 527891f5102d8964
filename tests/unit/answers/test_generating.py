"""A model is asked once more with less where nothing came, never after something was told, and all of it is billed."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest

from api.answers.context import Excerpt
from api.answers.generating import Generator
from api.metering import Metered
from core.clock import Clock
from core.dependency import DependencyUnavailable
from core.principal import Principal, Role
from core.priority import Priority
from core.reach import ANYWHERE
from core.usage import Usage
from retrieval.search import Passage
from router.call import Call
from router.errors import (
    GuardFailed,
    GuardRefused,
    NoDeployment,
    Overloaded,
    RouterError,
    UpstreamCut,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from tests.unit.answers.models import Book, Play, Plays, virtually

PRINCIPAL = Principal("t", "key_1", Role.MEMBER)
EXCERPTS = [
    Excerpt(
        Passage("doc", 1, "rev", "a.md", f"Text {at}.", 100 * at, 100 * at + 7, None, 1.0, {}), 100 * at, 100 * at + 7
    )
    for at in range(4)
]
TOO_LONG = UpstreamRefused(400, {"message": "too long", "code": "context_length_exceeded"})
REFUSED = UpstreamRefused(400, {"message": "no such field", "code": "invalid_request"})
BUSY = UpstreamRefused(429, {"message": "busy", "code": "rate_limit_exceeded"})


@dataclass
class Came:
    """What came of one answer."""

    router: Plays
    book: Book = field(default_factory=Book)
    said: list[str] = field(default_factory=list)
    failure: str | None = None
    fewer: bool = False
    usage: Usage = field(default_factory=Usage)
    took_s: float = 0.0

    @property
    def shown(self) -> list[int]:
        """How many excerpts each call held."""
        return [call.body["excerpts"] for call in self.router.calls]


def write(
    *plays: Play,
    excerpts: Sequence[Excerpt] = EXCERPTS,
    whole: bool = True,
    most: int | None = None,
    tells: bool = True,
    raises: type[Exception] | None = None,
) -> Came:
    """Have an answer written, and leave after so many pieces of it.

    Args:
        tells: whoever reads it tells it at once.
        raises: this ends it.
    """
    came = Came(Plays(*plays))

    def call(shown: Sequence[Excerpt], again: bool) -> Call:
        name = "req.again" if again else "req"
        return Call(
            "chat.completions", "m", {"excerpts": len(shown)}, True, ANYWHERE, name, Priority.NORMAL, tenant="t"
        )

    async def work(clock: Clock) -> None:
        book: Any = came.book
        router: Any = came.router
        metered = Metered(book, book, None, PRINCIPAL, "/v1/query", "m", "req", clock)  # type: ignore[arg-type]
        generator = Generator(router, metered, 20.0, 8.0, lambda: tells and bool(came.said))
        began_s = asyncio.get_running_loop().time()
        pieces = generator.write(excerpts, call, whole=whole)
        with nullcontext() if raises is None else pytest.raises(raises):
            async for piece in pieces:
                came.said.append(piece)
                if len(came.said) == most:
                    break
        await pieces.aclose()
        metered.close(Usage(), left=True)
        came.took_s = asyncio.get_running_loop().time() - began_s
        came.failure, came.fewer, came.usage = generator.failure, generator.fewer, generator.usage

    virtually(work)
    assert all(answer.closed for answer in came.router.answers)
    return came


GOOD = Play(["It opens ", "at seven.", " Boats leave", " at nine."])


def test_an_answer_is_written_once() -> None:
    came = write(GOOD)
    assert came.said == ["It opens at seven.", " Boats leave at nine."]
    assert (came.failure, came.fewer, came.shown) == (None, False, [4])
    assert [(line.segment, line.outcome, line.tokens_out) for line in came.book.lines] == [(0, "ok", 4)]


@pytest.mark.parametrize(
    "first",
    [
        Play(refused=UpstreamFailed("d", "answered 500")),
        Play(refused=UpstreamTimeout("d", "sent no token in time")),
        Play(refused=UpstreamCut("d", "cut its answer")),
        Play(refused=TOO_LONG),
        Play(opens_s=30.0),
        Play(["It opens"], breaks=True),
        Play(breaks=True),
    ],
)
def test_where_nothing_came_it_is_tried_once_with_half(first: Play) -> None:
    came = write(first, GOOD)
    assert came.said == ["It opens at seven.", " Boats leave at nine."]
    assert (came.failure, came.fewer, came.shown) == (None, True, [4, 2])
    assert [call.request_id for call in came.router.calls] == ["req", "req.again"], "engines take no two of one name"


@pytest.mark.parametrize("first", [Play(refused=UpstreamFailed("d", "answered 500")), Play(breaks=True)])
def test_it_is_tried_once_only(first: Play) -> None:
    came = write(first, first, GOOD)
    assert came.said == []
    assert came.shown == [4, 2]
    assert "no model answered" in str(came.failure)


def test_one_excerpt_is_not_made_less() -> None:
    came = write(Play(breaks=True), GOOD, excerpts=EXCERPTS[:1])
    assert (came.shown, came.fewer, came.failure) == ([1, 1], False, None)


@pytest.mark.parametrize("whole", [True, False])
def test_nobody_is_asked_again_after_something_was_told(whole: bool) -> None:
    came = write(Play(["It opens at seven.", " Boats", " leave"], breaks=True), GOOD, whole=whole)
    assert came.shown == [4]
    assert "".join(came.said).startswith("It opens at seven.")
    assert "the engine died" in str(came.failure)


def test_a_piece_that_waits_to_be_told_is_as_good_as_told() -> None:
    came = write(Play(["[a link"], breaks=True), GOOD, whole=False, tells=False)
    assert (came.shown, came.said) == ([4], ["[a link"])


def test_a_sentence_that_nothing_came_of_is_not() -> None:
    came = write(Play(["It opens at six.", " Boats"], breaks=True), GOOD, tells=False)
    assert came.shown == [4, 2]


@pytest.mark.parametrize(
    "error", [NoDeployment("m", "all rest"), Overloaded("m", Priority.NORMAL, 1.0), REFUSED, BUSY,
              DependencyUnavailable("ledger", "away")],
)  # fmt: skip
def test_nobody_is_asked_again_where_less_would_not_help(error: RouterError) -> None:
    came = write(Play(refused=error), GOOD)
    assert (came.shown, came.said) == ([4], [])
    assert str(error) in str(came.failure)
    assert (came.book.lines, came.book.settled, came.book.released) == ([], [], 1)


@pytest.mark.parametrize("error", [GuardRefused("not here"), GuardFailed("Names")])
@pytest.mark.parametrize("whole", [True, False])
def test_what_a_guard_lets_nobody_have_ends_the_answer(error: GuardRefused | GuardFailed, whole: bool) -> None:
    came = write(Play(refused=error), GOOD, raises=type(error))
    assert (came.shown, came.said, came.book.lines) == ([4], [], [])
    came = write(Play(["It opens at seven.", " Boats", " leave"], guarded=error), GOOD, whole=whole, raises=type(error))
    assert came.shown == [4]
    assert "".join(came.said).startswith("It opens at seven.")
    assert [(line.outcome, line.tokens_out) for line in came.book.lines] == [("failed", 3)]


def test_what_both_calls_made_is_billed_as_two_segments_of_one_request() -> None:
    came = write(Play(["It", " opens"], breaks=True), GOOD)
    lines = came.book.lines
    assert [(line.segment, line.deployment, line.outcome, line.tokens_out) for line in lines] == [
        (0, "d1", "failed", 2),
        (1, "d2", "ok", 4),
    ]
    assert lines[0].request_id == lines[1].request_id
    assert came.book.settled == [10 + 2 + 4]
    assert came.usage == Usage(10, 6)


def test_what_the_first_call_made_is_billed_where_the_second_does_not_come_about() -> None:
    came = write(Play(["It"], breaks=True), Play(refused=NoDeployment("m", "gone")))
    assert [(line.segment, line.outcome, line.tokens_out) for line in came.book.lines] == [(0, "failed", 1)]
    assert came.book.settled == [1]
    assert came.usage == Usage(0, 1)


def test_a_late_first_token_leaves_time_for_the_second_call() -> None:
    came = write(Play(opens_s=100.0), Play(GOOD.pieces, opens_s=7.0))
    assert came.took_s == pytest.approx(15.0)
    assert came.failure is None


def test_the_deadline_is_for_both_calls_together_and_counts_no_time_of_the_clients() -> None:
    slow = Play(["It opens at seven.", 5.0, " Boats", 100.0, " leave at nine."], opens_s=3.0)
    came = write(Play(opens_s=100.0), slow)
    assert came.took_s == pytest.approx(20.0)
    assert came.said == ["It opens at seven."]
    assert "did not finish" in str(came.failure)
    twice = write(Play(opens_s=100.0), Play(opens_s=100.0))
    assert twice.took_s == pytest.approx(16.0)
    assert "sent no token within 8 s" in str(twice.failure)


def test_who_leaves_is_billed_what_was_made_and_nobody_is_asked_again() -> None:
    came = write(Play(["One. ", "Two. ", "Three. ", 3600.0, "Four."]), GOOD, whole=False, most=2)
    assert came.shown == [4]
    assert [(line.outcome, line.status, line.tokens_out) for line in came.book.lines] == [("client_left", 499, 2)]


def test_a_sentence_that_was_cut_off_is_not_told() -> None:
    came = write(Play(["It opens at seven. Boats"], breaks=True), GOOD)
    assert (came.said, came.shown) == (["It opens at seven."], [4])
