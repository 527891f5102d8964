"""Guards: what a group's operator has look at texts on their way to a model, and at what it answers.

A guard may change a text (mask a name), hold it back, or refuse it. It fails closed: what it can't look at, or what it
fails on, goes nowhere. The guards of a group, and of all that may answer in its place, hold for each of its calls.
"""

import asyncio
import hashlib
import importlib
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

from monitoring.logs import logger
from router.answer import Answer
from router.call import Call
from router.errors import GuardFailed, GuardRefused
from router.events import DONE, data_of, dumps, frame, frame_end, loads

_log = logger(__name__)

_DEADLINE_S = 5.0  # of one look of a guard
_AT_ONCE = 200  # texts that are looked at before others have their turn


def _places_of(*lines: str) -> frozenset[str]:
    """`PATH: NAME NAME` as the places that it names; each place of lists is left out, and a name that repeats."""
    split = (line.split(":") for line in lines)
    return frozenset(f"{path}.{name}".lstrip(".") for path, names in split for name in names.split())


# What says nothing of a request's own, or is no text: kinds, names of models and tools, ids, pictures and sound.
_FORMAL_ASKED = _places_of(
    ":model encoding_format input_type truncate modalities reasoning_effort service_tier verbosity tool_choice",
    ":function_call",
    "audio:format voice",
    "thinking:type",
    "output_config:effort",
    "output_config.format:type",
    "response_format:type",
    "response_format.json_schema:name",
    "function_call:name",
    "functions:name",
    "tool_choice:type name mode",
    "tool_choice.function:name",
    "tools:type name",
    "tools.function:name",
    "tools.custom:name",
    "tools.cache_control:type ttl",
    "prediction:type",
    "prediction.content:type",
    "system:type",
    "system.cache_control:type ttl",
    "messages:role tool_call_id",
    "messages.audio:id",
    "messages.function_call:name",
    "messages.tool_calls:id type",
    "messages.tool_calls.function:name",
    "messages.tool_calls.custom:name",
    "messages.content:type id name tool_use_id signature data",
    "messages.content.cache_control:type ttl",
    "messages.content.source:type media_type file_id",
    "messages.content.file:file_id",
    "messages.content.image_url:detail",
    "messages.content.input_audio:data format",
)
_FORMAL_SAID = _places_of(
    ":id object model system_fingerprint service_tier type role stop_reason",
    "choices:finish_reason",
    *(
        f"choices.{said}{names}"
        for said in ("message", "delta")
        for names in (
            ":role",
            ".tool_calls:id type",
            ".tool_calls.function:name",
            ".tool_calls.custom:name",
            ".function_call:name",
            ".audio:id data",
        )
    ),
    "content:type id name signature data",
    "content_block:type id name signature data",
    "delta:type stop_reason signature",
    "message:id type role model stop_reason service_tier",
)
_FORMAL = re.compile(r"[A-Za-z0-9_.:/+=@-]*")  # what else stands at a formal place is looked at
_MEDIA = ("image/", "audio/", "video/", "application/pdf", "application/octet-stream")
# What may be a picture, a sound or a file instead of text.
_ENCODED = _places_of(
    "messages.content:image_url",
    "messages.content.image_url:url",
    "messages.content.video_url:url",
    "messages.content.audio_url:url",
    "messages.content.file:file_data",
    "messages.content.source:data",
    "choices.message.images.image_url:url",
    "choices.delta.images.image_url:url",
)
# Fields below these have names that somebody gave them.
_NAMED = frozenset(
    "messages.content.input metadata content.input content_block.input tools.function.parameters functions.parameters"
    " tools.input_schema response_format.json_schema.schema output_config.format.schema".split()
)
# Texts that come in pieces, frame by frame; any other string of a frame is whole.
_SAID = frozenset(
    "content reasoning_content reasoning refusal text thinking partial_json arguments transcript input".split()
)
_DELTAS = {"thinking": "thinking_delta", "partial_json": "input_json_delta"}  # of Anthropic's; else `text_delta`
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


@dataclass(frozen=True, slots=True)
class Posted:
    """A guard, and what it was made of."""

    guard: Guard
    use: str
    options: Mapping[str, Any]


def of_groups(
    guards: Mapping[str, Sequence[Posted]], others: Callable[[str], Iterable[str]], groups: Iterable[str]
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
        theirs = [posted for one in reached for posted in guards.get(one, ())]
        if theirs:
            found[group] = Guarded([posted.guard for posted in theirs], _name(theirs))
    return found


def _name(guards: Sequence[Posted]) -> str:
    said = [[posted.use, posted.options] for posted in guards]
    return hashlib.blake2b(json.dumps(said, default=str, sort_keys=True).encode(), digest_size=16).hexdigest()


class Guarded:
    """The guards of one group, in their order.

    Attributes:
        guards: themselves.
        name: of what they are made of, the same in all workers.
    """

    def __init__(self, guards: Sequence[Guard], name: str = "", deadline_s: float = _DEADLINE_S) -> None:
        self.guards = tuple(guards)
        self.name = name
        self._deadline_s = deadline_s

    async def asked(self, call: Call) -> Call:
        """The call with each of its texts as the guards leave it. Raises: GuardRefused, GuardFailed."""
        return replace(call, body=await self._asked(call.body), guards=self.guards)

    async def hear(self, call: Call, answer: Answer) -> Answer:
        """Have the guards hear the answer; where they let nothing of it be told, it says so as `refused`."""
        if call.needs == "embedding":
            return answer
        if answer.frames is not None:
            answer.frames = self._heard(answer, answer.frames)
            return answer
        try:
            answer.body = await self._whole(answer.body)
        except (GuardRefused, GuardFailed) as error:
            answer.body, answer.refused = b"", error
        except BaseException:
            await answer.aclose()
            raise
        return answer

    async def _asked(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The body with each text as the guards leave it."""
        for name in ("prompt", "input"):
            given = asked.get(name)
            if isinstance(given, list) and any(isinstance(one, int | list) for one in given):
                raise GuardRefused("tokens can't be looked at: send the prompt as text")
        body = dict(asked)
        async for place in _in_turn(_places(body, _FORMAL_ASKED)):
            text = place.text
            for guard in self.guards:
                text = await self._waited(guard, partial(guard.asked, text))
            place.put(text)
        return body

    async def _waited(self, guard: object, look: Callable[[], Awaitable[str]]) -> str:
        """What a guard says. Raises: GuardRefused; GuardFailed: it broke, or said nothing in time."""
        clock_s = asyncio.get_running_loop().time
        due_s = clock_s() + self._deadline_s
        try:
            async with asyncio.timeout_at(due_s):
                said = await look()
            if clock_s() > due_s:
                raise TimeoutError("it let nobody else run")
            if not isinstance(said, str):
                raise TypeError(f"it gave {type(said).__name__} for a text")
        except Refused as error:
            raise GuardRefused(str(error)) from error
        except Exception as error:  # a guard is somebody else's code
            raise _failed(guard, error) from error
        return said

    async def _whole(self, body: bytes) -> bytes:
        """Raises: GuardRefused, GuardFailed."""
        with self._looking():
            data = _without_tokens(_object(body))
            async for place in _in_turn(_places(data, _FORMAL_SAID)):
                place.put(await self._ears().say(place.text, last=True))
            return dumps(data)

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """What goes wrong here is a guard's failure: a text that could not be looked at goes no further."""
        try:
            yield
        except (GuardRefused, GuardFailed):
            raise
        except Exception as error:
            raise _failed(self.guards[0], error) from error

    def _ears(self) -> "_Ears":
        """Raises: GuardFailed."""
        listeners = []
        for guard in self.guards:
            try:
                listeners.append(guard.listener())
            except Exception as error:  # as in `_waited`
                raise _failed(guard, error) from error
        return _Ears(self._waited, listeners)

    async def _heard(self, answer: Answer, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The frames as the guards leave them; each piece is passed on before the next is asked for."""
        ears: dict[tuple[Any, ...], _Ears] = {}
        async for piece in pieces:
            passed = b""
            try:
                with self._looking():
                    for each in _cut(piece):
                        passed += await self._frame(each, ears)
            except (GuardRefused, GuardFailed) as error:
                yield passed + answer.cut(error, "guard_refused" if isinstance(error, GuardRefused) else "guard_failed")
                return
            if passed:
                yield passed

    async def _frame(self, each: bytes, ears: "dict[tuple[Any, ...], _Ears]") -> bytes:
        data = data_of(each)
        if not data:
            return each
        if data == DONE:
            return b"".join([await ears.pop(key).rest() for key in list(ears)]) + each
        event = _without_tokens(_object(data))
        if event.get("error"):
            return each
        before, here = b"", {}
        for place in _places(event, _FORMAL_SAID):
            if not place.goes_on:
                place.put(await self._ears().say(place.text, last=True))
                continue
            heard = ears.get(place.key) or ears.setdefault(place.key, self._ears())
            heard.last = here[place.key] = place
            place.put(await heard.say(place.text, last=False))
        for key in [key for key in ears if _ends(event, key)]:
            heard = ears.pop(key)
            if key in here:
                here[key].put(here[key].text + await heard.say("", last=True))
            else:
                before += await heard.rest()
        return before + _written(each, event)


def _failed(guard: object, error: Exception) -> GuardFailed:
    _log.error("a guard failed", guard=type(guard).__name__, exc_info=error)
    return GuardFailed(type(guard).__name__)


class _Ears:
    """Listens to one text with every guard, one behind the other."""

    def __init__(
        self, wait: Callable[[object, Callable[[], Awaitable[str]]], Awaitable[str]], listeners: Sequence[Listener]
    ) -> None:
        self._wait = wait
        self._listeners = listeners
        self.last: _Place | None = None

    async def say(self, piece: str, *, last: bool) -> str:
        for listener in self._listeners:
            piece = await self._wait(listener, partial(listener.said, piece, last=last))
        return piece

    async def rest(self) -> bytes:
        """A frame with what was held back of it, for the one that ends it to follow; empty where nothing was."""
        rest = await self.say("", last=True)
        return b"" if not rest or self.last is None else self.last.frame_with(rest)


@dataclass(slots=True)
class _Place:
    """A text within a request, an answer or one frame of an answer.

    Attributes:
        key: which text of an answer it is a part of: the number of its choice or block, and the way to it.
        holder, name: what holds it, and where.
        way: what holds the holder, and where, from the whole on.
        goes_on: more of it may come in another frame.
        is_name: it is the name of a field itself.
    """

    key: tuple[Any, ...]
    holder: Any
    name: Any
    way: tuple[tuple[Any, Any], ...]
    goes_on: bool
    is_name: bool = False

    @property
    def text(self) -> str:
        return str(self.name if self.is_name else self.holder[self.name])

    def put(self, text: str) -> None:
        if not self.is_name:
            self.holder[self.name] = text
        elif text != self.name:
            if text in self.holder:
                raise GuardRefused("two fields would have the same name after what a guard changes in them")
            fields = [(text if name == self.name else name, value) for name, value in self.holder.items()]
            self.holder.clear()
            self.holder.update(fields)

    def frame_with(self, text: str) -> bytes:
        """A frame that says this text and nothing else."""
        if self.key[0] == "block":
            delta = {"type": _DELTAS.get(self.name, "text_delta"), self.name: text}
            event = {"type": "content_block_delta", "index": self.key[1], "delta": delta}
            return b"event: content_block_delta\n" + frame(dumps(event))
        whole = (*self.way, (self.holder, self.name))[0][0]
        inner: Any = text
        for holder, name in reversed((*self.way, (self.holder, self.name))):
            number = {"index": holder["index"]} if isinstance(holder, dict) and "index" in holder else {}
            inner = [inner] if isinstance(holder, list) else {**number, name: inner}
        for choice in inner.get("choices", ()):
            choice["finish_reason"] = None
        return frame(
            dumps({name: whole[name] for name in ("id", "object", "created", "model") if name in whole} | inner)
        )


def _places(whole: dict[str, Any], formal: Set[str]) -> Iterator[_Place]:
    """Every text, each to be put before the next is asked for, but those at formal places.

    What holds a text is copied on the way to it: what it was given stays as it is, all but `whole` itself.
    """
    number = whole.get("index")
    waiting: deque[tuple[Any, str, tuple[Any, ...], tuple[tuple[Any, Any], ...], bool]]
    waiting = deque([(whole, "", (), (), False)])
    while waiting:
        holder, path, key, way, is_named = waiting.popleft()
        is_list = isinstance(holder, list)
        for name, one in list(enumerate(holder) if is_list else holder.items()):
            if not isinstance(one, str | dict | list):
                continue
            if is_list:
                at, place = path, (*key, one.get("index", name) if isinstance(one, dict) else name)
            else:
                at = path if path.rpartition(".")[2] == name else f"{path}.{name}".lstrip(".")
                place = ("block", number) if not key and name in ("content_block", "delta") else (*key, name)
            if not isinstance(one, str):
                holder[name] = one = one.copy()
                waiting.append((one, at, place, (*way, (holder, name)), is_named or at in _NAMED))
            elif not ((at in formal and _FORMAL.fullmatch(one)) or (at in _ENCODED and _is_encoded(holder, one))):
                yield _Place(place, holder, name, way, name in _SAID and not is_named)
        if is_named and not is_list:
            yield from [_Place((*key, name), holder, name, way, goes_on=False, is_name=True) for name in holder]


def _is_encoded(holder: Any, text: str) -> bool:
    """Whether it is no text, as its address or its holder says, and as it looks."""
    if text.startswith("data:"):
        kind, _, text = text[5:].partition(";base64,")
    elif isinstance(holder, dict) and holder.get("type") == "base64":
        kind = str(holder.get("media_type"))
    else:
        return False
    return kind.startswith(_MEDIA) and _FORMAL.fullmatch(text) is not None


async def _in_turn(places: Iterable[_Place]) -> AsyncIterator[_Place]:
    """The places; others run between some of them."""
    for at, place in enumerate(places):
        if at % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        yield place


def _ends(event: dict[str, Any], key: tuple[Any, ...]) -> bool:
    """Whether no more of this text comes after this frame."""
    if event.get("type") in ("message_delta", "message_stop"):
        return True
    if event.get("type") == "content_block_stop":
        return bool(key[:2] == ("block", event.get("index")))
    return any(
        key[:1] == ("choices",) and choice.get("finish_reason") and key[1] == choice.get("index", at)
        for at, choice in enumerate(event.get("choices") or ())
        if isinstance(choice, dict)
    )


def _object(data: bytes) -> dict[str, Any]:
    """What an event or a body says, also where it is no UTF-8. Raises: ValueError: it is no JSON object."""
    try:
        said = loads(data)
    except ValueError:
        said = loads(data.decode("utf-8", "replace").encode())
    if not isinstance(said, dict):
        raise ValueError("it is no JSON object")
    return said


def _without_tokens(event: dict[str, Any]) -> dict[str, Any]:
    """The same without what tells its text in another way."""
    for holder in (event, *(one for one in event.get("choices") or () if isinstance(one, dict))):
        for name in _TELLS_TOKENS:
            holder.pop(name, None)
    return event


def _written(before: bytes, event: dict[str, Any]) -> bytes:
    """The frame, with its event's name where it had one."""
    names = [line for line in before.splitlines() if line.startswith(b"event:")]
    return b"".join(name + b"\n" for name in names) + frame(dumps(event))


def _cut(piece: bytes) -> Iterator[bytes]:
    """The whole frames of a piece."""
    start = 0
    while start < len(piece):
        end = frame_end(piece, start, start)
        end = len(piece) if end < 0 else end
        yield piece[start:end]
        start = end
