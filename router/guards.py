"""Guards: what a group's operator has look at texts on their way to a model, and at what it answers.

A guard may change a text (mask a name), hold it back, or refuse it. It fails closed: what it can't look at, or what it
fails on, goes nowhere. The guards of a group, and of all that may answer in its place, hold for each of its calls.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import orjson

from monitoring.logs import logger
from router.answer import Answer
from router.call import Call
from router.errors import GuardFailed, GuardRefused
from router.events import DONE, data_of, frame, frame_end, loads

T = TypeVar("T")

_log = logger(__name__)

_DEADLINE_S = 5.0  # of one look of a guard

# Below these names a request, or an answer, holds text; what hangs below them counts, too.
_ASKED = frozenset("content text prompt input query documents system arguments suffix thinking".split())
_NO_TEXT = frozenset(
    "type id role name url data media_type tool_use_id tool_call_id format detail signature cache_control".split()
)
_SAID = ("content", "reasoning_content", "reasoning", "refusal", "text", "thinking", "partial_json", "arguments")
_TELLS_TOKENS = ("logprobs", "prompt_logprobs", "token_ids", "prompt_token_ids")  # the text once more, in another way


class Refused(Exception):
    """A guard's own word: this text goes no further. The caller is told the message."""


class Listener(Protocol):
    """Hears one text of an answer, such as one choice's content."""

    async def said(self, piece: str, *, last: bool) -> str:
        """What of the text may be told now; the rest is held until later, at most until the last piece.

        Raises: Refused.
        """
        ...


@runtime_checkable
class Guard(Protocol):
    """One for each group and worker; made when the configuration is read, with its `options` as keywords."""

    async def asked(self, text: str) -> str:
        """What goes to the model in place of a text of the request. Raises: Refused."""
        ...

    def listener(self) -> Listener:
        """For a text of an answer."""
        ...


def load(where: str, options: Mapping[str, Any]) -> Guard:
    """Make a guard.

    Args:
        where: `package.module:Class`.

    Raises: ValueError: there is none, or it does not take the options; says why.
    """
    module, _, name = where.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)(**options)
    except Exception as error:  # whatever somebody else's module does while it is imported
        raise ValueError(f"{where} can't be made: {error or type(error).__name__}") from error
    if not isinstance(made, Guard):
        raise ValueError(f"{where} is no guard: it lacks `asked` or `listener`")
    return made


def of_groups(
    guards: Mapping[str, Sequence[Guard]], others: Callable[[str], Iterable[str]], groups: Iterable[str]
) -> "dict[str, Guarded]":
    """For each group the guards of all that may answer for it, its own first; those without any are left out.

    Args:
        others: the groups that may answer in a group's place, or are asked as well.
    """
    found = {}
    for group in groups if guards else ():
        reached = [group]
        for one in reached:
            reached += [other for other in others(one) if other not in reached]
        theirs = [guard for one in reached for guard in guards.get(one, ())]
        if theirs:
            found[group] = Guarded(theirs)
    return found


class Guarded:
    """The guards of one group, in their order."""

    def __init__(self, guards: Sequence[Guard], deadline_s: float = _DEADLINE_S) -> None:
        self._guards = guards
        self._deadline_s = deadline_s

    async def open(self, call: Call, open_: Callable[[Call], Awaitable[Answer]]) -> Answer:
        """Ask with what the guards make of the call, and have them hear the answer.

        Raises: GuardRefused, GuardFailed; what `open_` does.
        """
        answer = await open_(replace(call, body=await self._asked(call.body)))
        if call.needs != "chat":
            return answer
        try:
            if answer.frames is None:
                answer.body = await self._whole(answer.body)
            else:
                answer.frames = self._heard(answer, answer.frames)
        except BaseException:
            await answer.aclose()
            raise
        return answer

    async def _asked(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body with each text as the guards leave it."""

        async def through(value: Any, name: str, *, is_text: bool) -> Any:
            if isinstance(value, str):
                return await self._looked(value) if is_text else value
            if isinstance(value, dict):
                return {
                    key: await through(one, key, is_text=(is_text or key in _ASKED) and key not in _NO_TEXT)
                    for key, one in value.items()
                }
            if isinstance(value, list):
                if name in ("prompt", "input") and any(isinstance(one, int) for one in value):
                    raise GuardRefused("tokens can't be looked at: send the prompt as text")
                return [await through(one, name, is_text=is_text) for one in value]
            return value

        return {key: await through(value, key, is_text=key in _ASKED) for key, value in body.items()}

    async def _looked(self, text: str) -> str:
        for guard in self._guards:
            text = await self._waited(guard, guard.asked(text))
        return text

    async def _waited(self, guard: object, looking: Awaitable[T]) -> T:
        """What a guard says. Raises: GuardRefused; GuardFailed: it broke, or said nothing in time."""
        try:
            async with asyncio.timeout(self._deadline_s):
                return await looking
        except Refused as error:
            raise GuardRefused(str(error)) from error
        except Exception as error:  # a guard is somebody else's code
            _log.exception("a guard failed", guard=type(guard).__name__)
            raise GuardFailed(type(guard).__name__) from error

    async def _whole(self, body: bytes) -> bytes:
        data = loads(body)
        for place in _places(data):
            place.put(await self._ears().say(place.text, last=True))
        return orjson.dumps(_without_tokens(data))

    def _ears(self) -> "_Ears":
        return _Ears(self._waited, [guard.listener() for guard in self._guards])

    async def _heard(self, answer: Answer, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The frames as the guards leave them; each piece is passed on before the next is asked for."""
        ears: dict[tuple[Any, ...], _Ears] = {}
        async for piece in pieces:
            try:
                passed = b"".join([await self._frame(each, ears) for each in _cut(piece)])
            except (GuardRefused, GuardFailed) as error:
                yield answer.cut(error, "guard_refused" if isinstance(error, GuardRefused) else "guard_failed")
                return
            if passed:
                yield passed

    async def _frame(self, each: bytes, ears: "dict[tuple[Any, ...], _Ears]") -> bytes:
        data = data_of(each)
        if not data or data == DONE:
            return each
        event = loads(data)
        if not isinstance(event, dict) or "error" in event:
            return each
        before, here = b"", {place.key: place for place in _places(event)}
        for key, place in here.items():
            heard = ears.get(key) or ears.setdefault(key, self._ears())
            heard.last = place
            place.put(await heard.say(place.text, last=False))
        for key in [key for key in ears if _ends(event, key)]:
            heard = ears.pop(key)
            rest = await heard.say("", last=True)
            if rest and key in here:
                here[key].put(here[key].text + rest)
            elif rest:
                before += heard.told(rest)
        return before + _written(each, _without_tokens(event))


class _Ears:
    """Listens to one text with every guard, one behind the other."""

    def __init__(self, wait: Callable[[object, Awaitable[str]], Awaitable[str]], listeners: Sequence[Listener]) -> None:
        self._wait = wait
        self._listeners = listeners
        self.last: _Place | None = None

    async def say(self, piece: str, *, last: bool) -> str:
        for listener in self._listeners:
            piece = await self._wait(listener, listener.said(piece, last=last))
        return piece

    def told(self, rest: str) -> bytes:
        """A frame like the last one of this text, with what was held back of it; for the one that ends it to follow."""
        if self.last is None:
            return b""
        again = self.last.frame_with(rest)
        head = b"" if "choices" in again else b"event: " + str(again.get("type")).encode() + b"\n"
        return head + frame(orjson.dumps(_without_tokens(again)))


@dataclass(slots=True)
class _Place:
    """A text within an answer, or within one frame of it.

    Attributes:
        key: which text of the answer it is a part of: the number of its choice or block, then the way to it.
        holder, name: the object and the field that hold it.
        event: the whole frame.
        path: the way from the frame to the holder.
    """

    key: tuple[Any, ...]
    holder: dict[str, Any]
    name: str
    event: dict[str, Any]
    path: tuple[str | int, ...]

    @property
    def text(self) -> str:
        return str(self.holder[self.name])

    def put(self, text: str) -> None:
        self.holder[self.name] = text

    def frame_with(self, text: str) -> dict[str, Any]:
        """A copy of the frame that says nothing but this text."""
        again: dict[str, Any] = orjson.loads(orjson.dumps(self.event))
        for place in _places(again):
            place.put(text if place.path == self.path and place.name == self.name else "")
        for choice in again.get("choices", ()):
            choice["finish_reason"] = None
        again.pop("usage", None)
        return again


def _places(event: dict[str, Any]) -> list[_Place]:
    """Every text of an answer or a frame, OpenAI's or Anthropic's."""
    found: list[_Place] = []

    def walk(value: Any, key: tuple[Any, ...], path: tuple[str | int, ...]) -> None:
        if isinstance(value, dict):
            for name, one in value.items():
                if isinstance(one, str):
                    if name in _SAID or "input" in path:  # of a tool of Anthropic's: whatever it is called
                        found.append(_Place((*key, name), value, name, event, path))
                else:
                    walk(one, (*key, name), (*path, name))
        elif isinstance(value, list):
            for at, one in enumerate(value):
                number = one.get("index", at) if isinstance(one, dict) else at
                walk(one, (*key, number), (*path, at))

    number = event.get("index", 0)
    for name in ("choices", "delta", "content", "content_block", "message"):
        if isinstance(event.get(name), dict | list):
            walk(event[name], (name, number), (name,))
    return found


def _ends(event: dict[str, Any], key: tuple[Any, ...]) -> bool:
    """Whether no more of this text comes after this frame."""
    if event.get("type") in ("message_delta", "message_stop"):
        return True
    if event.get("type") == "content_block_stop":
        return bool(key[1] == event.get("index", 0))
    return any(
        key[:1] == ("choices",) and choice.get("finish_reason") is not None and key[2] == choice.get("index", at)
        for at, choice in enumerate(event.get("choices") or ())
        if isinstance(choice, dict)
    )


def _without_tokens(event: dict[str, Any]) -> dict[str, Any]:
    """The same without what tells its text in another way."""
    for holder in (event, *(one for one in event.get("choices") or () if isinstance(one, dict))):
        for name in _TELLS_TOKENS:
            holder.pop(name, None)
    return event


def _written(before: bytes, event: dict[str, Any]) -> bytes:
    """The frame, with its event's name where it had one."""
    names = [line for line in before.splitlines() if line.startswith(b"event:")]
    return b"".join(name + b"\n" for name in names) + frame(orjson.dumps(event))


def _cut(piece: bytes) -> Iterator[bytes]:
    """The whole frames of a piece."""
    start = 0
    while start < len(piece):
        end = frame_end(piece, start, start)
        end = len(piece) if end < 0 else end
        yield piece[start:end]
        start = end
