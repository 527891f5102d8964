"""Entries of questions that ask the same, and are written otherwise.

Equality comes first: only questions are held against each other whose entries have all but the question's words in
common, tenant, readers, documents and parameters (`api/caching/name.py`). Then `sameness.py` judges the words.
"""

import random
import re
from collections import deque
from collections.abc import Callable
from math import sqrt

import orjson

from api.caching.cache import Cache, Hit
from api.caching.name import Name
from api.caching.sameness import Judge
from monitoring import metrics
from monitoring.series import take_away

_MOST_CHECKED = 1000  # collections of which checks are remembered, and told: those that were checked last
_MOST = 64  # questions that are remembered beside each other, the newest first
_LONGEST = 300  # characters of one
_LOOKED_AT = 8  # of them those that share most words
_LEAST_SHARED = 0.3  # of all words of both
_WORD = re.compile(r"\w+")


class Similar:
    """Finds and remembers questions; one for each worker.

    Args:
        check_share: of hits, those that are held against a new answer (`is_to_be_checked`).
        bound: of false hits among those; where it is surely passed, a collection has no more hits here.
    """

    def __init__(
        self,
        cache: Cache,
        judge: Judge,
        check_share: float,
        bound: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._cache = cache
        self._judge = judge
        self._check_share = check_share
        self._chance = chance
        self._bound = bound
        self._trust: dict[str, Trust] = {}  # of collections; what was checked last stands last

    async def find(self, beside: Name, collection_id: str, text: str) -> Hit | None:
        """The entry of a question that asks the same as this text.

        Args:
            beside: the name of all that may be told to this asker, whatever the question's words are.
        """
        trust = self._trust.get(collection_id)
        if len(text) > _LONGEST or (trust is not None and not trust.holds):
            return None
        for digest, like in _nearest(text, await self._asked(beside)):
            if self._judge.ask_the_same(text, like):
                found = await self._cache.find(Name(beside.tenant_id, "answer", digest, beside.carried))
                if found is not None:
                    return found
        return None

    def remember(self, beside: Name, name: Name, text: str, marks: str, ttl_s: float) -> None:
        """Let the entry of this question be found by others that ask the same; it comes at once."""
        if len(text) <= _LONGEST:
            self._cache.start(self._remember(beside, name, text, marks, ttl_s))

    def is_to_be_checked(self) -> bool:
        """Whether a hit that was just found is to be held against a new answer, which is told instead."""
        return self._chance() < self._check_share

    def checked(self, collection_id: str, *, same: bool) -> None:
        """Take note of how a check went."""
        trust = self._trust.pop(collection_id, None) or Trust(self._bound)
        trust.observe(same=same)
        self._trust[collection_id] = trust
        while len(self._trust) > _MOST_CHECKED:
            oldest = next(iter(self._trust))
            del self._trust[oldest]
            take_away([(metrics.SEMANTIC_FALSE_SHARE, (oldest,))])
        metrics.SEMANTIC_CHECKS.labels("same" if same else "different").inc()
        metrics.SEMANTIC_FALSE_SHARE.labels(collection_id).set(trust.most)

    async def _asked(self, beside: Name) -> list[tuple[str, str]]:
        found = await self._cache.find(beside)
        return [] if found is None else [(digest, text) for digest, text in orjson.loads(found.body)]

    async def _remember(self, beside: Name, name: Name, text: str, marks: str, ttl_s: float) -> None:
        others = [(digest, like) for digest, like in await self._asked(beside) if digest != name.digest]
        body = orjson.dumps([(name.digest, text), *others][:_MOST]).decode()
        self._cache.put(beside, marks, body, ttl_s)


class Trust:
    """What checks of one collection's hits say of the share of false ones, of the last few hundred.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927; 95 %, one-sided.
    """

    _Z = 1.645

    def __init__(self, bound: float, most: int = 400) -> None:
        self._bound = bound
        self._seen: deque[bool] = deque(maxlen=most)

    def observe(self, *, same: bool) -> None:
        self._seen.append(same)

    @property
    def holds(self) -> bool:
        """Whether the share of false hits may still be within its bound."""
        return self._limits()[0] <= self._bound

    @property
    def most(self) -> float:
        """What the share of false hits is at most; 1 before anything was seen."""
        return self._limits()[1]

    def _limits(self) -> tuple[float, float]:
        count = len(self._seen)
        if count == 0:
            return 0.0, 1.0
        share, z2 = self._seen.count(False) / count, self._Z**2
        middle = share + z2 / (2 * count)
        spread = self._Z * sqrt(share * (1 - share) / count + z2 / (4 * count**2))
        return max(0.0, (middle - spread) / (1 + z2 / count)), min(1.0, (middle + spread) / (1 + z2 / count))


def _nearest(text: str, asked: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that share most words with a text; nobody judges the others."""
    words = _words(text)
    near = []
    for digest, like in asked:
        others = _words(like)
        shared = len(words & others) / max(1, len(words | others))
        if shared >= _LEAST_SHARED or len(words & others) >= min(len(words), len(others)) / 2:
            near.append((shared, digest, like))
    near.sort(key=lambda one: -one[0])
    return [(digest, like) for _, digest, like in near[:_LOOKED_AT]]


def _words(text: str) -> frozenset[str]:
    """Beginnings of words, since their ends change most."""
    return frozenset(word[:4] for word in _WORD.findall(text.lower()))
