"""One socket: who is there, then question after question, one at a time."""

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from api.answers.doors import note
from api.answers.events import Done
from api.answers.showing import told
from api.errors import NotAuthenticated, QuestionRunning, RequestInvalid, RequestTooLong, describe_error
from api.identities import Identity
from api.identity import within
from api.query import answered
from api.sockets.entering import PATH, Who, by_cookie, by_key, checked
from api.sockets.words import Ask, Auth, Cancel, read_word
from api.state import AppState
from core.ids import unique_hex
from core.reach import HEADER
from monitoring import metrics, tracing
from monitoring.record import RequestRecord, finish

_REFUSED = 1008  # of RFC 6455: the endpoint's policy
_DONE = 1000
_GONE = (WebSocketDisconnect, WebSocketDisconnected)

T = TypeVar("T")


class SocketSession:
    """Serves one socket until either side closes it."""

    def __init__(self, state: AppState, socket: WebSocket) -> None:
        self._state = state
        self._socket = socket
        self._idle = asyncio.timeout(None)
        self._listening = False
        self._running: asyncio.Task[None] | None = None
        self._running_id = ""

    async def serve(self) -> None:
        """Returns when it is closed; a question that is being answered then is given up."""
        await self._socket.accept()
        try:
            who = await self._enter()
            if who is not None:
                await self._tell("ready", None, {})
                await self._listen(who)
        except _GONE:
            pass
        finally:
            self._listening = False
            await self._stop()

    async def _enter(self) -> Who | None:
        """Learn who is there; None: it was refused, and nothing was read."""
        state = self._state
        found = await by_cookie(state.identities, self._socket.headers, state.settings)
        if not isinstance(found, Exception):
            return self._within_reach(found)
        seconds = state.settings.socket_auth_s
        late = NotAuthenticated(f"nobody has said within {seconds:g} s who is there")
        record = self._record(_new_id())
        try:
            text = await _within(seconds, self._hear(), late)
            return self._within_reach(await by_key(state.identities, text, found))
        except _GONE:
            raise
        except Exception as error:
            await self._tell_error(None, error, record)
            finish(record, state.clock.monotonic())
            await self._close(_REFUSED, "not authenticated")
            return None

    def _within_reach(self, who: Who) -> Who:
        """The caller, whose text goes no further than the handshake's headers ask."""
        asked = self._socket.headers.getlist(HEADER)

        async def narrowed() -> Identity:
            return within(await who(), *asked)

        return narrowed if asked else who

    async def _listen(self, who: Who) -> None:
        """Hear what the client says, until it has nothing to say for too long."""
        try:
            async with self._idle:
                self._listening = True
                while True:
                    self._rest()
                    text = await self._hear()
                    self._idle.reschedule(None)
                    await self._obey(who, text)
        except TimeoutError:
            self._listening = False
            await self._close(_DONE, f"idle for {self._state.settings.socket_idle_s:g} s")

    def _rest(self) -> None:
        """Begin to count idle time, where nothing is being answered."""
        busy = self._running is not None and not self._running.done()
        if self._listening and not busy:
            self._idle.reschedule(asyncio.get_running_loop().time() + self._state.settings.socket_idle_s)

    async def _obey(self, who: Who, text: str) -> None:
        running = self._running_id if self._running is not None and not self._running.done() else None
        asked_id: str | None = None
        try:
            word = read_word(text)
            match word:
                case Auth():
                    raise RequestInvalid("it is known who is there; open another socket for somebody else", "type")
                case Ask(asked_id) if running is not None:
                    raise QuestionRunning(f"the question {running} is being answered: cancel it, or wait for its end")
                case Ask(asked_id):
                    self._running_id = asked_id or _new_id()
                    self._running = asyncio.create_task(self._answer(who, word, self._running_id))
                    self._running.add_done_callback(lambda _: self._rest())
                case Cancel(asked_id) if running is None or asked_id not in (None, running):
                    raise RequestInvalid("no such question is being answered, so nothing was cancelled", "id")
                case Cancel():
                    await self._stop()
                    await self._tell("cancelled", running, {})
        except (QuestionRunning, RequestInvalid) as error:
            record = self._record(_new_id())
            await self._tell_error(asked_id, error, record)
            finish(record, self._state.clock.monotonic())

    async def _answer(self, who: Who, ask: Ask, name: str) -> None:
        """Answer one question: what goes wrong with it is an event, and no matter of the next one."""
        record = self._record(name)
        record.span = tracing.begin(PATH)
        metrics.REQUESTS_RUNNING.inc()
        try:
            seconds = self._state.settings.request_deadline_s
            late = RequestTooLong("the answer was not taken in time; read it faster, or ask for less")
            await _within(seconds, self._tell_answer(who, ask, record), late)
            record.status = 200
        except _GONE:
            record.client_left = True
        except asyncio.CancelledError:
            record.client_left = True
            raise
        except Exception as error:
            with suppress(*_GONE):
                await self._tell_error(name, error, record)
                if isinstance(error, NotAuthenticated):
                    await self._close(_REFUSED, "no longer authenticated")
        finally:
            metrics.REQUESTS_RUNNING.dec()
            record.status = record.status or 499  # nginx's word for a client that left before the answer
            finish(record, self._state.clock.monotonic())

    async def _tell_answer(self, who: Who, ask: Ask, record: RequestRecord) -> None:
        identity = await checked(who)
        record.tenant_id, record.key_id = identity.principal.tenant_id, identity.principal.key_id
        asked = ask.request()
        async with aclosing(await answered(asked, self._state, identity, record.request_id)) as events:
            async for event in events:
                if isinstance(event, Done):
                    note(record, event)
                for name, data in told(event, asked.conversation_id):
                    await self._tell(name, record.request_id, data)

    async def _stop(self) -> None:
        """Give up what is being answered; its upstream is cancelled and its reservation settled when this returns."""
        task, self._running = self._running, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})

    async def _hear(self) -> str:
        """The next message. Raises: WebSocketDisconnect; RequestInvalid: it is no text."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"], message.get("reason"))
        text = message.get("text")
        return text if isinstance(text, str) else ""  # which is no JSON, and refused as such

    async def _tell(self, event: str, name: str | None, data: dict[str, Any]) -> None:
        said = {"event": event, "data": data} if name is None else {"event": event, "id": name, "data": data}
        await self._sent(self._socket.send_text(orjson.dumps(said).decode()))

    async def _close(self, code: int, reason: str) -> None:
        await self._sent(self._socket.close(code, reason))

    async def _sent(self, sending: Awaitable[None]) -> None:
        """Raises: WebSocketDisconnect: nobody has read for as long as an answer may take, so that nobody is there."""
        limit = asyncio.timeout(self._state.settings.request_deadline_s)
        try:
            async with limit:
                await sending
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise WebSocketDisconnect(1006) from error

    async def _tell_error(self, name: str | None, error: Exception, record: RequestRecord) -> None:
        """As an answer with this status would say it; who waits is told for how long."""
        record.status, body, headers = describe_error(error, record)
        told_of = {**body, "status": record.status, "request_id": record.request_id}
        if "retry-after" in headers:
            told_of["retry_after_s"] = int(headers["retry-after"])
        await self._tell("error", name, told_of)

    def _record(self, name: str) -> RequestRecord:
        record = RequestRecord(name, "WS", self._state.clock.monotonic())
        record.route = PATH
        return record


async def _within(seconds: float, work: Awaitable[T], late: Exception) -> T:
    """What comes of the work. Raises: `late` where it takes too long."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError as error:
        raise (late if limit.expired() else error) from None


def _new_id() -> str:
    return f"req_{unique_hex()}"
