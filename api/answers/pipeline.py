"""The stages of an answer, in order: rewrite, retrieve and rerank, pack, generate, verify.

Each is a module of its own, and the question's `Recipe` says what it does; what goes from one to the next is here.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from api.answers.context import Excerpt
from api.answers.events import Done, Event, Retrieved
from api.answers.generating import Generator
from api.answers.links import Links, addresses_of
from api.answers.merging import AROUND_BYTES, in_document_order
from api.answers.packing import Packed, Packer, Prompt
from api.answers.prompt import BUILT_IN, PROMPT_CHARACTERS, messages
from api.answers.question import Grounding, Question
from api.answers.recipe import Recipe
from api.answers.recipes import UNSAID, Says
from api.answers.reservations import Reservations
from api.answers.retrieving import retrieve
from api.answers.rewriting import Asked, Rewriting
from api.answers.spoken import Spoken
from api.answers.support import Sources
from api.answers.telling import Teller
from api.answers.tidying import tidied
from api.answers.timing import StageTimes
from api.identities import Identity
from api.metering import Metered, Metering, Size
from api.settings import ApiSettings
from core.clock import Clock
from core.principal import Principal
from core.usage import Usage
from retrieval.open import Retrieval
from retrieval.search import SearchResult
from router.router import Call, Router

_BYTES_PER_CHARACTER = 4  # of UTF-8 at most
_CALLS = 2  # a model may be asked twice for one answer
_UNSUPPORTED = "the model's answer was not supported by its sources, so they are quoted"
_MARKED = "no sentence of the model's answer is supported by its sources"
_NO_MODEL = "no model is configured to answer"
_UNFIT = "question and max_tokens leave no room for sources in the model's window"
_LATE = "no tokenizer answered in time, so fewer sources were shown than fit"
_FEWER = "the model answered only when it was shown fewer sources"


@dataclass(frozen=True, slots=True)
class _Way:
    """What is known of one question before its first stage; without a model there is none to ask."""

    principal: Principal
    recipe: Recipe
    model: str | None
    times: StageTimes


class Answerer:
    """Answers questions from one stack's collections and models.

    Args:
        recipes: what collections say of their answers.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        router: Router,
        metering: Metering,
        settings: ApiSettings,
        clock: Clock,
        recipes: Says = UNSAID,
    ) -> None:
        self._retrieval = retrieval
        self._router = router
        self._metering = metering
        self._settings = settings
        self._clock = clock
        self._recipes = recipes
        self._rewriting = Rewriting(retrieval, router, clock)
        self._packer = Packer(router, settings.answer_context_characters)

    async def answer(self, identity: Identity, question: Question) -> AsyncGenerator[Event, None]:
        """Answer as a stream of events: `Retrieved`, any number of `Token` and `Cited`, and one `Done`.

        A sentence becomes a token only after its sources were looked at, so what was streamed is never taken back. What
        becomes of one that they do not support, the recipe's `verify` says. Where nothing can be told, or no model
        answers, the best passage is quoted.

        Raises: RetrievalError, RouterError: the question is at fault (no such collection or model, a bad filter);
            FilterUnreadable: a filter was to be read from the question; LimitReached, NotAuthenticated: the caller may
            not ask a model now; always before the first event.
        """
        principal, times = identity.principal, StageTimes(self._clock)
        question = replace(question, text=tidied(question.text, self._settings.answer_question_characters))
        said = await self._recipes.of(principal, question.collection)
        recipe = said.over(Recipe.of(self._settings)).asked(question)
        way = _Way(principal, recipe, self.model_of(question.model), times)
        reservations = Reservations(self._metering, identity, question.route)
        asked = await self._rewriting.work(principal, question, recipe, way.model, reservations, times)
        metered = await self._admit(reservations, asked.question, way)
        try:
            async with aclosing(self._stages(way, asked, metered)) as events:
                async for event in events:
                    if metered is not None:
                        event = _billed(event, metered)
                    yield event
        finally:
            times.observe()
            if metered is not None:
                metered.close(Usage(), left=True)

    async def _admit(self, reservations: Reservations, question: Question, way: _Way) -> Metered | None:
        """Reserve the most that the model may be asked, both times; of the sources nothing but their bound is known."""
        recipe, model = way.recipe, way.model
        if model is None or recipe.generate == "quote":
            return None
        words = (question.text, question.system or "", recipe.prompt or "")
        fixed = _BYTES_PER_CHARACTER * (sum(map(len, words)) + PROMPT_CHARACTERS)
        sources = recipe.max_context_tokens
        if recipe.pack == "sentences":
            most = _BYTES_PER_CHARACTER * self._settings.answer_context_characters + AROUND_BYTES * recipe.passages
            sources = min(sources, most)
        size = Size(_CALLS * (fixed + sources), _CALLS * self._max_tokens(question))
        return await reservations.admit(model, question.request_id, size, self._router.bound(model))

    async def _stages(self, way: _Way, asked: Asked, metered: Metered | None) -> AsyncGenerator[Event, None]:
        principal, recipe, times, question = way.principal, way.recipe, way.times, asked.question
        result = await retrieve(self._retrieval.searcher, principal, question, recipe, asked.work, times)
        yield Retrieved(result, asked.work)

        if result.local_only:  # the passages are in what a model is asked
            principal = replace(principal, local_only=True)
        with times.of("pack"):
            packed = await self._pack(principal, way, question, result, asks=metered is not None)
        teller = self._teller(principal, way, question, packed)
        generator = None if metered is None else self._generator(metered, recipe, teller.spoken)
        if generator is not None and packed.ranked and not packed.unfit:

            def call(excerpts: Sequence[Excerpt], again: bool) -> Call:
                return self._call(principal, question, recipe, way.model or "", excerpts, again=again)

            written = generator.write(packed.ranked, call, whole=recipe.verify is not Grounding.OFF)
            with times.of("generate"):
                # Closed with an answer that is given up, so that what was used is billed before its reservation ends.
                async with aclosing(written) as texts:
                    async for text in texts:
                        async for told in teller.tell(text):
                            yield told
            for token in teller.spoken.rest():
                yield token
        if not teller.spoken:
            async for told in teller.quote():
                yield told
        failure = _failure(recipe, packed, generator, teller.spoken)
        if not teller.spoken:
            teller.require_looked()  # that nobody could look says nothing of what the documents hold
            for token in teller.nothing():
                yield token
        times.add("verify", teller.checked_s)
        late = _LATE if packed.late else None
        reasons = [reason for reason in (failure, late, teller.failure, result.degraded_reason) if reason]
        yield _done(way, asked, generator, teller.spoken, "; ".join(reasons) or None)

    async def _pack(
        self, principal: Principal, way: _Way, question: Question, result: SearchResult, *, asks: bool
    ) -> Packed:
        def words(excerpts: Sequence[Excerpt]) -> list[dict[str, str]]:
            return messages(question.text, excerpts, question.system, way.recipe.prompt or BUILT_IN)

        prompt = Prompt(way.model if asks else None, words, self._max_tokens(question), not principal.local_only)
        return await self._packer.pack(question.text, result.passages, way.recipe, prompt)

    def _teller(self, principal: Principal, way: _Way, question: Question, packed: Packed) -> Teller:
        links = Links(
            self._settings.answer_link_hosts, addresses_of(excerpt.passage.metadata for excerpt in packed.ranked)
        )
        return Teller(
            self._retrieval.documents,
            principal,
            question.collection,
            question.request_id,
            Sources(question.text, packed.ranked),
            Spoken(links),
            way.recipe.verify,
            self._settings.answer_min_coverage,
            way.recipe.deadlines_s.verify,
        )

    def _generator(self, metered: Metered, recipe: Recipe, spoken: Spoken) -> Generator:
        limit_s = recipe.deadlines_s.generate
        first_token_s = self._settings.answer_first_token_share * limit_s
        return Generator(self._router, metered, limit_s, first_token_s, lambda: bool(spoken))

    def model_of(self, asked: str | None) -> str | None:
        """The group to ask: the named one, else the setting's, else the first that chats; None: there is none.

        Raises: RouterError: there is none of this name.
        """
        chat = [model.id for model in self._router.models() if model.kind == "chat"]
        wanted = asked or self._settings.answer_model
        if wanted is None:
            return chat[0] if chat else None
        self._router.require(wanted)
        return wanted

    def _max_tokens(self, question: Question) -> int:
        return question.max_tokens or self._settings.answer_max_tokens

    def _call(
        self,
        principal: Principal,
        question: Question,
        recipe: Recipe,
        model: str,
        excerpts: Sequence[Excerpt],
        *,
        again: bool = False,
    ) -> Call:
        shown = in_document_order(excerpts)
        body = {
            "model": model,
            "messages": messages(question.text, shown, question.system, recipe.prompt or BUILT_IN),
            "temperature": question.temperature,
            "max_tokens": self._max_tokens(question),
            "stream": True,
        }
        return Call(
            "chat.completions",
            model,
            body,
            stream=True,
            allow_hosted=not principal.local_only,
            request_id=f"{question.request_id}.again" if again else question.request_id,
            priority=principal.priority,
            rescue=principal.rescue,
        )


def _failure(recipe: Recipe, packed: Packed, generator: Generator | None, spoken: Spoken) -> str | None:
    """Why what was told is less than an answer of the model's own; None: it is that, or only quotes were asked for."""
    if not packed.ranked:
        return "no passage matches the question"
    quoting = recipe.generate == "quote"
    failure = None
    if not quoting:
        failure = _UNFIT if packed.unfit else _NO_MODEL if generator is None else generator.failure
    if not spoken:
        return failure or "no passage speaks of the question"
    if not spoken.is_own and not quoting:
        return failure or (_UNSUPPORTED if recipe.verify is Grounding.STRICT else _MARKED)
    return failure or (_FEWER if generator is not None and generator.fewer else None)


def _done(way: _Way, asked: Asked, generator: Generator | None, spoken: Spoken, degraded: str | None) -> Done:
    done = Done(
        spoken.text,
        tuple(spoken.citations),
        degraded,
        None,
        unsupported=spoken.unsupported,
        timings_ms=way.times.told(),
        work=asked.work,
        work_usage=asked.usage,
        prompt_version=way.recipe.prompt_version,
    )
    if generator is None or generator.answer is None:
        return done if generator is None else replace(done, usage=generator.usage)
    answer = generator.answer
    return replace(
        done,
        model=way.model,
        deployment=answer.deployment.name,
        fallback=answer.fallback,
        usage=generator.usage,
        first_token_s=answer.first_token_s,
        cut=spoken.is_own and answer.finish_reason == "length",
    )


def _billed(event: Event, metered: Metered) -> Event:
    """The event with what limits leave, or what the answer cost."""
    match event:
        case Retrieved():
            return replace(event, left=metered.rate_headers())
        case Done():
            return replace(event, nano_usd=metered.nano_usd)
    return event
