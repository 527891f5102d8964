"""A response on its way: the model's stream is open, and becomes events."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from api.answers.deltas import StreamBroken, chunks
from api.answers.guarding import guarded
from api.answers.links import Links
from api.errors import describe
from api.metering import Metered, refused
from api.responses import shape
from api.responses.annotating import Annotator
from api.responses.keeping import Keeper
from api.responses.request import Asked
from api.responses.searching import Found
from api.responses.writing import Event, Writer
from core.clock import Clock
from core.dependency import DependencyError
from core.ids import new_id
from core.principal import Principal
from core.reach import Reach
from core.usage import Usage
from monitoring.logs import logger
from router.errors import UpstreamFailed
from router.router import Answer

_log = logger(__name__)


class Answering:
    """A response on its way: the model's stream is open.

    Args:
        links: that may be shown; None: all, since the model has read no documents.

    Attributes:
        answer: what the router gave.
        metered: its reservation and its line.
    """

    def __init__(
        self,
        keeper: Keeper,
        principal: Principal,
        asked: Asked,
        answer: Answer,
        metered: Metered,
        clock: Clock,
        *,
        reach: Reach,
        found: Found | None,
        annotator: Annotator | None,
        links: Links | None,
    ) -> None:
        self._keeper = keeper
        self._principal = principal
        self._asked = asked
        self._clock = clock
        self._reach = reach
        self._found = found
        self._annotator = annotator
        self._links = links
        self.answer = answer
        self.metered = metered
        model = answer.fallback or asked.model
        self._writer = Writer(shape.begun(asked, new_id("resp"), model, int(clock.time())))
        if found is not None:
            self.response["degraded_reason"] = found.degraded_reason

    @property
    def response(self) -> dict[str, Any]:
        """As far as it is."""
        return self._writer.response

    @property
    def model(self) -> str:
        """The group that was asked."""
        return self._asked.model

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self.answer.usage or Usage(0, self.answer.tokens)

    async def events(self) -> AsyncIterator[list[Event]]:
        """The events, those of one chunk at a time; the last of them holds the whole response.

        Its line in the ledger, and what is kept of it, are written before the last event.

        Raises: UpstreamFailed: the model's stream broke, and nobody could go on with it; GuardRefused, GuardFailed: no
            more of it may be told; what the ledger and the store raise. `failed` then tells the client of a stream.
        """
        writer, answer = self._writer, self.answer
        yield [*writer.begin(), *([] if self._found is None else writer.searched(self._found.item()))]
        assert answer.frames is not None
        try:
            said = chunks(answer.frames)
            async for chunk in said if self._links is None else guarded(said, self._links):
                self.metered.count(answer.tokens)
                yield [*await self._sourced(ends=writer.ends_text(chunk)), *writer.add(chunk)]
                yield await self._sourced(chunk)
        except StreamBroken as error:
            if answer.refused is not None:
                raise refused(answer.refused, answer, self.metered) from error
            raise UpstreamFailed(answer.deployment.name, f"broke off its answer: {error}") from error
        events = [*await self._sourced(ends=not writer.was_cut), *writer.close()]
        self.metered.finish(self.usage, "ok")
        writer.response["model"] = answer.fallback or self._asked.model
        last = writer.end(shape.usage_of(self.usage, writer.reasoning_tokens), int(self._clock.time()))
        await self._keep()
        yield [*events, last]

    async def _sourced(self, chunk: Mapping[str, Any] | None = None, *, ends: bool = False) -> list[Event]:
        """The sources of what a chunk has said, or of a text's last sentence before it ends."""
        if self._annotator is None or (chunk is None and not ends):
            return []
        found = await self._annotator.rest() if chunk is None else await self._annotator.hear(chunk)
        return [event for annotation in found for event in self._writer.annotate(annotation)]

    async def failed(self, error: Exception) -> list[Event]:
        """The events that end a stream which can't go on."""
        body = describe(error)[1]["error"]
        self.metered.finish(self.usage, "failed", 502)
        usage = shape.usage_of(self.usage, self._writer.reasoning_tokens)
        events = self._writer.fail(str(body.get("code")), str(body.get("message")), usage)
        try:
            await self._keep()
        except DependencyError as away:
            _log.warning("a failed response was not kept", response=self.response["id"], reason=str(away))
        return events

    async def _keep(self) -> None:
        """Keep the response as it is now.

        Raises: DependencyError: it belongs to a conversation, which would go on without it.
        """
        try:
            await self._keeper.keep(self._principal, self._asked, self.response, reach=self._reach)
        except DependencyError as error:
            if self._asked.conversation_id is not None:
                raise
            _log.warning("a response was not kept", response=self.response["id"], reason=str(error))
            self.response["store"] = False
