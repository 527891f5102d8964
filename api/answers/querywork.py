"""What a model does with a question before it is searched: first it is rewritten, then the other steps run at once.

Rewriting, other wordings and the hypothetical passage only help: a step that fails is left out and named. A filter
decides what may be found: where one was asked for and none can be read, there is no search at all.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from api.answers import queryprompts
from api.answers.asking import Ask
from api.answers.queryfilter import both, read_filter
from api.answers.queryprompts import Prompt
from api.answers.queryreading import read_passage, read_question, read_wordings
from api.answers.question import QueryWork, Question, Step, StepFailed
from api.errors import FilterUnreadable
from core.clock import Clock
from monitoring import tracing
from monitoring.logs import logger
from retrieval.metadata_fields import FieldSummary

_log = logger(__name__)

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
T = TypeVar("T")


class QueryWorker:
    """Works on one question.

    Args:
        deadline_s: for all steps together.
        lap: told of each step that was asked for when it is over, with the clock's reading at which it began.
    """

    def __init__(
        self, question: Question, ask: Ask, clock: Clock, deadline_s: float, lap: Callable[[str, float], None]
    ) -> None:
        self._question = question
        self._wanted = question.work
        self._ask = ask
        self._clock = clock
        self._deadline_s = deadline_s
        self._lap = lap
        self._due_s = 0.0
        self._failed: dict[Step, str] = {}

    async def work(self, fields: Mapping[str, FieldSummary]) -> QueryWork:
        """Do what the question wants done.

        Args:
            fields: that documents carry which the caller may read; where there are none, no filter could hold.

        Raises: FilterUnreadable; what admission and ledger raise, as for the answer itself.
        """
        self._due_s = asyncio.get_running_loop().time() + self._deadline_s
        text = await self._rewritten()
        queries, hypothetical, read = await _side_by_side(
            self._wordings(text), self._passage(text), self._filter(text, fields)
        )
        return QueryWork(text, queries, hypothetical, read, self._failed)

    async def _rewritten(self) -> str:
        asked, turns = self._question.text, self._question.turns
        if not self._wanted.rewrite or not turns:  # the first question of a conversation stands alone
            return asked
        prompt = queryprompts.rewrite(asked, turns)
        return await self._or("rewrite", asked, prompt, lambda said: read_question(said, asked))

    async def _wordings(self, text: str) -> tuple[str, ...]:
        count, known = self._wanted.multi_query, [text, self._question.text]
        if not count:
            return ()
        prompt = queryprompts.multi_query(text, count)
        return await self._or("multi_query", (), prompt, lambda said: read_wordings(said, known, count))

    async def _passage(self, text: str) -> str | None:
        known = [text, self._question.text]
        if not self._wanted.hyde:
            return None
        return await self._or("hyde", None, queryprompts.hyde(text), lambda said: read_passage(said, known))

    async def _filter(self, text: str, fields: Mapping[str, FieldSummary]) -> dict[str, Any] | None:
        if not self._wanted.self_query or not fields:
            return None

        def read(said: str) -> dict[str, Any] | None:
            found = read_filter(said, fields)
            both(self._question.filter, found)  # they must go together
            return found

        try:
            return await self._asked("self_query", queryprompts.self_query(text, fields), read)
        except StepFailed as error:
            raise FilterUnreadable(
                f'no filter could be read from the question: {error}; give "filter" yourself, or leave self_query out',
                "query_work.self_query",
            ) from error

    async def _or(self, step: Step, instead: T, prompt: Prompt, read: Callable[[str], T]) -> T:
        """What the step gives, or, where it fails, what there is without it."""
        try:
            return await self._asked(step, prompt, read)
        except StepFailed as error:
            request_id = self._question.request_id
            _log.warning("a step of query work was left out", request_id=request_id, step=step, reason=str(error))
            self._failed[step] = str(error)
            return instead

    async def _asked(self, step: Step, prompt: Prompt, read: Callable[[str], T]) -> T:
        """Raises: StepFailed."""
        began_s = self._clock.monotonic()
        try:
            if asyncio.get_running_loop().time() >= self._due_s:
                raise TimeoutError  # nobody is asked any more
            with tracing.stage(step):
                async with asyncio.timeout_at(self._due_s):
                    said = await self._ask(step, prompt)
        except TimeoutError as error:
            raise StepFailed(f"it was not done within the {self._deadline_s:g} s that query work has") from error
        finally:
            self._lap(step, began_s)
        return read(said)


async def _side_by_side(
    first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B], third: Coroutine[Any, Any, C]
) -> tuple[A, B, C]:
    """Run all at once; the first error ends the others, and is raised when they have ended."""
    one, two, three = asyncio.create_task(first), asyncio.create_task(second), asyncio.create_task(third)
    try:
        return await asyncio.gather(one, two, three)
    finally:
        for task in (one, two, three):
            task.cancel()
        await asyncio.gather(one, two, three, return_exceptions=True)
