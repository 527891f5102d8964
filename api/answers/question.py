"""What is asked of an answerer."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from retrieval.query import Mode

Step = Literal["rewrite", "multi_query", "hyde", "self_query"]


class Grounding(enum.StrEnum):
    """What becomes of a sentence that no source supports."""

    OFF = "off"  # nothing is checked, and nothing cited
    MARK = "mark"  # it is told, and marked
    STRICT = "strict"  # what the sources say of the question is told in its place


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said earlier in the conversation."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class WantedWork:
    """What a model is to do with the question before it is searched.

    Attributes:
        rewrite: say it so that it is understood without the earlier turns; None: as the collection has it.
        multi_query: how many other wordings to search too.
        hyde: write a passage such as an answer might stand in, and search by it (hypothetical document embeddings).
        self_query: read a filter from it.

    Source: https://arxiv.org/abs/2212.10496 (HyDE)
    """

    rewrite: bool | None = None
    multi_query: int = 0
    hyde: bool = False
    self_query: bool = False

    @property
    def any(self) -> bool:
        return bool(self.rewrite) or self.multi_query > 0 or self.hyde or self.self_query


@dataclass(frozen=True, slots=True)
class Question:
    """One question; `max_tokens` None means the setting.

    Attributes:
        larger: models that are asked in turn where nothing that this one says is supported.
        grounding: what becomes of a sentence that no source supports; None: as the collection has it.
        route: by which it came: the one whose limits hold, and that its ledger lines name.
        mode, rerank: how to search; None: as the collection is searched.
        rerank_top_n: passages that are kept of those that were reranked; None: all.
        turns: what was said before it, the oldest first.
        system: what the asker wants the model told before all else.
        use_cache: an answer that was given before will do, and this one may be kept.
        recipe: what an experiment has otherwise in the recipe, as the collection would say it.
    """

    text: str
    collection: str
    request_id: str
    model: str | None = None
    larger: tuple[str, ...] = ()
    top_k: int = 10
    filter: dict[str, Any] | None = None
    temperature: float = 0.0
    max_tokens: int | None = None
    grounding: Grounding | None = None
    turns: tuple[Turn, ...] = ()
    work: WantedWork = field(default_factory=WantedWork)
    route: str = "/v1/query"
    mode: Mode | None = None
    rerank: bool | None = None
    rerank_top_n: int | None = None
    system: str | None = None
    use_cache: bool | Literal["exact"] = False
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueryWork:
    """What came of a question's query work.

    Attributes:
        question: the rewritten one, or the one that was asked.
        queries: other wordings of it.
        hypothetical: a passage such as an answer might stand in.
        filter: what was read from the question alone, without the caller's own filter.
        failed: the steps that were left out, and why.
    """

    question: str
    queries: tuple[str, ...] = ()
    hypothetical: str | None = None
    filter: dict[str, Any] | None = None
    failed: Mapping[Step, str] = field(default_factory=dict)


class StepFailed(Exception):
    """No model did this step as it was asked to; the text says why, for the client."""
