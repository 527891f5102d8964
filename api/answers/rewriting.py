"""The stage that has a model work on the question before it is searched, as far as that was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from api.answers.asking import Asker
from api.answers.queryfilter import both
from api.answers.querywork import QueryWorker
from api.answers.question import QueryWork, Question
from api.answers.recipe import Recipe
from api.answers.reservations import Reservations
from api.answers.retrieving import Library
from api.answers.timing import StageTimes
from core.clock import Clock
from core.principal import Principal
from core.usage import Usage
from retrieval import expression
from retrieval.metadata_fields import FieldSummary
from router.router import Router


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is searched and answered.

    Attributes:
        work: what was made of it; None: nothing was asked for.
        usage: of the calls that did it.
        by_others: a fallback group answered some of them.
    """

    question: Question
    work: QueryWork | None = None
    usage: Usage = field(default_factory=Usage)
    by_others: bool = False


class Rewriting:
    """Works on all questions of one worker."""

    def __init__(self, retrieval: Library, router: Router, clock: Clock) -> None:
        self._retrieval = retrieval
        self._router = router
        self._clock = clock

    async def work(
        self,
        principal: Principal,
        question: Question,
        recipe: Recipe,
        model: str | None,
        reservations: Reservations,
        times: StageTimes,
    ) -> Asked:
        """Have the model do what is wanted. Raises: as `QueryWorker.work` and the search do."""
        # The first question of a conversation stands alone: a collection's wish to have it rewritten changes nothing.
        if not question.work.any and not (recipe.rewrite and question.turns):
            return Asked(question)
        question = replace(question, work=replace(question.work, rewrite=recipe.rewrite))
        fields = await self._check(principal, question)
        collection = await self._retrieval.collections.get(principal, question.collection)
        principal = principal.within(collection.reach)  # what its documents carry may be in what a model is asked
        asker = Asker(self._router, reservations, principal, model, question.request_id)
        worker = QueryWorker(question, asker, self._clock, recipe.deadlines_s.rewrite, times.since)
        work = await worker.work(fields)
        searched = replace(question, text=work.question, filter=both(question.filter, work.filter))
        return Asked(searched, work, asker.usage, asker.by_others)

    async def _check(self, principal: Principal, question: Question) -> Mapping[str, FieldSummary]:
        """Find what is wrong with the question itself before a model is paid for it.

        Returns: the metadata that a filter may name, where one is to be read.
        """
        if question.filter is not None:
            expression.parse_filter(question.filter)
        if question.work.self_query:
            return await self._retrieval.metadata_fields.of(principal, question.collection)
        return {}
