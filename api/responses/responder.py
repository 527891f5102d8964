"""The way of a response: what came before, admission, the model's stream, what is kept of it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from api.answers.citing import Kept
from api.answers.links import Links, addresses_of
from api.auto.auto import AUTO, Auto
from api.auto.settling import settled
from api.errors import RequestInvalid
from api.identities import Identity
from api.metering import Metered, Metering, Size
from api.responses.annotating import Annotator
from api.responses.answering import Answering
from api.responses.keeping import Keeper
from api.responses.plan import Plan
from api.responses.request import Asked
from api.responses.searching import DocumentSearch, Found
from api.settings import ApiSettings
from core.clock import Clock
from core.principal import Principal
from core.priority import Priority
from core.reach import ANYWHERE
from core.usage import Usage
from router.errors import UpstreamRefused
from router.router import Answer, Call, Router

ROUTE = "/v1/responses"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request says beside its body.

    Attributes:
        left: tells whether its client has left.
    """

    request_id: str
    priority: Priority
    rescue: bool
    left: Callable[[], bool]


class Responder:
    """Answers requests to /v1/responses."""

    def __init__(
        self,
        router: Router,
        metering: Metering,
        keeper: Keeper,
        searching: DocumentSearch,
        kept: Kept,
        settings: ApiSettings,
        clock: Clock,
        auto: Auto | None = None,
    ) -> None:
        self._auto = auto
        self._router = router
        self._metering = metering
        self._keeper = keeper
        self._searching = searching
        self._kept = kept
        self._settings = settings
        self._clock = clock

    def billed_by(self, metering: Metering) -> "Responder":
        """One that asks another metering, and is the same in all else."""
        return Responder(
            self._router,
            metering,
            self._keeper,
            self._searching,
            self._kept,
            self._settings,
            self._clock,
            self._auto,
        )

    @asynccontextmanager
    async def answering(self, identity: Identity, asked: Asked, wishes: Wishes) -> AsyncIterator[Answering]:
        """Open the model's stream; what was used is settled when the block ends.

        Raises: whatever is wrong with the request, or keeps every model from beginning: nothing was used then.
        """
        principal = identity.principal
        earlier = await self._keeper.earlier(principal, asked)
        plan = Plan(asked, earlier.items, self._settings.file_search_characters)
        if asked.model == AUTO:
            chosen = await settled(self._auto, principal.within(earlier.reach), asked.model, plan.body())
            asked = replace(asked, model=str(chosen))
            plan = Plan(asked, earlier.items, self._settings.file_search_characters)
        if not plan.body()["messages"]:
            raise RequestInvalid("input is missing: a text, or a list of items", "input")
        metered = await self._admit(identity, asked, plan, wishes)
        answer: Answer | None = None
        try:
            found = await self._search(principal.within(earlier.reach), asked, plan)
            within = principal.within(earlier.reach).within(ANYWHERE if found is None else found.reach)
            answer = await self._open(asked, plan, wishes, within)
            metered.opened(answer.deployment)
            answer.on_switch = metered.switched
            yield Answering(
                self._keeper,
                principal,
                asked,
                answer,
                metered,
                self._clock,
                reach=within.reach,
                found=found,
                annotator=self._annotator(principal, found, plan, wishes.request_id),
                links=None if found is None else self._links(found),
            )
        finally:
            used = Usage()
            if answer is not None:
                await _leave(answer)
                used = answer.usage or Usage(0, answer.tokens)
            metered.close(used, left=wishes.left())

    async def _admit(self, identity: Identity, asked: Asked, plan: Plan, wishes: Wishes) -> Metered:
        """Reserve the most that the model can use; one without a bound gets the group's where amounts are limited."""
        bound = self._router.bound(asked.model)
        if "max_tokens" not in asked.chat and identity.limits_amounts:
            asked.chat["max_tokens"] = bound.default_max_tokens
        size = Size(plan.most_bytes, asked.chat.get("max_tokens", bound.default_max_tokens))
        return await self._metering.admit(identity, ROUTE, asked.model, wishes.request_id, size, bound)

    async def _search(self, principal: Principal, asked: Asked, plan: Plan) -> Found | None:
        """Search documents, where the request asks for it.

        Raises: RequestInvalid: there is nothing to search for; else as `DocumentSearch.search`.
        """
        if asked.search is None:
            return None
        question = plan.question
        if question is None or not question.strip():
            raise RequestInvalid("file_search searches for what a user said last: add a user's message", "input")
        found = await self._searching.search(principal, asked.search, question)
        plan.show(found)
        return found

    def _annotator(self, principal: Principal, found: Found | None, plan: Plan, request_id: str) -> Annotator | None:
        if found is None or not plan.excerpts:
            return None
        return Annotator(self._kept, principal, found, plan.excerpts, self._settings.answer_min_coverage, request_id)

    def _links(self, found: Found) -> Links:
        sources = (passage.metadata for passage in found.passages)
        return Links(self._settings.answer_link_hosts, addresses_of(sources))

    async def _open(self, asked: Asked, plan: Plan, wishes: Wishes, principal: Principal) -> Answer:
        """Ask the model, and again with less where its window is too small for all of it."""
        while True:
            call = Call(
                "chat.completions",
                asked.model,
                plan.body(),
                stream=True,
                reach=principal.reach,
                request_id=wishes.request_id,
                priority=wishes.priority,
                rescue=wishes.rescue,
                tenant=principal.tenant_id,
                who=principal.who,
            )
            try:
                return await self._router.open(call)
            except UpstreamRefused as error:
                if not error.too_long or not plan.shrink():
                    raise


async def _leave(answer: Answer) -> None:
    """Read what follows the end, so that the connection can be used again; cancel what has not ended."""
    try:
        if answer.frames is not None and answer.over:
            async for _ in answer.frames:
                pass
    finally:
        await answer.aclose()
