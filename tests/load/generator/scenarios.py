"""What is asked: bodies by scenario, seed and number, so that two runs ask the same."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.load.generator.plan import PlanInvalid

WEIGHTS = {
    "chat": {"chat": 1.0},
    "rag": {"rag": 1.0},
    "mixed": {"chat": 0.55, "rag": 0.25, "long": 0.1, "turns": 0.1},
    "long": {"long": 1.0},
    "turns": {"turns": 1.0},
    "ingest": {"chat": 0.5, "rag": 0.3, "ingest": 0.2},
}
"""Of each scenario the kinds of requests, with the share of each."""

_WORDS = (
    "harbour lighthouse keeper winter ledger engine valve pressure signal cargo rope tide pilot chart gateway worker "
    "token cache budget key tenant passage citation index vector answer question stream deployment model"
).split()
_QUESTIONS = (
    "Which port does the gateway listen on?",
    "Where are the logs?",
    "How is a key for a colleague made?",
    "What happens when an engine dies in the middle of a stream?",
    "How long does an answer stay in the cache?",
    "What does the keeper do?",
    "How is a collection moved to another embedding model?",
    "Which errors may be tried again?",
)


class Form(StrEnum):
    """How an answer is told."""

    CHAT = "chat"  # OpenAI's chunks, of a chat or a completion
    QUERY = "query"  # the events of /v1/query
    PLAIN = "plain"  # one JSON answer


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        then: makes the next turn of the answer's text.
    """

    kind: str
    path: str
    body: dict[str, Any]
    form: Form
    then: "Callable[[str], Asked] | None" = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Makes requests.

    Attributes:
        name: one of `WEIGHTS`.
        collection: that questions are asked of; `ingest_into`: that documents go to.
        prompt_words: of a chat at the median; `long_words`: of a long context.
        output_tokens: at the median, from half of it to twice as many.
        exact_tokens: the engine is told to write exactly as many as are allowed.
        cache: whether answers may come out of a cache.
        salt: stands in every prompt, so that the same lengths are asked again and nothing lies in an engine's cache.
    """

    name: str
    seed: int
    model: str
    collection: str = "demo"
    ingest_into: str = "load-test"
    prompt_words: int = 40
    long_words: int = 1500
    output_tokens: int = 64
    exact_tokens: bool = False
    cache: bool = False
    turns: int = 4
    salt: str = ""

    def check(self) -> None:
        """Raises: PlanInvalid: no such request can be made."""
        for name in ("prompt_words", "long_words", "output_tokens"):
            if not 1 <= getattr(self, name) <= 1_000_000:
                raise PlanInvalid(f"--{name.replace('_', '-')} is not between 1 and 1,000,000")

    def begin(self, number: int) -> Asked:
        """The request of a number, or the first turn of its conversation."""
        chance = random.Random(f"{self.seed}-{number}")
        weights = WEIGHTS[self.name]
        kind = chance.choices(list(weights), list(weights.values()))[0]
        if kind == "rag":
            return self._question(chance)
        if kind == "ingest":
            return self._document(number, chance)
        if kind == "turns":
            return self._turn([], self.turns, number, chance)
        length = self.long_words if kind == "long" else _spread(self.prompt_words, chance)
        return self._chat(kind, [_said(f"Load {number}{self.salt}: {_text(length, chance)}")], number, chance)

    def _chat(
        self,
        kind: str,
        messages: list[dict[str, str]],
        number: int,
        chance: random.Random,
        then: Callable[[str], Asked] | None = None,
    ) -> Asked:
        tokens = _spread(self.output_tokens, chance)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": f"load-{number}",
        }
        if self.exact_tokens:
            body |= {"ignore_eos": True, "min_tokens": tokens}
        if self.cache:
            body["cache"] = "exact"
        return Asked(kind, "/v1/chat/completions", body, Form.CHAT, then)

    def _turn(self, before: list[dict[str, str]], left: int, number: int, chance: random.Random) -> Asked:
        """A turn of a conversation, which carries all that was said before it."""
        messages = [*before, _said(f"Load {number}{self.salt}, {left} to go: {_text(self.prompt_words, chance)}")]

        def then(text: str) -> Asked:
            return self._turn([*messages, {"role": "assistant", "content": text}], left - 1, number, chance)

        return self._chat("turns", messages, number, chance, then if left > 1 else None)

    def _question(self, chance: random.Random) -> Asked:
        body = {
            "query": chance.choice(_QUESTIONS),
            "collection": self.collection,
            "model": self.model,
            "stream": True,
            "use_cache": self.cache,
        }
        return Asked("rag", "/v1/query", body, Form.QUERY)

    def _document(self, number: int, chance: random.Random) -> Asked:
        document = {"title": f"load-{number}", "content": _text(300, chance)}
        body = {"collection": self.ingest_into, "documents": [document]}
        return Asked("ingest", "/v1/ingest", body, Form.PLAIN)


def _said(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _text(words: int, chance: random.Random) -> str:
    return " ".join(chance.choices(_WORDS, k=words))


def _spread(median: int, chance: random.Random) -> int:
    """From half the median to twice as much, by powers of two, so that half of them lie below it."""
    return max(1, round(median * 2 ** chance.uniform(-1, 1)))
