"""The stage that finds passages, reranked where that is wanted."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from api.answers.citing import Kept
from api.answers.question import QueryWork, Question
from api.answers.recipe import Recipe
from api.answers.timing import StageTimes
from core.dependency import DependencyTimeout
from core.principal import Principal
from core.reach import Reach
from retrieval.metadata_fields import FieldSummary
from retrieval.query import Query
from retrieval.search import SearchResult


class Searches(Protocol):
    """Finds passages."""

    async def search(self, principal: Principal, query: Query) -> SearchResult:
        """The best first."""
        ...


class Described(Protocol):
    """What is said of a collection."""

    @property
    def reach(self) -> Reach:
        """Where text of it may go."""
        ...


class Describes(Protocol):
    """Knows collections."""

    async def get(self, principal: Principal, name: str) -> Described:
        """Raises: CollectionNotFound."""
        ...


class Summarises(Protocol):
    """Knows which metadata documents have."""

    async def of(self, principal: Principal, collection_name: str) -> Mapping[str, FieldSummary]:
        """By key. Raises: CollectionNotFound."""
        ...


class Library(Protocol):
    """What answers are made from."""

    @property
    def searcher(self) -> Searches: ...

    @property
    def documents(self) -> Kept: ...

    @property
    def collections(self) -> Describes: ...

    @property
    def metadata_fields(self) -> Summarises: ...


async def retrieve(
    searcher: Searches,
    principal: Principal,
    question: Question,
    recipe: Recipe,
    work: QueryWork | None,
    times: StageTimes,
) -> SearchResult:
    """Search. The reranking is the search's own last step but one, so that it is timed and bounded there.

    Raises: as `Searcher.search`; DependencyTimeout: without passages nothing can be told.
    """
    limit_s = recipe.deadlines_s.retrieve
    try:
        with times.of("retrieve"):
            async with asyncio.timeout(limit_s):
                result = await searcher.search(principal, query_of(question, recipe, work))
    except TimeoutError as error:
        raise DependencyTimeout("search", f"no passages were found within {limit_s:g} s") from error
    if "rerank" in result.timings_ms:
        times.add("rerank", result.timings_ms["rerank"] / 1000)
    return result


def query_of(question: Question, recipe: Recipe, work: QueryWork | None) -> Query:
    """What is searched."""
    found = work or QueryWork(question.text)
    return Query(
        question.collection,
        question.text,
        question.top_k,
        mode=recipe.mode,
        filter=question.filter,
        way={} if recipe.rerank is None else {"rerank": recipe.rerank},
        rerank_top_n=recipe.rerank_top_n,
        rerank_deadline_s=recipe.deadlines_s.rerank,
        wordings=found.queries,
        hypothetical=found.hypothetical,
        anew=not question.use_cache,
    )
