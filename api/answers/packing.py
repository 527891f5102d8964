"""The stage that packs what was found into the model's prompt, within tokens that its own tokenizer counts.

Nobody here has the model's tokenizer, so its engine is asked: once for the prompt as it is estimated to fit, and again
only where that was too much. Where no engine counts, a token is taken for one byte, which no tokenizer falls below but
for the odd sign that it writes out in others: too careful by half, and never too much.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from api.answers.context import Excerpt, choose_excerpts
from api.answers.merging import distinct, fitted, in_document_order, merged, size_of
from api.answers.recipe import Recipe
from core.reach import Reach
from monitoring.logs import logger
from retrieval.search import Passage
from router.counting import Counted

_log = logger(__name__)

Message = dict[str, str]

_TRIES = 3
_BYTES_PER_TOKEN = 4  # of plain English; the first estimate
_CAREFUL = 0.95  # of what would just fit: tokens are not spread evenly over a text
_HEAD_TOKENS = 256  # more than a chat template says by itself
_KNOWN_S = 60.0  # for which an engine's window is taken for granted


class Counts(Protocol):
    """Counts a chat's tokens."""

    async def count_tokens(self, group: str, messages: Sequence[Message], *, reach: Reach) -> Counted | None:
        """None: nobody who may be asked can say."""
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be packed into.

    Attributes:
        group: the model; None: nobody is shown what is packed.
        words: the messages with these excerpts.
        max_tokens: of the answer.
        reach: where the sources may go.
    """

    group: str | None
    words: Callable[[Sequence[Excerpt]], list[Message]]
    max_tokens: int
    reach: Reach


@dataclass(frozen=True, slots=True)
class Packed:
    """Excerpts as they are shown.

    Attributes:
        ranked: the same, the best first.
        late: no tokenizer answered in time, and less is shown than could have been.
        unfit: what is asked leaves no room for them in the model's window.
    """

    ranked: tuple[Excerpt, ...]
    late: bool = False
    unfit: bool = False

    @property
    def shown(self) -> list[Excerpt]:
        """In the order in which they stand in the prompt."""
        return in_document_order(self.ranked)


class Packer:
    """Packs for all questions of one worker.

    Args:
        characters: of sentences, where these are packed.
    """

    def __init__(self, counts: Counts, characters: int) -> None:
        self._counts = counts
        self._characters = characters
        self._windows: dict[str, tuple[int, float]] = {}  # by group: tokens, and until when they are known

    async def pack(self, question: str, passages: Sequence[Passage], recipe: Recipe, prompt: Prompt) -> Packed:
        """Choose excerpts of the best passages, as many and as long as the recipe and the engine's window let in.

        Where the pack's deadline passes, what surely fits is shown.
        """
        found = distinct(passages)

        def arrange(max_bytes: int) -> list[Excerpt]:
            if recipe.pack == "passages":
                whole = [Excerpt(passage, passage.start, passage.end) for passage in found[: recipe.passages]]
                return merged(fitted(whole, max_bytes))
            characters = min(self._characters, max_bytes)
            return merged(fitted(choose_excerpts(question, found, recipe.passages, characters), max_bytes))

        budget = recipe.max_context_tokens
        estimated = arrange(_BYTES_PER_TOKEN * budget)
        if prompt.group is None or not found:
            return Packed(tuple(estimated))
        try:
            async with asyncio.timeout(recipe.deadlines_s.pack):
                fitting = await self._counted(prompt, prompt.group, budget, arrange)
        except TimeoutError:
            _log.warning("no tokenizer answered in time", model_group=prompt.group)
            sure = arrange(budget)
            return Packed(tuple(sure), late=size_of(sure) < size_of(estimated))
        return Packed(tuple(fitting or estimated), unfit=not fitting)

    async def _counted(
        self, prompt: Prompt, group: str, budget: int, arrange: Callable[[int], list[Excerpt]]
    ) -> list[Excerpt]:
        """What fits by the engine's own count."""
        excerpts = arrange(_BYTES_PER_TOKEN * budget)
        if size_of(excerpts) <= budget and self._surely_fits(prompt, group, excerpts):
            return excerpts
        bare, counted = await asyncio.gather(self._count(prompt, group, []), self._count(prompt, group, excerpts))
        for _ in range(_TRIES - 1):
            if bare is None or counted is None:
                break
            room = min(budget, bare.window - prompt.max_tokens - bare.tokens)
            used = counted.tokens - bare.tokens
            if used <= room:
                return excerpts
            if room <= 0:
                return []
            excerpts = arrange(max(0, int(_CAREFUL * size_of(excerpts) * room / used)))
            counted = await self._count(prompt, group, excerpts)
        if bare is None:
            return arrange(budget)
        room = min(budget, bare.window - prompt.max_tokens - bare.tokens)
        if counted is not None and counted.tokens - bare.tokens <= room:
            return excerpts
        return arrange(max(0, room))

    def _surely_fits(self, prompt: Prompt, group: str, excerpts: Sequence[Excerpt]) -> bool:
        """Whether so few bytes stand in the prompt that nobody needs to be asked."""
        window, until_s = self._windows.get(group, (0, 0.0))
        if asyncio.get_running_loop().time() > until_s:
            return False
        size = sum(len(message["content"].encode()) for message in prompt.words(excerpts))
        return size + _HEAD_TOKENS + prompt.max_tokens <= window

    async def _count(self, prompt: Prompt, group: str, excerpts: Sequence[Excerpt]) -> Counted | None:
        shown = in_document_order(excerpts)
        counted = await self._counts.count_tokens(group, prompt.words(shown), reach=prompt.reach)
        if counted is not None:
            self._windows[group] = counted.window, asyncio.get_running_loop().time() + _KNOWN_S
        return counted
