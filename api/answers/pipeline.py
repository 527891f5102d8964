"""The stages of an answer, in order: rewrite, retrieve and rerank, pack, generate, verify.

Each is a module of its own, and the question's `Recipe` says what it does; what goes from one to the next is here.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from api.admission.errors import LimitReached
from api.answers.bill import Account, Bill
from api.answers.context import Excerpt, choose_excerpts
from api.answers.ending import Written
from api.answers.events import Event, Retrieved
from api.answers.generating import Generator
from api.answers.links import Links, addresses_of
from api.answers.merging import AROUND_BYTES, distinct, in_document_order
from api.answers.packing import Packed, Packer, Prompt
from api.answers.prompt import BUILT_IN, PROMPT_CHARACTERS, messages
from api.answers.question import Grounding, Question
from api.answers.recipe import Recipe
from api.answers.recipes import UNSAID, Says
from api.answers.reservations import Admits, Reservations
from api.answers.retrieving import Library, retrieve
from api.answers.rewriting import Asked, Rewriting
from api.answers.spoken import Spoken
from api.answers.support import Sources, Stretches
from api.answers.telling import Teller
from api.answers.tidying import tidied
from api.answers.timing import StageTimes
from api.identities import Identity
from api.metering import Size
from api.settings import ApiSettings
from core.clock import Clock
from core.dependency import DependencyError
from core.principal import Principal
from retrieval.search import Passage, SearchResult
from router.router import Call, Router

_BYTES_PER_CHARACTER = 4  # of UTF-8 at most
_CALLS = 2  # a model may be asked twice for one answer
_LEAST_QUOTED = 1 / 3  # of what the best passage holds of a question: what holds less speaks of something else
_LATE = "no tokenizer answered in time, so fewer sources were shown than fit"


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
        retrieval: Library,
        router: Router,
        metering: Admits,
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
        answers, the best passages are quoted.

        Raises: RetrievalError, RouterError: the question is at fault (no such collection or model, a bad filter);
            FilterUnreadable: a filter was to be read from the question; LimitReached, NotAuthenticated: the caller may
            not ask a model now; always before the first event. GuardRefused, GuardFailed: also behind others.
        """
        principal, times = identity.principal, StageTimes(self._clock)
        question = replace(question, text=tidied(question.text, self._settings.answer_question_characters))
        said = await self._recipes.of(principal, question.collection)
        recipe = said.over(Recipe.of(self._settings)).over(question.recipe).asked(question)
        way = _Way(principal, recipe, self.model_of(question.model), times)
        reservations = Reservations(self._metering, identity, question.route)
        asked = await self._rewriting.work(principal, question, recipe, way.model, reservations, times)
        bill = Bill(partial(self._admit, reservations, asked.question, recipe), reservations.ended)
        if way.model is not None and recipe.generate != "quote":
            await bill.open(way.model, question.request_id)
        try:
            async with aclosing(self._stages(way, asked, bill)) as events:
                async for event in events:
                    yield bill.told(event)
        finally:
            times.observe()
            bill.close()

    async def _admit(
        self, reservations: Reservations, question: Question, recipe: Recipe, model: str, request_id: str
    ) -> Account:
        """Reserve the most that a model may be asked, both times; of the sources nothing but their bound is known."""
        words = (question.text, question.system or "", recipe.prompt or "")
        fixed = _BYTES_PER_CHARACTER * (sum(map(len, words)) + PROMPT_CHARACTERS)
        sources = recipe.max_context_tokens
        if recipe.pack == "sentences":
            most = _BYTES_PER_CHARACTER * self._settings.answer_context_characters + AROUND_BYTES * recipe.passages
            sources = min(sources, most)
        size = Size(_CALLS * (fixed + sources), _CALLS * self._max_tokens(question))
        return await reservations.admit(model, request_id, size, self._router.bound(model))

    async def _stages(self, way: _Way, asked: Asked, bill: Bill) -> AsyncGenerator[Event, None]:
        principal, recipe, times, question = way.principal, way.recipe, way.times, asked.question
        result = await retrieve(self._retrieval.searcher, principal, question, recipe, asked.work, times)
        yield Retrieved(result, asked.work)

        principal = principal.within(result.reach)  # the passages are in what a model is asked
        with times.of("pack"):
            packed = await self._pack(principal, way, question, result, asks=bill.metered is not None)
            while packed.unfit and question.larger and bill.metered is not None:
                try:
                    await bill.open(question.larger[0], question.request_id)
                except (LimitReached, DependencyError):  # then the sources are quoted, as without it
                    break
                way = replace(way, model=question.larger[0])
                question = replace(question, larger=question.larger[1:])
                packed = await self._pack(principal, way, question, result, asks=True)
        teller = self._teller(principal, way, question, packed)
        written = Written()
        if bill.metered is not None:
            writing = self._write(replace(way, principal=principal), question, packed, teller, bill, written)
            with times.of("generate"):
                async with aclosing(writing) as events:
                    async for event in events:
                        yield event
            for token in teller.spoken.rest():
                yield token
        async for told in self._quoted(recipe, question, result.passages, teller):
            yield told
        failure = written.failure(recipe, packed, teller.spoken)
        if not teller.spoken:
            teller.require_looked()  # that nobody could look says nothing of what the documents hold
            for token in teller.nothing():
                yield token
        times.add("verify", teller.checked_s)
        late = _LATE if packed.late else None
        reasons = [reason for reason in (failure, late, teller.failure, result.degraded_reason) if reason]
        done = written.done(teller.spoken, "; ".join(reasons) or None)
        yield replace(
            done,
            by_others=done.by_others or asked.by_others,
            timings_ms=times.told(),
            work=asked.work,
            work_usage=asked.usage,
            prompt_version=recipe.prompt_version,
        )

    async def _write(
        self, way: _Way, question: Question, packed: Packed, teller: Teller, bill: Bill, written: Written
    ) -> AsyncGenerator[Event, None]:
        """Have the model write; and larger ones in turn, as long as nothing that was written could be told."""
        recipe, left_s = way.recipe, way.recipe.deadlines_s.generate
        larger = question.larger if recipe.verify is Grounding.STRICT else ()  # else nobody says that it will not do
        for at, model in enumerate((way.model or "", *larger)):
            if at:
                teller.held_back = False
                try:
                    await bill.open(model, _name(question, at))
                except (LimitReached, DependencyError) as error:
                    written.refusal = f"a larger model was not asked: {error}"
                    return
            assert bill.metered is not None
            generator = self._generator(bill.metered, teller.spoken, left_s)
            written.by(model, generator)
            if not packed.ranked or packed.unfit:
                return

            def call(excerpts: Sequence[Excerpt], again: bool, model: str = model, at: int = at) -> Call:
                name = _name(question, at)
                return self._call(way.principal, question, recipe, model, excerpts, f"{name}.again" if again else name)

            writing = generator.write(packed.ranked, call, whole=recipe.verify is not Grounding.OFF)
            # Closed with an answer that is given up, so that what was used is billed before its reservation ends.
            async with aclosing(writing) as texts:
                async for text in texts:
                    async for told in teller.tell(text, last=at == len(larger)):
                        yield told
            left_s = generator.left_s
            if teller.spoken or left_s <= 0:
                return

    async def _pack(
        self, principal: Principal, way: _Way, question: Question, result: SearchResult, *, asks: bool
    ) -> Packed:
        def words(excerpts: Sequence[Excerpt]) -> list[dict[str, str]]:
            return messages(question.text, excerpts, question.system, way.recipe.prompt or BUILT_IN)

        prompt = Prompt(way.model if asks else None, words, self._max_tokens(question), principal.reach)
        return await self._packer.pack(question.text, result.passages, way.recipe, prompt)

    async def _quoted(
        self, recipe: Recipe, question: Question, passages: Sequence[Passage], teller: Teller
    ) -> AsyncGenerator[Event, None]:
        """Tell what the sources say where that is lacking: once beside a model's words, else of several passages."""
        if not teller.spoken or teller.held_back:
            async for told in teller.quote():
                yield told
        if recipe.quotes > 1 and teller.spoken.is_quoted:
            characters = recipe.quotes * self._settings.answer_context_characters
            excerpts = choose_excerpts(question.text, distinct(passages), recipe.quotes, characters)
            async for told in teller.quote_each(Stretches(question.text, excerpts).best_of_each(_LEAST_QUOTED)):
                yield told

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

    def _generator(self, metered: Account, spoken: Spoken, limit_s: float) -> Generator:
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
        request_id: str,
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
            reach=principal.reach,
            request_id=request_id,
            priority=principal.priority,
            rescue=principal.rescue,
            tenant=principal.tenant_id,
            who=principal.who,
        )


def _name(question: Question, at: int) -> str:
    """What the call of the model at this place is called: engines take no two of one name."""
    return f"{question.request_id}.larger{at}" if at else question.request_id
