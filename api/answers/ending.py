"""How an answer ends: what it lacks, whose it is, and what was used for it."""

from dataclasses import dataclass, field, replace

from api.answers.events import Done
from api.answers.generating import Generator
from api.answers.packing import Packed
from api.answers.question import Grounding
from api.answers.recipe import Recipe
from api.answers.spoken import Spoken
from core.usage import Usage

_UNSUPPORTED = "the model's answer was not supported by its sources, so they are quoted"
_MARKED = "no sentence of the model's answer is supported by its sources"
_NO_MODEL = "no model is configured to answer"
_UNFIT = "question and max_tokens leave no room for sources in the model's window"
_FEWER = "the model answered only when it was shown fewer sources"


@dataclass(slots=True)
class Written:
    """What became of the models that were asked, one after the other.

    Attributes:
        generator: of the last one; None: none was to be asked.
        before: what those before it used.
        refusal: why a larger one was not asked.
    """

    model: str | None = None
    generator: Generator | None = None
    before: Usage = field(default_factory=Usage)
    refusal: str | None = None

    def by(self, model: str, generator: Generator) -> None:
        """Another one is asked."""
        self.before = self.usage
        self.model, self.generator = model, generator

    @property
    def usage(self) -> Usage:
        """Of all."""
        return self.before if self.generator is None else self.before + self.generator.usage

    def failure(self, recipe: Recipe, packed: Packed, spoken: Spoken) -> str | None:
        """Why what was told is less than an answer of a model's own; None: it is that, or only quotes were wanted."""
        if not packed.ranked:
            return "no passage matches the question"
        quoting, generator = recipe.generate == "quote", self.generator
        failure = None
        if not quoting:
            failure = _UNFIT if packed.unfit else _NO_MODEL if generator is None else generator.failure or self.refusal
        if not spoken:
            return failure or "no passage speaks of the question"
        if not spoken.is_own and not quoting:
            return failure or (_UNSUPPORTED if recipe.verify is Grounding.STRICT else _MARKED)
        return failure or (_FEWER if generator is not None and generator.fewer else None)

    def done(self, spoken: Spoken, degraded: str | None) -> Done:
        """The last event, as far as models and what was told are concerned."""
        text, citations = spoken.text, tuple(spoken.citations)
        done = Done(text, citations, degraded, None, unsupported=spoken.unsupported, usage=self.usage)
        answer = None if self.generator is None else self.generator.answer
        if answer is None:
            return done
        return replace(
            done,
            model=self.model,
            deployment=answer.deployment.name,
            fallback=answer.fallback,
            by_others=answer.by_others,
            first_token_s=answer.first_token_s,
            cut=spoken.is_own and answer.finish_reason == "length",
        )
