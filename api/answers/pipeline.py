"""The stages of an answer, in order: work on the question, retrieve, choose excerpts, generate, check, cite."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from api.answers.asking import Asker
from api.answers.citing import cite
from api.answers.context import Excerpt, choose_excerpts
from api.answers.deltas import StreamBroken, texts
from api.answers.events import Citation, Done, Event, Retrieved
from api.answers.links import Links, addresses_of
from api.answers.prompt import PROMPT_CHARACTERS, messages
from api.answers.queryfilter import both
from api.answers.querywork import QueryWorker
from api.answers.question import Grounding, QueryWork, Question
from api.answers.reservations import Reservations
from api.answers.sentences import SentenceBuffer
from api.answers.spoken import Spoken
from api.answers.support import Sources, Support
from api.identities import Identity
from api.metering import Metered, Metering, Size
from api.settings import ApiSettings
from core.clock import Clock
from core.dependency import DependencyError
from core.principal import Principal
from core.usage import Usage
from monitoring.logs import logger
from monitoring.metrics import RETRIEVAL_SECONDS
from retrieval import expression
from retrieval.metadata_fields import FieldSummary
from retrieval.open import Retrieval
from retrieval.query import Query
from router.errors import RouterError
from router.router import Answer, Call, Router

_log = logger(__name__)

ROUTE = "/v1/query"
_BYTES_PER_CHARACTER = 4  # of UTF-8 at most
_UNSUPPORTED = "the model's answer was not supported by its sources, so they are quoted"
_MARKED = "no sentence of the model's answer is supported by its sources"
NOTHING_FOUND = "Nothing in this collection speaks of that."


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question on its way.

    Attributes:
        question: as it is searched and answered, with what query work made of it.
        work: what that was; None: nothing was asked for.
        work_usage: of the calls that did it.
        timings: milliseconds of each stage so far.
    """

    question: Question
    work: QueryWork | None
    work_usage: Usage
    timings: dict[str, float]
    started_s: float


@dataclass(slots=True)
class _Generation:
    """What came of asking the model."""

    answer: Answer | None = None
    failure: str | None = None


class Answerer:
    """Answers questions from one stack's collections and models."""

    def __init__(
        self, retrieval: Retrieval, router: Router, metering: Metering, settings: ApiSettings, clock: Clock
    ) -> None:
        self._retrieval = retrieval
        self._router = router
        self._metering = metering
        self._settings = settings
        self._clock = clock

    async def answer(self, identity: Identity, question: Question) -> AsyncIterator[Event]:
        """Answer as a stream of events: `Retrieved`, any number of `Token` and `Cited`, and one `Done`.

        A sentence becomes a token only after its sources were looked at, so what was streamed is never taken back. What
        becomes of one that they do not support, the question's grounding says. Where nothing can be told, or no model
        answers, the best passage is quoted.

        Raises: RetrievalError, RouterError: the question is at fault (no such collection or model, a bad filter);
            FilterUnreadable: a filter was to be read from the question; LimitReached, NotAuthenticated: the caller may
            not ask a model now; always before the first event.
        """
        principal = identity.principal
        model = self.model_of(question.model)
        reservations = Reservations(self._metering, identity, ROUTE)
        asked = await self._work(principal, question, model, reservations)
        metered = None if model is None else await self._admit(reservations, asked.question, model)
        try:
            async for event in self._answer(principal, asked, model, metered):
                if isinstance(event, Done) and metered is not None:
                    event = replace(event, nano_usd=metered.nano_usd)
                yield event
        finally:
            if metered is not None:
                metered.close(Usage(), left=True)

    async def _work(
        self, principal: Principal, question: Question, model: str | None, reservations: Reservations
    ) -> _Asked:
        """Have a model work on the question, as far as that was asked for."""
        timings: dict[str, float] = {}
        started_s = self._clock.monotonic()
        if not question.work.any or not question.text.strip():  # an empty one is refused by the search
            return _Asked(question, None, Usage(), timings, started_s)
        fields = await self._check(principal, question)
        collection = await self._retrieval.collections.get(principal, question.collection)
        if collection.local_only:  # what its documents carry may be in what a model is asked
            principal = replace(principal, local_only=True)
        asker = Asker(self._router, reservations, principal, model, question.request_id)
        lap = partial(self._lap, timings)
        deadline_s = self._settings.query_work_deadline_s
        work = await QueryWorker(question, asker, self._clock, deadline_s, lap).work(fields)
        searched = replace(question, text=work.question, filter=both(question.filter, work.filter))
        return _Asked(searched, work, asker.usage, timings, started_s)

    async def _check(self, principal: Principal, question: Question) -> Mapping[str, FieldSummary]:
        """Find what is wrong with the question itself before a model is paid for it.

        Returns: the metadata that a filter may name, where one is to be read.
        """
        if question.filter is not None:
            expression.parse_filter(question.filter)
        if question.work.self_query:
            return await self._retrieval.metadata_fields.of(principal, question.collection)
        return {}

    async def _admit(self, reservations: Reservations, question: Question, model: str) -> Metered:
        """Reserve the most that the model may be asked: nothing is known of the passages yet but their bound."""
        settings = self._settings
        characters = len(question.text) + settings.answer_context_characters + PROMPT_CHARACTERS
        size = Size(_BYTES_PER_CHARACTER * characters, question.max_tokens or settings.answer_max_tokens)
        return await reservations.admit(model, question.request_id, size, self._router.bound(model))

    async def _answer(
        self, principal: Principal, asked: _Asked, model: str | None, metered: Metered | None
    ) -> AsyncIterator[Event]:
        question, timings = asked.question, asked.timings
        retrieve_s = self._clock.monotonic()
        result = await self._retrieval.searcher.search(principal, _query(question, asked.work))
        self._lap(timings, "retrieve", retrieve_s)
        yield Retrieved(result, asked.work)

        excerpts = choose_excerpts(
            question.text,
            result.passages,
            self._settings.answer_passages,
            self._settings.answer_context_characters,
        )
        if not excerpts:
            spoken = Spoken(Links())
            for token in spoken.add(NOTHING_FOUND, None):
                yield token
            yield _done(spoken, "no passage matches the question", None, None, asked)
            return
        sources = Sources(question.text, excerpts)
        generation = _Generation()
        generate_s = self._clock.monotonic()
        spoken = Spoken(self._links(excerpts))
        call = None if model is None else self._call(principal, question, model, excerpts)
        if call is not None and result.local_only:
            call = replace(call, allow_hosted=False)  # the passages are in it
        async for text in self._generate(call, metered, generation, whole=question.grounding is not Grounding.OFF):
            async for told in self._tell(principal, question, sources, spoken, text):
                yield told
        for token in spoken.rest():
            yield token
        self._lap(timings, "generate", generate_s)
        if not spoken:
            async for told in self._quote(principal, question, sources, spoken):
                yield told
        failure = generation.failure
        if not spoken:
            for token in spoken.add(NOTHING_FOUND, None):
                yield token
            failure = failure or "no passage speaks of the question"
        elif not spoken.is_own:
            failure = failure or (_UNSUPPORTED if question.grounding is Grounding.STRICT else _MARKED)
        degraded = "; ".join(reason for reason in (failure, result.degraded_reason) if reason) or None
        self._lap(timings, "total", asked.started_s)
        yield _done(spoken, degraded, model, generation.answer, asked)

    async def _tell(
        self, principal: Principal, question: Question, sources: Sources, spoken: Spoken, text: str
    ) -> AsyncIterator[Event]:
        """Tell what the model said, as far as the question's grounding lets it through."""
        if question.grounding is Grounding.OFF:
            for token in spoken.pass_on(text):
                yield token
            return
        if spoken.has(text):
            return
        support = sources.find_support(text, self._settings.answer_min_coverage)
        citation = None if support is None else await self._cite(principal, question, support)
        if citation is not None:
            for token in spoken.say(text, supported=True):
                yield token
            for cited in spoken.cite(citation):
                yield cited
        elif question.grounding is Grounding.MARK:
            for token in spoken.say(text, supported=False):
                yield token
        else:
            async for told in self._quote(principal, question, sources, spoken):
                yield told

    async def _quote(
        self, principal: Principal, question: Question, sources: Sources, spoken: Spoken
    ) -> AsyncIterator[Event]:
        """Tell what the sources say of the question, unless that was told already."""
        best = sources.best_quote()
        citation = None if best is None else await self._cite(principal, question, best)
        if citation is None or spoken.has(citation.quote) or any(map(partial(_meet, citation), spoken.citations)):
            return
        for token in spoken.add(f" {citation.quote}", True):
            yield token
        for cited in spoken.cite(citation):
            yield cited

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

    def _call(self, principal: Principal, question: Question, model: str, excerpts: list[Excerpt]) -> Call:
        body = {
            "model": model,
            "messages": messages(question.text, excerpts),
            "temperature": question.temperature,
            "max_tokens": question.max_tokens or self._settings.answer_max_tokens,
            "stream": True,
        }
        return Call(
            "chat.completions",
            model,
            body,
            stream=True,
            allow_hosted=not principal.local_only,
            request_id=question.request_id,
            priority=principal.priority,
            rescue=principal.rescue,
        )

    async def _generate(
        self, call: Call | None, metered: Metered | None, generation: _Generation, *, whole: bool
    ) -> AsyncIterator[str]:
        """What the model says, as it says it.

        Args:
            whole: a sentence at a time, and none that was cut off; else piece by piece.
        """
        if call is None or metered is None:
            generation.failure = "no model is configured to answer"
            return
        buffer = SentenceBuffer()
        try:
            answer = generation.answer = await self._router.open(call)
            assert answer.frames is not None
            metered.opened(answer.deployment)
            answer.on_switch = metered.switched
            try:
                async for text in texts(answer.frames):
                    metered.count(answer.tokens)
                    for piece in buffer.add(text) if whole else [text]:
                        yield piece
            finally:
                await answer.aclose()
                ended = answer.over and not answer.broken
                metered.finish(answer.usage or Usage(0, answer.tokens), "ok" if ended else "failed")
        except (RouterError, DependencyError, StreamBroken) as error:
            generation.failure = f"no model answered: {error}"
            _log.warning("no answer was generated", request_id=call.request_id, reason=str(error))
            return
        for sentence in [] if answer.finish_reason == "length" else buffer.rest():
            yield sentence

    async def _cite(self, principal: Principal, question: Question, support: Support) -> Citation | None:
        documents = self._retrieval.documents
        return await cite(documents, principal, question.collection, support, question.request_id)

    def _links(self, excerpts: Sequence[Excerpt]) -> Links:
        sources = (excerpt.passage.metadata for excerpt in excerpts)
        return Links(self._settings.answer_link_hosts, addresses_of(sources))

    def _lap(self, timings: dict[str, float], stage: str, started_s: float) -> None:
        seconds = self._clock.monotonic() - started_s
        timings[stage] = round(seconds * 1000, 2)
        RETRIEVAL_SECONDS.labels(f"answer_{stage}").observe(seconds)


def _query(question: Question, work: QueryWork | None) -> Query:
    found = work or QueryWork(question.text)
    return Query(
        question.collection,
        question.text,
        question.top_k,
        filter=question.filter,
        wordings=found.queries,
        hypothetical=found.hypothetical,
    )


def _meet(one: Citation, other: Citation) -> bool:
    """Whether they cite the same words."""
    same = (one.document_id, one.document_version) == (other.document_id, other.document_version)
    return same and max(one.start, other.start) < min(one.end, other.end)


def _done(spoken: Spoken, degraded_reason: str | None, model: str | None, answer: Answer | None, asked: _Asked) -> Done:
    done = Done(
        spoken.text,
        tuple(spoken.citations),
        degraded_reason,
        None,
        unsupported=spoken.unsupported,
        timings_ms=asked.timings,
        work=asked.work,
        work_usage=asked.work_usage,
    )
    if answer is None:
        return done
    return replace(
        done,
        model=model,
        deployment=answer.deployment.name,
        fallback=answer.fallback,
        usage=answer.usage or Usage(),
        first_token_s=answer.first_token_s,
    )
