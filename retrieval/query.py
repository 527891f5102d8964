"""What can be asked of a collection, and how it is to be searched."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from retrieval import expression
from retrieval.errors import InputInvalid
from retrieval.fusion import Fusion, Method

Mode = Literal["hybrid", "dense", "lexical"]

MAX_TOP_K = 100
MAX_QUESTION = 20_000  # characters
MAX_WORDINGS = 4
MAX_PER_DOCUMENT = 100


@dataclass(frozen=True, slots=True)
class Way:
    """How to search; each collection keeps one of its own, and each question may ask for another.

    Attributes:
        fusion: how hybrid makes one ranking of two.
        rerank: have a model that reads question and passage together order the best.
        mmr_lambda: 0 to 1; below 1, passages that repeat what stands above them sink. None: none do.
        per_document: most passages of one document; None: any number.
    """

    mode: Mode = "hybrid"
    fusion: Fusion = field(default_factory=Fusion)
    rerank: bool = False
    mmr_lambda: float | None = None
    per_document: int | None = None

    @classmethod
    def read(cls, raw: object, param: str, base: "Way | None" = None) -> "Way":
        """Take what JSON says, and the rest from `base`.

        Raises: InputInvalid: it says what is no way to search; the message names the field and what it takes.
        """
        base = base or cls()
        if not isinstance(raw, dict):
            raise InputInvalid(param, f'{param} is an object such as {{"mode": "hybrid"}}.')
        known = [one.name for one in fields(cls)]
        if unknown := sorted(str(name)[:50] for name in raw if name not in known):
            raise InputInvalid(param, f"{param} takes {', '.join(known)}, not {', '.join(unknown)}.")
        said = {name: raw.get(name) for name in known}
        return cls(
            mode=base.mode if said["mode"] is None else _mode(said["mode"], f"{param}.mode"),
            fusion=base.fusion if said["fusion"] is None else _fusion(said["fusion"], f"{param}.fusion"),
            rerank=base.rerank if said["rerank"] is None else _flag(said["rerank"], f"{param}.rerank"),
            mmr_lambda=base.mmr_lambda
            if said["mmr_lambda"] is None
            else _share(said["mmr_lambda"], f"{param}.mmr_lambda"),
            per_document=base.per_document
            if said["per_document"] is None
            else _count(said["per_document"], MAX_PER_DOCUMENT, f"{param}.per_document"),
        )

    def as_json(self) -> dict[str, Any]:
        """As `read` takes it."""
        return {
            "mode": self.mode,
            "fusion": {"method": self.fusion.method, "dense_weight": self.fusion.dense_weight},
            "rerank": self.rerank,
            "mmr_lambda": self.mmr_lambda,
            "per_document": self.per_document,
        }


@dataclass(frozen=True, slots=True)
class Query:
    """A question to one collection.

    Attributes:
        top_k: most candidates, and most passages where nothing is reranked; 1 to 100.
        mode: None: as the collection's way says.
        filter: the typed tree of `retrieval.expression`, as it came in JSON.
        score_threshold: passages below are left out; on the scale of the score that is shown.
        way: what is asked to be otherwise than the collection has it, as `Way.read` takes it.
        rerank_top_n: most passages that are kept of those that were reranked; None: all.
        rerank_deadline_s: for reranking, where that is less than the settings'.
        facets: metadata whose values are to be counted.
        fuzzy: look for similar terms where a term of the question stands in no chunk.
        wordings: other wordings of the question; each is searched as the question is.
        anew: nothing will do that was worked out when the same was asked before.
        noted: it is a use, from which the life of a collection that expires counts anew.
        hypothetical: a passage such as an answer might stand in; what is near its vector counts as found.
    """

    collection: str
    text: str
    top_k: int = 10
    mode: Mode | None = None
    filter: dict[str, Any] | None = None
    score_threshold: float | None = None
    way: dict[str, Any] = field(default_factory=dict)
    rerank_top_n: int | None = None
    facets: tuple[str, ...] = ()
    fuzzy: bool = False
    wordings: tuple[str, ...] = ()
    hypothetical: str | None = None
    rerank_deadline_s: float | None = None
    anew: bool = False
    noted: bool = True

    def check(self) -> expression.Filter | None:
        """Raises: InputInvalid: the question or a bound; FilterInvalid: the filter. Returns: the filter."""
        if not self.text.strip():
            raise InputInvalid("query", "The question is empty.")
        if max(map(len, (self.text, *self.wordings, self.hypothetical or ""))) > MAX_QUESTION:
            raise InputInvalid("query", f"A question has at most {MAX_QUESTION:,} characters.")
        if not 1 <= self.top_k <= MAX_TOP_K:
            raise InputInvalid("top_k", f"top_k goes from 1 to {MAX_TOP_K}.")
        if self.rerank_top_n is not None and not 1 <= self.rerank_top_n <= MAX_TOP_K:
            raise InputInvalid("rerank_top_n", f"rerank_top_n goes from 1 to {MAX_TOP_K}.")
        if len(self.wordings) > MAX_WORDINGS:
            raise InputInvalid("wordings", f"A question has at most {MAX_WORDINGS} other wordings.")
        if self.mode is not None:
            _mode(self.mode, "mode")
        return expression.parse_filter(self.filter) if self.filter is not None else None


def _mode(value: object, param: str) -> Mode:
    if value not in get_args(Mode):
        raise InputInvalid(param, f"{param} is one of {', '.join(get_args(Mode))}.")
    return value  # type: ignore[return-value]  # one of them


def _fusion(raw: object, param: str) -> Fusion:
    if not isinstance(raw, dict) or raw.keys() - {"method", "dense_weight"}:
        raise InputInvalid(param, f'{param} is an object such as {{"method": "rrf", "dense_weight": 0.5}}.')
    usual = Fusion()
    method = raw.get("method", usual.method)
    if method not in get_args(Method):
        raise InputInvalid(f"{param}.method", f"{param}.method is one of {', '.join(get_args(Method))}.")
    return Fusion(method, _share(raw.get("dense_weight", usual.dense_weight), f"{param}.dense_weight"))


def _flag(value: object, param: str) -> bool:
    if not isinstance(value, bool):
        raise InputInvalid(param, f"{param} is true or false.")
    return value


def _share(value: object, param: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise InputInvalid(param, f"{param} is a number from 0 to 1.")
    return float(value)


def _count(value: object, most: int, param: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InputInvalid(param, f"{param} is a whole number from 1 to {most}.")
    return value
