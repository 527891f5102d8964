"""What a stream has said so far, read from its frames when somebody has to go on where it broke."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from router.events import DONE, data_of

_HEAD = ("id", "object", "created", "model", "system_fingerprint", "service_tier")


@dataclass(slots=True)
class ToolCall:
    """A call of a tool, as far as it was written."""

    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Said:
    """A stream of one choice, in OpenAI's form of chat or text completion.

    Attributes:
        head: what every chunk repeats: id, object, created, model.
        text, reasoning, tools: what was said on each channel; tools by index.
        prompt_ids: the prompt as token ids, where the engine named them.
        ids: the tokens of `text`; None where the engine did not name all of them.
        held_ids: those after them whose text is still held back (half a character, the beginning of a stop word):
            whoever goes on says them anew; held_frames: as many frames, where their ids are unknown.
        tokens: how many were said; frames with content where ids are unknown, which are at most as many.
        finish_reason: set when nothing but usage and end is missing.
        strange: it holds what nobody but its own engine could go on with, such as several choices or audio.
    """

    head: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    reasoning: str = ""
    tools: dict[int, ToolCall] = field(default_factory=dict)
    prompt_ids: list[int] | None = None
    ids: list[int] | None = field(default_factory=list)
    held_ids: list[int] = field(default_factory=list)
    held_frames: int = 0
    tokens: int = 0
    finish_reason: str | None = None
    strange: bool = False

    @classmethod
    def read(cls, frames: Iterable[bytes]) -> "Said":
        """Read whole frames; what is no chunk is passed over, for the scanner has let it pass, too."""
        said = cls()
        for frame in frames:
            data = data_of(frame)
            if data and data != DONE:
                try:
                    said.add(orjson.loads(data))
                except orjson.JSONDecodeError:  # such as half of a sign: nobody can go on behind it
                    said.strange = True
        return said

    @property
    def plain(self) -> bool:
        """It is text and nothing else."""
        return not (self.reasoning or self.tools or self.strange)

    def add(self, chunk: dict[str, Any]) -> None:
        """Take in one more chunk."""
        if not self.head:
            self.head = {name: chunk[name] for name in _HEAD if name in chunk}
        self._note_prompt(chunk)
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) != 0:
                self.strange = True
                continue
            self._note_prompt(choice)
            text = self._say(choice)
            self._count(choice, text)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def _note_prompt(self, holder: dict[str, Any]) -> None:
        """Chat has the prompt's ids in its first chunk, a text completion in its first choice."""
        if isinstance(ids := holder.get("prompt_token_ids"), list):
            self.prompt_ids = ids

    def _say(self, choice: dict[str, Any]) -> bool:
        """Returns: whether something was said."""
        delta = choice.get("delta")
        if delta is None:
            text = choice.get("text") or ""
            self.text += text
            return bool(text)
        content, reasoning = delta.get("content") or "", reasoning_of(delta)
        self.text += content
        self.reasoning += reasoning
        calls = delta.get("tool_calls") or ()
        for call in calls:
            tool = self.tools.setdefault(call.get("index", 0), ToolCall())
            function = call.get("function") or {}
            tool.name += function.get("name") or ""
            tool.arguments += function.get("arguments") or ""
        if delta.get("refusal") or delta.get("audio") or delta.get("function_call"):
            self.strange = True
        return bool(content or reasoning or calls)

    def _count(self, choice: dict[str, Any], spoke: bool) -> None:
        ids = choice.get("token_ids")
        if not isinstance(ids, list):
            if spoke:
                self.ids = None
                self.tokens += 1 + self.held_frames
                self.held_frames = 0
            elif not is_role_frame(choice) and (choice.get("delta") or choice).get("content", choice.get("text")) == "":
                self.held_frames += 1
            return
        self.held_ids += ids
        if spoke:
            if self.ids is not None:
                self.ids += self.held_ids
            self.tokens += len(self.held_ids)
            self.held_ids = []


def is_role_frame(choice: dict[str, Any]) -> bool:
    """The first of a chat's stream, which names the role and stands for no token."""
    return "role" in (choice.get("delta") or {}) and not choice.get("token_ids")


def reasoning_of(delta: dict[str, Any]) -> str:
    """A delta's reasoning, by either of its names."""
    return delta.get("reasoning") or delta.get("reasoning_content") or ""
