"""Answers that were given before: the same question, over the same documents, by somebody who may read the same.

While no model can be asked, also one that was given before the collection changed, as long as all that it was made from
stands unchanged before the asker.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

from api.answers import kept
from api.answers.events import CacheUse, Done, Event, Retrieved
from api.answers.pipeline import Answerer
from api.answers.question import Question
from api.answers.recipes import Recipes
from api.caching.cache import Cache, Flight, Hit
from api.caching.name import Documents, Name, name_of
from api.caching.similar import Similar
from api.identities import Identity
from api.metering import Metering, Size
from api.settings import ApiSettings
from core.clock import Clock
from core.principal import Principal
from core.usage import Usage
from retrieval.documents import Seen
from retrieval.editions import Edition
from retrieval.open import Retrieval
from router.router import Router

_STALE = (
    "no model answers now, so this is what was answered {:.0f} s ago: the collection has changed since, "
    "the documents that this was made from have not"
)


@dataclass(frozen=True, slots=True)
class _Names:
    """What one answer is called.

    Attributes:
        fresh: for as long as its collection is the same; `stale`: and beyond.
        beside: of the questions that have all in common but their words.
    """

    fresh: Name
    stale: Name
    beside: Name
    collection_id: str


class CachedAnswerer:
    """Answers as an `Answerer` does, and keeps what is worth it.

    Args:
        stale: for answers that outlive a collection's version; None: while no model answers there are none.
        similar: finds questions in other words; None: an entry is only for the very same question.
    """

    def __init__(
        self,
        answerer: Answerer,
        cache: Cache,
        stale: Cache | None,
        similar: Similar | None,
        retrieval: Retrieval,
        metering: Metering,
        router: Router,
        settings: ApiSettings,
        clock: Clock,
    ) -> None:
        self._answerer = answerer
        self._cache = cache
        self._stale = stale if settings.answer_stale_s else None
        self._similar = similar
        self._collections = retrieval.collections
        self._documents = retrieval.documents
        self._metering = metering
        self._router = router
        self._clock = clock
        self._ttl_s = settings.answer_cache_s
        self._stale_s = settings.answer_stale_s
        set_up = settings.model_dump(mode="json")
        self._set_up = {name: value for name, value in set_up.items() if name.startswith(("answer_", "rerank_"))}

    async def answer(self, identity: Identity, question: Question) -> AsyncGenerator[Event, None]:
        """As `Answerer.answer`; from the cache in pieces as it was, with `Done.cache` saying so."""
        if not question.use_cache or self._ttl_s == 0:
            async with aclosing(self._answerer.answer(identity, question)) as events:
                async for event in events:
                    yield event
            return
        model = self._answerer.model_of(question.model)
        edition = await self._collections.edition(identity.principal, question.collection)
        names = None if edition is None else self._names(identity.principal, question, model, edition)
        found = None if names is None else await self._cache.look(names.fresh)
        flight = found if isinstance(found, Flight) else None
        try:
            told = kept.read(found.body) if isinstance(found, Hit) else None
            use: CacheUse = "exact"
            if told is None and names is not None and question.use_cache is True and self._similar is not None:
                told, use = await self._alike(names, question.text), "semantic"
            if told is not None and model is not None and not self._is_checked(use):
                answering = self._again(identity, question, model, told, use)
            elif told is not None and names is not None and use == "semantic":
                answering = self._checking(names, told, self._anew(identity, question, edition, flight, names))
            else:
                answering = self._anew(identity, question, edition, flight, names)
                if names is not None and edition is not None and model is not None and self._stale is not None:
                    answering = self._or_stale(identity, question, model, edition, names.stale, answering)
            async with aclosing(answering) as events:
                async for event in events:
                    if flight is not None and isinstance(event, Done) and event.stale_s is not None:
                        flight.leave(barren=True)
                    yield event
        finally:
            if flight is not None:
                flight.leave()

    def _names(self, principal: Principal, question: Question, model: str | None, edition: Edition) -> "_Names":
        asked: dict[str, Any] = asdict(question)
        for unlike in ("request_id", "use_cache", "collection", "route"):  # the edition names the collection
            del asked[unlike]
        by = None if model is None else self._router.answers(model, principal.who)
        asked |= {"model": by, "set_up": self._set_up, "answers": edition.answers}
        guards = [self._router.guards_of(one) for one in (model, *question.larger) if one is not None]
        if any(guards):
            asked["guards"] = guards
        any_version, this = Documents(edition.collection_id, 0), Documents(edition.collection_id, edition.version)
        others = {name: value for name, value in asked.items() if name != "text"}
        return _Names(
            name_of(principal, "answer", asked, [this]),
            name_of(principal, "stale", asked, [any_version]),
            name_of(principal, "asked", others, [this]),
            edition.collection_id,
        )

    async def _alike(self, names: "_Names", text: str) -> list[Event] | None:
        """What was answered to a question that asks the same in other words."""
        assert self._similar is not None
        found = await self._similar.find(names.beside, names.collection_id, text)
        return None if found is None else kept.read(found.body)

    def _is_checked(self, use: CacheUse) -> bool:
        return use == "semantic" and self._similar is not None and self._similar.is_to_be_checked()

    async def _checking(
        self, names: "_Names", before: list[Event], anew: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[Event, None]:
        """A new answer, against which the one that would have been told is held."""
        async with aclosing(anew) as events:
            async for event in events:
                if isinstance(event, Done) and event.degraded_reason is None and self._similar is not None:
                    self._similar.checked(names.collection_id, same=_agree(before[-1], event))
                yield event

    async def _or_stale(
        self,
        identity: Identity,
        question: Question,
        model: str,
        edition: Edition,
        name: Name,
        anew: AsyncGenerator[Event, None],
    ) -> AsyncGenerator[Event, None]:
        """A new answer, or, where no model gives one, what was answered before the collection changed."""
        outlook = self._router.chat_outlook(model, reach=identity.principal.reach)
        before = None if outlook == "good" else await self._before(identity.principal, edition, name)
        if before is None:
            async with aclosing(anew) as events:
                async for event in events:
                    yield event
            return
        told, age_s = before
        if outlook == "probe":  # nothing is told before it is clear which of the two it is
            async with aclosing(anew) as events:
                tried = [event async for event in events]
            if isinstance(tried[-1], Done) and tried[-1].degraded_reason is None:
                for event in tried:
                    yield event
                return
        async with aclosing(self._again(identity, question, model, told, stale_s=age_s)) as events:
            async for event in events:
                yield event

    async def _before(self, principal: Principal, edition: Edition, name: Name) -> tuple[list[Event], float] | None:
        """An answer all of whose documents the asker may still read, and none of which has changed; and its age."""
        assert self._stale is not None
        found = await self._stale.find(name)
        told = None if found is None else kept.read(found.body)
        if found is None or told is None:
            return None
        if not await self._documents.are_current(principal, edition.collection_id, _seen(told)):
            return None
        return told, found.age_s

    async def _again(
        self,
        identity: Identity,
        question: Question,
        model: str,
        events: list[Event],
        use: CacheUse = "exact",
        stale_s: float | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Tell what was told before: it counts as a request, and costs nothing.

        Args:
            stale_s: how old it is, where the collection has changed since.
        """
        bound = self._router.bound(model)
        metered = await self._metering.admit(identity, question.route, model, question.request_id, Size(0, 0), bound)
        started_s = self._clock.monotonic()
        try:
            for event in events:
                if isinstance(event, Retrieved):
                    event = replace(event, left=metered.rate_headers())
                elif isinstance(event, Done):
                    metered.served(event.nano_usd)
                    spent_ms = round((self._clock.monotonic() - started_s) * 1000, 2)
                    event = replace(
                        event,
                        usage=Usage(),
                        work_usage=Usage(),
                        nano_usd=0,
                        deployment=None,
                        first_token_s=None,
                        timings_ms={"total": spent_ms},
                        cache=use,
                        degraded_reason=None if stale_s is None else _STALE.format(stale_s),
                        stale_s=stale_s,
                    )
                yield event
        finally:
            metered.close(Usage(), left=True)

    async def _anew(
        self,
        identity: Identity,
        question: Question,
        edition: Edition | None,
        flight: Flight | None,
        names: "_Names | None",
    ) -> AsyncGenerator[Event, None]:
        """Answer, and keep it if it is whole and of the edition that it would be kept for."""
        told: list[Event] = []
        async with aclosing(self._answerer.answer(identity, question)) as events:
            async for event in events:
                told.append(event)
                if flight is not None and isinstance(event, Done):
                    if edition is not None and names is not None and _is_whole(told, edition):
                        text = kept.written(told)
                        if self._stale is not None and event.model is not None:
                            self._stale.put(names.stale, flight.marks, text, self._stale_s)
                        lasts_s = edition.lasts_s(self._ttl_s, self._clock.time())
                        flight.keep(text, lasts_s)
                        if self._similar is not None and event.citations:  # without a source nothing is told twice
                            self._similar.remember(names.beside, names.fresh, question.text, flight.marks, lasts_s)
                    else:
                        flight.leave(barren=True)
                    event = replace(event, cache="miss")
                yield event


def answering(
    retrieval: Retrieval,
    router: Router,
    metering: Metering,
    settings: ApiSettings,
    clock: Clock,
    recipes: Recipes,
    cache: Cache,
    stale: Cache | None = None,
    similar: Similar | None = None,
) -> CachedAnswerer:
    """What answers questions, with whatever it stands on."""
    answerer = Answerer(retrieval, router, metering, settings, clock, recipes)
    return CachedAnswerer(answerer, cache, stale, similar, retrieval, metering, router, settings, clock)


def _is_whole(events: list[Event], edition: Edition) -> bool:
    """Whether all parts and no stand-ins were at work, nothing lacks a source, and the collection is still the same."""
    done = events[-1]
    seen = [event.result.collection_version for event in events if isinstance(event, Retrieved)]
    if not isinstance(done, Done) or done.by_others:
        return False
    return done.degraded_reason is None and not done.unsupported and not _failed(done) and seen == [edition.version]


def _seen(events: list[Event]) -> dict[str, Seen]:
    """Every document that was seen; a search shows no two versions of one."""
    return {
        passage.document_id: (passage.document_version, passage.metadata)
        for event in events
        if isinstance(event, Retrieved)
        for passage in event.result.passages
    }


def _agree(one: Event, other: Done) -> bool:
    """Whether two answers stand on a common place of a document."""
    if not isinstance(one, Done):
        return False
    places = {(seen.document_id, seen.document_version, seen.start, seen.end) for seen in one.citations}
    return any(
        document == seen.document_id and version == seen.document_version and start < seen.end and seen.start < end
        for document, version, start, end in places
        for seen in other.citations
    )


def _failed(done: Done) -> bool:
    return done.work is not None and bool(done.work.failed)
