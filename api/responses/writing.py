"""What a model says, chunk by chunk, as the events of a response; nothing here waits for anything.

A response is a list of items: reasoning, messages made of parts, calls of functions. Each is added, grows by deltas and
is done; calls stay open until the end, since a model may write several of them in turns.
"""

from collections.abc import Mapping
from typing import Any

from api.answers.deltas import no_chunk
from api.conversations.items import Item
from api.responses.speech import Open, Part, PartKind, begun_item, logprobs_in, place_of, text_in
from core.ids import new_id
from router.transcript import reasoning_of

Event = dict[str, Any]

ENDS = ("response.completed", "response.incomplete", "response.failed")
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Writer:
    """Writes one response.

    Args:
        response: as it is when it begins; it grows, and is the whole one in the last event.
    """

    def __init__(self, response: dict[str, Any]) -> None:
        self.response = response
        self._number = 0
        self._output: list[Item | None] = []
        self._speech: Open | None = None
        self._calls: dict[int, Open] = {}
        self._finish_reason: str | None = None
        self._reasoning_frames = 0
        self._reasoning_tokens: int | None = None

    @property
    def output(self) -> list[Item]:
        """The items that are done."""
        return [item for item in self._output if item is not None]

    @property
    def was_cut(self) -> bool:
        """A limit has ended the answer, perhaps in the middle of a sentence."""
        return self._finish_reason in _CUT

    @property
    def reasoning_tokens(self) -> int:
        """As the upstream counted them; else the frames with reasoning, which are at most as many."""
        return self._reasoning_frames if self._reasoning_tokens is None else self._reasoning_tokens

    def begin(self) -> list[Event]:
        """The first events."""
        return [
            self._event(kind, response=dict(self.response)) for kind in ("response.created", "response.in_progress")
        ]

    def searched(self, item: Item) -> list[Event]:
        """The events of a search of documents, which has ended already."""
        index = self._add(item)
        begun = {**item, "status": "in_progress", "results": None}
        names = ("in_progress", "searching", *(("completed",) if item["status"] == "completed" else ()))
        return [
            self._event("response.output_item.added", output_index=index, item=begun),
            *(
                self._event(f"response.file_search_call.{name}", output_index=index, item_id=item["id"])
                for name in names
            ),
            self._done(index, item),
        ]

    def add(self, chunk: Mapping[str, Any]) -> list[Event]:
        """What one chunk of a chat says. Raises: StreamBroken: it is none."""
        try:
            self._note(chunk)
            choices = [choice for choice in chunk.get("choices") or () if choice.get("index", 0) == 0]
            return [event for choice in choices for event in self._hear(choice)]
        except (AttributeError, TypeError) as error:
            raise no_chunk() from error

    def ends_text(self, chunk: Mapping[str, Any]) -> bool:
        """Whether a chunk says something after which the text that is being said does not go on."""
        said = chunk.get("choices")
        choices = [choice for choice in said if isinstance(choice, dict)] if isinstance(said, list) else []
        deltas = [delta for choice in choices if isinstance(delta := choice.get("delta"), dict)]
        return any(delta.get("tool_calls") or delta.get("refusal") or reasoning_of(delta) for delta in deltas)

    def annotate(self, annotation: Mapping[str, Any]) -> list[Event]:
        """Put an annotation to the text that is being said; nothing where none is."""
        speech = self._speech
        if speech is None or speech.part is None or speech.part.kind != "output_text":
            return []
        part = speech.part
        part.annotations.append(annotation)
        return [
            self._event(
                "response.output_text.annotation.added",
                **place_of(speech, part),
                annotation_index=len(part.annotations) - 1,
                annotation=annotation,
            )
        ]

    def close(self) -> list[Event]:
        """The model has said everything: what is open is done."""
        cut = self.was_cut
        events = []
        if self._speech is None and not self._calls and not any(self._spoke()):
            events += self._say("output_text", "", None)  # an answer without a word is a message, too
        order: list[Open] = [*([self._speech] if self._speech else []), *self._calls.values()]
        last = max(order, key=lambda one: one.index, default=None)
        for one in sorted(order, key=lambda one: one.index):
            status = "incomplete" if cut and one is last else "completed"
            events += self._close_speech(status) if one is self._speech else self._close_call(one, status)
        self._calls = {}
        return events

    def end(self, usage: Mapping[str, Any], ended_at: int) -> Event:
        """The last event of an answer that is whole, or that a limit has cut."""
        reason = _CUT.get(self._finish_reason or "")
        ending: dict[str, Any] = {"status": "completed", "completed_at": ended_at}
        if reason is not None:
            ending = {"status": "incomplete", "incomplete_details": {"reason": reason}}
        self.response |= {**ending, "output": self.output, "usage": dict(usage)}
        return self._event(f"response.{ending['status']}", response=dict(self.response))

    def fail(self, code: str, message: str, usage: Mapping[str, Any]) -> list[Event]:
        """The last events of an answer that broke; what was said so far stands in it as incomplete."""
        broken = [*([self._speech] if self._speech else []), *self._calls.values()]
        for one in broken:
            self._output[one.index] = one.shown("incomplete")
        error = {"code": "rate_limit_exceeded" if code == "rate_limit_exceeded" else "server_error", "message": message}
        self.response |= {"status": "failed", "error": error, "output": self.output, "usage": dict(usage)}
        return [
            self._event("error", code=code, message=message, param=None),
            self._event("response.failed", response=dict(self.response)),
        ]

    def _event(self, kind: str, **fields: Any) -> Event:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return event

    def _add(self, item: Item | None) -> int:
        self._output.append(item)
        return len(self._output) - 1

    def _done(self, index: int, item: Item) -> Event:
        self._output[index] = item
        return self._event("response.output_item.done", output_index=index, item=item)

    def _spoke(self) -> list[Item]:
        return [item for item in self.output if item["type"] in ("message", "function_call")]

    def _note(self, chunk: Mapping[str, Any]) -> None:
        usage = chunk.get("usage")
        details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
        tokens = details.get("reasoning_tokens") if isinstance(details, dict) else None
        if isinstance(tokens, int):
            self._reasoning_tokens = tokens
        if isinstance(chunk.get("service_tier"), str):
            self.response["service_tier"] = chunk["service_tier"]

    def _hear(self, choice: Mapping[str, Any]) -> list[Event]:
        delta = choice.get("delta") or {}
        events: list[Event] = []
        if reasoning := text_in(reasoning_of(delta)):
            self._reasoning_frames += 1
            events += self._say("reasoning_text", reasoning, None)
        if refusal := text_in(delta.get("refusal")):
            events += self._say("refusal", refusal, None)
        if content := text_in(delta.get("content")):
            events += self._say("output_text", content, choice.get("logprobs"))
        for call in delta.get("tool_calls") or ():
            events += self._call(call)
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        return events

    def _say(self, kind: PartKind, text: str, logprobs: object) -> list[Event]:
        events: list[Event] = []
        speech = self._speech
        item_kind = "reasoning" if kind == "reasoning_text" else "message"
        if speech is not None and speech.item["type"] != item_kind:
            events += self._close_speech("completed")
            speech = None
        if speech is None:
            speech = self._speech = Open(begun_item(item_kind), self._add(None))
            shown = {**speech.item, "status": "in_progress"}
            events.append(self._event("response.output_item.added", output_index=speech.index, item=shown))
        if speech.part is not None and speech.part.kind != kind:
            events += self._close_part(speech)
        part = speech.part
        if part is None:
            part = speech.part = Part(kind, len(speech.item["content"]))
            place = place_of(speech, part)
            events.append(self._event("response.content_part.added", **place, part=part.shown()))
        if text:
            part.texts.append(text)
            tokens = logprobs_in(logprobs)
            part.logprobs += tokens
            more = {"logprobs": tokens} if kind == "output_text" else {}
            events.append(self._event(f"response.{kind}.delta", **place_of(speech, part), delta=text, **more))
        return events

    def _close_part(self, speech: Open) -> list[Event]:
        part = speech.part
        if part is None:
            return []
        shown, place = part.shown(), place_of(speech, part)
        speech.part = None
        speech.item = {**speech.item, "content": [*speech.item["content"], shown]}
        said = {name: value for name, value in shown.items() if name in ("text", "refusal", "logprobs")}
        return [
            self._event(f"response.{part.kind}.done", **place, **said),
            self._event("response.content_part.done", **place, part=shown),
        ]

    def _close_speech(self, status: str) -> list[Event]:
        speech, self._speech = self._speech, None
        if speech is None:
            return []
        events = self._close_part(speech)
        return [*events, self._done(speech.index, {**speech.item, "status": status})]

    def _call(self, call: Mapping[str, Any]) -> list[Event]:
        events: list[Event] = []
        function = call.get("function") or {}
        at = call.get("index", 0)
        one = self._calls.get(at)
        if one is None:
            events += self._close_speech("completed")
            item = {
                "id": new_id("fc"),
                "type": "function_call",
                "call_id": text_in(call.get("id")) or new_id("call"),
                "name": text_in(function.get("name")),
                "arguments": "",
            }
            one = self._calls[at] = Open(item, self._add(None))
            shown = {**item, "status": "in_progress"}
            events.append(self._event("response.output_item.added", output_index=one.index, item=shown))
        elif name := text_in(function.get("name")):
            one.item = {**one.item, "name": one.item["name"] + name}
        if arguments := text_in(function.get("arguments")):
            one.arguments.append(arguments)
            events.append(
                self._event(
                    "response.function_call_arguments.delta",
                    item_id=one.item["id"],
                    output_index=one.index,
                    delta=arguments,
                )
            )
        return events

    def _close_call(self, one: Open, status: str) -> list[Event]:
        item = one.shown(status)
        done = self._event(
            "response.function_call_arguments.done",
            item_id=item["id"],
            output_index=one.index,
            name=item["name"],
            arguments=item["arguments"],
        )
        return [done, self._done(one.index, item)]
