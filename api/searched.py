"""Searches that were made before: the same, over the same documents, by somebody who may read the same."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import orjson

from api.caching.cache import Cache, Flight, Hit
from api.caching.name import Documents, name_of
from api.settings import ApiSettings
from core.clock import Clock
from core.principal import Principal
from retrieval.collections import Collections

SearchUse = Literal["exact", "miss", "bypass"]

_OF_SEARCHES = ("search_", "rerank_", "embedding_", "hosted_embeddings")  # settings that change what is found


class Searched:
    """Keeps what searches found.

    Args:
        cache: of which `settings.search_cache_s` says for how long; 0: nothing is kept.
    """

    def __init__(self, cache: Cache, collections: Collections, settings: ApiSettings, clock: Clock) -> None:
        self._cache = cache
        self._collections = collections
        self._clock = clock
        self._ttl_s = settings.search_cache_s
        set_up = settings.model_dump(mode="json")
        self._set_up = {name: value for name, value in set_up.items() if name.startswith(_OF_SEARCHES)}

    async def find(
        self,
        principal: Principal,
        collection: str,
        asked: Mapping[str, Any],
        search: Callable[[], Awaitable[dict[str, Any]]],
    ) -> tuple[dict[str, Any], SearchUse]:
        """What was found before, or what is found now.

        Args:
            asked: every field of the request but the collection's name.
            search: searches; its answer names the `collection_version` and whether it is `degraded`.

        Raises: CollectionNotFound; what `search` does.
        """
        started_s = self._clock.monotonic()
        edition = await self._collections.edition(principal, collection) if self._ttl_s else None
        if edition is None:
            return await search(), "bypass"
        whole = {**asked, "set_up": self._set_up}
        name = name_of(principal, "search", whole, [Documents(edition.collection_id, edition.version)])
        found = await self._cache.look(name)
        if isinstance(found, Hit):
            spent_ms = round((self._clock.monotonic() - started_s) * 1000, 2)
            return {**orjson.loads(found.body), "timings_ms": {"total": spent_ms}}, "exact"
        if not isinstance(found, Flight):
            return await search(), "bypass"
        try:
            answer = await search()
            if answer["degraded"] or answer["collection_version"] != edition.version:
                found.leave(barren=True)
            else:
                found.keep(orjson.dumps(answer).decode(), edition.lasts_s(self._ttl_s, self._clock.time()))
        finally:
            found.leave()
        return answer, "miss"
