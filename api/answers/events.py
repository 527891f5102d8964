"""What happens while a question is answered, in order; the JSON answer is the last of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from api.answers.question import QueryWork
from core.usage import Usage
from retrieval.search import SearchResult

CacheUse = Literal["exact", "semantic", "miss", "bypass"]


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a sentence of the answer stands. `quote` equals the document version's content from `start` to `end`."""

    document_id: str
    document_version: int
    filename: str
    page: int | None
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages were found, by the question as `work` has made it; None: it was searched as it is.

    Attributes:
        left: what the caller's limits leave, as rate headers; empty: nothing was to be reserved.
    """

    result: SearchResult
    work: QueryWork | None = None
    left: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer; all pieces joined are the answer.

    Attributes:
        supported: whether a source says it; None: nobody has looked.
    """

    text: str
    supported: bool | None = True


@dataclass(frozen=True, slots=True)
class Cited:
    """A source of what was said so far."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class Done:
    """The whole answer.

    Attributes:
        degraded_reason: why this is less than a generated answer with all parts at work; None if it is that.
        model: the group that answered; None where passages were quoted instead.
        by_others: a fallback group gave the answer, or a part of it, or worked on its question.
        usage: of the answer alone; `work_usage`: of the calls that worked on its question.
        cut: the model's own answer ends where it was allowed no more tokens.
        unsupported: the stretches of the answer that no source supports, as (start, end).
        timings_ms: milliseconds of each stage.
        prompt_version: of the collection's template that the model was told; 0: the built-in words; None: a template
            that is no version of the collection's.
        nano_usd: what the model's answer cost; 0: nothing, or nobody asked a model.
        cache: whether an entry was told (`exact`; `semantic`: of a question in other words), or looked for in vain
            (`miss`).
        stale_s: how long ago the entry was made, where the collection has changed since; None: it has not.
    """

    answer: str
    citations: tuple[Citation, ...]
    degraded_reason: str | None
    model: str | None
    deployment: str | None = None
    fallback: str | None = None
    by_others: bool = False
    usage: Usage = field(default_factory=Usage)
    first_token_s: float | None = None
    cut: bool = False
    unsupported: tuple[tuple[int, int], ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    work: QueryWork | None = None
    work_usage: Usage = field(default_factory=Usage)
    prompt_version: int | None = 0
    nano_usd: int = 0
    cache: CacheUse = "bypass"
    stale_s: float | None = None

    @property
    def whole_usage(self) -> Usage:
        """Of all calls that were made for the question."""
        return self.usage + self.work_usage


Event = Retrieved | Token | Cited | Done
