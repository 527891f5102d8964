"""What each stage of an answer does for one question.

It is read from the settings; over that comes what the collection says, and over that what the question asks for.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from api.answers.question import Grounding, Question
from api.answers.templates import check_template
from api.errors import RequestInvalid
from api.settings import ApiSettings
from retrieval.query import MAX_TOP_K, Mode

Pack = Literal["sentences", "passages"]
Generate = Literal["model", "quote"]

MIN_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS = 64, 200_000
_MAX_DEADLINE_S = 600.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each stage may take, in seconds."""

    rewrite: float
    retrieve: float
    rerank: float
    pack: float
    generate: float
    verify: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """The stages of one answer.

    Attributes:
        rewrite: have a model say the question so that it is understood without earlier turns.
        mode, rerank: how to search; None: as the collection is searched.
        rerank_top_n: most passages that are kept of those that were reranked; None: all.
        pack: show the model the sentences around the best one, or whole passages.
        passages: that the model is shown, at most.
        max_context_tokens: of all that it is shown of documents.
        quotes: passages that are quoted, at most, where nothing that a model wrote can be told.
        generate: have a model write the answer, or quote the sources.
        verify: what becomes of a sentence that no source supports.
        prompt: the template of what the model is told; None: the built-in words.
        prompt_version: of that template; 0: the built-in one; None: it is no version of the collection's.
    """

    deadlines_s: Deadlines
    rewrite: bool = False
    mode: Mode | None = None
    rerank: bool | None = None
    rerank_top_n: int | None = None
    pack: Pack = "sentences"
    passages: int = 1
    quotes: int = 3
    max_context_tokens: int = 4000
    generate: Generate = "model"
    verify: Grounding = Grounding.STRICT
    prompt: str | None = None
    prompt_version: int | None = field(default=0, compare=False)

    @classmethod
    def of(cls, settings: ApiSettings) -> "Recipe":
        """As the settings say."""
        return cls(
            Deadlines(
                rewrite=settings.query_work_deadline_s,
                retrieve=settings.answer_retrieve_deadline_s,
                rerank=settings.rerank_deadline_s,
                pack=settings.answer_pack_deadline_s,
                generate=settings.answer_generate_deadline_s,
                verify=settings.answer_verify_deadline_s,
            ),
            pack=settings.answer_pack,
            passages=settings.answer_passages,
            quotes=settings.answer_quotes,
            max_context_tokens=settings.answer_max_context_tokens,
            generate=settings.answer_generate,
            verify=Grounding(settings.answer_verify),
        )

    def over(self, changes: object, param: str = "answers") -> "Recipe":
        """This with some of it changed, as `read_changes` takes it; what is null stays, but a prompt that is null is
        the built-in one.

        Raises: RequestInvalid: it says what is no recipe; the message names the field and what it takes.
        """
        given = read_changes(changes, param)
        if "deadlines_s" in given:
            given["deadlines_s"] = replace(self.deadlines_s, **given["deadlines_s"])
        if "prompt" in given:
            given["prompt_version"] = 0 if given["prompt"] is None else None
        return replace(self, **given)

    def with_prompt(self, template: str, version: int) -> "Recipe":
        """This with a version of the collection's template."""
        return replace(self, prompt=template, prompt_version=version)

    def asked(self, question: Question) -> "Recipe":
        """This with what one question asks to be otherwise."""
        wanted: dict[str, Any] = {
            "rewrite": question.work.rewrite,
            "mode": question.mode,
            "rerank": question.rerank,
            "rerank_top_n": question.rerank_top_n,
            "verify": question.grounding,
        }
        return replace(self, **{name: value for name, value in wanted.items() if value is not None})

    def as_json(self) -> dict[str, Any]:
        """As `over` takes it."""
        return {name: value for name, value in asdict(self).items() if name != "prompt_version"}


def read_changes(raw: object, param: str) -> dict[str, Any]:
    """What is to be otherwise, as JSON says it; names that are null are left out, save the prompt.

    Raises: RequestInvalid.
    """
    if not isinstance(raw, Mapping):
        raise RequestInvalid(f'{param} is an object such as {{"pack": "passages", "passages": 5}}', param)
    _refuse_unknown(raw, _READ, param)
    said = {name: value for name, value in raw.items() if value is not None or name == "prompt"}
    given = {name: _READ[name](value, f"{param}.{name}") for name, value in said.items()}
    if "verify" in given:
        given["verify"] = Grounding(given["verify"])
    return given


def _refuse_unknown(raw: Mapping[str, object], known: Mapping[str, object], param: str) -> None:
    if unknown := sorted(str(name)[:50] for name in raw if name not in known):
        raise RequestInvalid(f"{param} takes {', '.join(known)}, not {', '.join(unknown)}", param)


def _flag(value: object, param: str) -> bool:
    if not isinstance(value, bool):
        raise RequestInvalid(f"{param} is true or false", param)
    return value


def _one_of(*words: str) -> Callable[[object, str], str]:
    def read(value: object, param: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise RequestInvalid(f"{param} is one of {', '.join(words)}", param)
        return value

    return read


def _count(low: int, high: int) -> Callable[[object, str], int]:
    def read(value: object, param: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise RequestInvalid(f"{param} is a whole number from {low} to {high:,}", param)
        return value

    return read


def _prompt(value: object, param: str) -> str | None:
    return None if value is None else check_template(value, param)


def _deadlines(value: object, param: str) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise RequestInvalid(f'{param} is an object such as {{"generate": 30}}', param)
    _refuse_unknown(value, {stage.name: stage for stage in fields(Deadlines)}, param)
    return {stage: _seconds(limit, f"{param}.{stage}") for stage, limit in value.items() if limit is not None}


def _seconds(value: object, param: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _MAX_DEADLINE_S:
        raise RequestInvalid(f"{param} is a number of seconds above 0 and at most {_MAX_DEADLINE_S:g}", param)
    return float(value)


_READ: Mapping[str, Callable[[object, str], Any]] = {
    "rewrite": _flag,
    "mode": _one_of(*get_args(Mode)),
    "rerank": _flag,
    "rerank_top_n": _count(1, MAX_TOP_K),
    "pack": _one_of(*get_args(Pack)),
    "passages": _count(1, 20),
    "quotes": _count(1, 20),
    "max_context_tokens": _count(MIN_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS),
    "generate": _one_of(*get_args(Generate)),
    "verify": _one_of(*Grounding),
    "prompt": _prompt,
    "deadlines_s": _deadlines,
}
