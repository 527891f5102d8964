"""Vectors of questions that were asked before, so that a question is embedded once, whatever it is asked of."""

import base64
import hashlib
from collections.abc import Sequence

import numpy as np
import orjson

from api.caching.cache import Cache, Flight, Hit
from api.caching.name import ALL, PIPELINE, Name, of_key
from core.principal import Principal
from retrieval.hosted import Space
from retrieval.questions import Embed, Vectors


class QuestionVectors:
    """Keeps them for the tenant that asked; a vector depends on nothing but the text, the space and the policy.

    Args:
        ttl_s: for which one is kept.
    """

    def __init__(self, cache: Cache, ttl_s: float) -> None:
        self._cache = cache
        self._ttl_s = ttl_s

    async def embedded(self, principal: Principal, texts: Sequence[str], space: Space, embed: Embed) -> Vectors:
        """As `retrieval.questions.Questions.embedded`. A text that stands there twice is looked for once."""
        vectors: dict[str, Vectors] = {}
        flights: dict[str, Flight] = {}
        try:
            for text in sorted(set(texts)):  # in one order: two who ask the same wait for each other's at most once
                found = await self._cache.look(_name(principal, space, text))
                if isinstance(found, Flight):
                    flights[text] = found
                elif isinstance(found, Hit) and (vector := _read(found.body, space)) is not None:
                    vectors[text] = vector
            if missing := [text for text in dict.fromkeys(texts) if text not in vectors]:
                vectors |= zip(missing, await embed(missing), strict=True)
            for text, flight in flights.items():
                flight.keep(base64.b64encode(vectors[text].astype("<f4").tobytes()).decode(), self._ttl_s)
            return np.stack([vectors[text] for text in texts])
        finally:
            for flight in flights.values():
                flight.leave()


def _name(principal: Principal, space: Space, text: str) -> Name:
    parts = [PIPELINE, principal.tenant_id, principal.reach.row(), space.name, space.dimensions, text]
    maker = [] if principal.key_id is None else [of_key(principal.key_id)]
    digest = hashlib.sha256(orjson.dumps(parts)).hexdigest()
    return Name(principal.tenant_id, "vector", digest, (ALL, *maker))


def _read(body: str, space: Space) -> Vectors | None:
    """None: this is no vector of the space."""
    found = np.frombuffer(base64.b64decode(body), dtype="<f4").astype(np.float32)
    return found if found.shape == (space.dimensions,) else None
