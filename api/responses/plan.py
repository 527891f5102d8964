"""What a model is asked for a response, and how it is made smaller where its window is too small."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import orjson

from api.answers.context import Excerpt, choose_excerpts
from api.answers.prompt import PROMPT_CHARACTERS, with_sources
from api.conversations.history import history, last_turn, size_of
from api.conversations.items import Item, text_of
from api.responses.messages import Message, messages, question_of
from api.responses.request import Asked
from api.responses.searching import Found

_LESS = 0.6  # of what was too much is tried next; the gateway knows no model's window, so the engine is the judge
_FEWEST = 100  # characters of excerpts; where not even they fit, the question itself is too long
_AROUND = 20  # characters that stand around each excerpt
_BYTES_PER_CHARACTER = 4  # of UTF-8 at most


class Plan:
    """The chat of one response.

    Args:
        earlier: what was said before, the oldest first.
        characters: of excerpts that a model is shown, at most.

    Attributes:
        excerpts: of what was found, those that the model is shown.
    """

    def __init__(self, asked: Asked, earlier: Sequence[Item], characters: int) -> None:
        self._asked = asked
        begin = last_turn(asked.input)
        head = 0 if earlier else min(begin, _system_items(asked.input))
        self._pinned = asked.input[:head]
        self._earlier = [*earlier, *asked.input[head:begin]]
        self._now = asked.input[begin:]
        self._characters = characters
        self._found: Found | None = None
        self.excerpts: list[Excerpt] = []

    @property
    def question(self) -> str | None:
        """What the user said last; None: nothing."""
        said = question_of([*self._earlier, *self._now])
        return None if said is None else text_of(said)

    def show(self, found: Found) -> None:
        """Have the model shown what was found."""
        self._found = found
        self.excerpts = choose_excerpts(found.question, found.passages, len(found.passages), self._characters)

    def body(self) -> dict[str, Any]:
        """The request to the model; what it used is always asked for."""
        asked = self._asked
        said = messages(asked.instructions, [*self._pinned, *self._earlier, *self._now])
        return {
            **asked.chat,
            "model": asked.model,
            "messages": _beside_question(said, self.excerpts) if self.excerpts else said,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    @property
    def most_bytes(self) -> int:
        """Of all that the model may read: an upper bound of its tokens, also before anything was searched."""
        size = len(orjson.dumps(self.body()))
        if self._asked.search is None or self.excerpts:
            return size
        around = PROMPT_CHARACTERS + _AROUND * self._asked.search.most
        return size + _BYTES_PER_CHARACTER * (self._characters + around)

    def shrink(self) -> bool:
        """Leave out the oldest turns, where the request allows it, then a part of what was found.

        Returns: whether there is less now.
        """
        return (self._asked.truncation == "auto" and self._forget()) or self._show_less()

    def _forget(self) -> bool:
        items = self._earlier
        if not items:
            return False
        budget = int(_LESS * sum(map(size_of, items))) + sum(map(size_of, self._now))
        self._earlier = history(items, budget, asked=self._now)
        return len(self._earlier) < len(items)

    def _show_less(self) -> bool:
        budget = int(_LESS * sum(len(excerpt.text) for excerpt in self.excerpts))
        if self._found is None or budget < _FEWEST:
            return False
        self._characters = budget
        self.show(self._found)
        return True


def _system_items(items: Sequence[Item]) -> int:
    """How many messages of the system an input begins with: they hold for all of it, however much is left out."""
    heads = takewhile(lambda item: item["type"] == "message" and item["role"] in ("system", "developer"), items)
    return len(list(heads))


def _beside_question(said: Sequence[Message], excerpts: Sequence[Excerpt]) -> list[Message]:
    """The messages with the excerpts in the last one of a user."""
    at = max(place for place, message in enumerate(said) if message["role"] == "user")
    content = said[at]["content"]
    if isinstance(content, str):
        content = with_sources(content, excerpts)
    else:
        content = [{"type": "text", "text": with_sources("", excerpts).rstrip()}, *content]
    return [*said[:at], {**said[at], "content": content}, *said[at + 1 :]]
