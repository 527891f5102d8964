"""Answers that were given before: the same question, over the same documents, by somebody who may read the same."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

from api.answers import kept
from api.answers.events import Done, Event, Retrieved
from api.answers.pipeline import Answerer
from api.answers.question import Question
from api.answers.recipes import Recipes
from api.caching.cache import Cache, Flight, Hit
from api.caching.name import Documents, Name, name_of
from api.identities import Identity
from api.metering import Metering, Size
from api.settings import ApiSettings
from core.clock import Clock
from core.principal import Principal
from core.usage import Usage
from retrieval.collections import Collections
from retrieval.editions import Edition
from retrieval.open import Retrieval
from router.router import Router


class CachedAnswerer:
    """Answers as an `Answerer` does, and keeps what is worth it."""

    def __init__(
        self,
        answerer: Answerer,
        cache: Cache,
        collections: Collections,
        metering: Metering,
        router: Router,
        settings: ApiSettings,
        clock: Clock,
    ) -> None:
        self._answerer = answerer
        self._cache = cache
        self._collections = collections
        self._metering = metering
        self._router = router
        self._clock = clock
        self._ttl_s = settings.answer_cache_s
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
        name = None if edition is None else self._name(identity.principal, question, model, edition)
        found = None if name is None else await self._cache.look(name)
        told = kept.read(found.body) if isinstance(found, Hit) else None
        if told is not None and model is not None:
            async with aclosing(self._again(identity, question, model, told)) as events:
                async for event in events:
                    yield event
            return
        flight = found if isinstance(found, Flight) else None
        try:
            async with aclosing(self._anew(identity, question, edition, flight)) as events:
                async for event in events:
                    yield event
        finally:
            if flight is not None:
                flight.leave()

    def _name(self, principal: Principal, question: Question, model: str | None, edition: Edition) -> Name:
        asked: dict[str, Any] = asdict(question)
        for unlike in ("request_id", "use_cache", "collection", "route"):  # the edition names the collection
            del asked[unlike]
        asked |= {"model": model, "set_up": self._set_up, "answers": edition.answers}
        return name_of(principal, "answer", asked, [Documents(edition.collection_id, edition.version)])

    async def _again(
        self, identity: Identity, question: Question, model: str, events: list[Event]
    ) -> AsyncGenerator[Event, None]:
        """Tell what was told before: it counts as a request, and costs nothing."""
        bound = self._router.bound(model)
        metered = await self._metering.admit(identity, question.route, model, question.request_id, Size(0, 0), bound)
        started_s = self._clock.monotonic()
        try:
            for event in events:
                if isinstance(event, Done):
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
                        cache="exact",
                    )
                yield event
        finally:
            metered.close(Usage(), left=True)

    async def _anew(
        self, identity: Identity, question: Question, edition: Edition | None, flight: Flight | None
    ) -> AsyncGenerator[Event, None]:
        """Answer, and keep it if it is whole and of the edition that it would be kept for."""
        told: list[Event] = []
        async with aclosing(self._answerer.answer(identity, question)) as events:
            async for event in events:
                told.append(event)
                if flight is not None and isinstance(event, Done):
                    if edition is not None and _is_whole(told, edition):
                        flight.keep(kept.written(told), self._lasts_s(edition))
                    else:
                        flight.leave(barren=True)
                    event = replace(event, cache="miss")
                yield event

    def _lasts_s(self, edition: Edition) -> float:
        """No answer outlives a document that may be in it."""
        return self._ttl_s if edition.ends_at is None else min(self._ttl_s, edition.ends_at - self._clock.time())


def answering(
    retrieval: Retrieval,
    router: Router,
    metering: Metering,
    settings: ApiSettings,
    clock: Clock,
    recipes: Recipes,
    cache: Cache,
) -> CachedAnswerer:
    """What answers questions, with whatever it stands on."""
    answerer = Answerer(retrieval, router, metering, settings, clock, recipes)
    return CachedAnswerer(answerer, cache, retrieval.collections, metering, router, settings, clock)


def _is_whole(events: list[Event], edition: Edition) -> bool:
    """Whether all parts were at work, each sentence has its source, and the collection is still the same."""
    done = events[-1]
    seen = [event.result.collection_version for event in events if isinstance(event, Retrieved)]
    whole = isinstance(done, Done) and done.degraded_reason is None and not done.unsupported and not _failed(done)
    return whole and seen == [edition.version]


def _failed(done: Done) -> bool:
    return done.work is not None and bool(done.work.failed)
