"""Items of a response while they are being said, and what a chunk of a chat says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from api.conversations.items import Item
from core.ids import new_id

PartKind = Literal["output_text", "refusal", "reasoning_text"]


@dataclass(slots=True)
class Part:
    """A part that is being said."""

    kind: PartKind
    index: int
    texts: list[str] = field(default_factory=list)
    annotations: list[Mapping[str, Any]] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        text = "".join(self.texts)
        if self.kind == "output_text":
            more = {"annotations": list(self.annotations), "logprobs": list(self.logprobs)}
            return {"type": self.kind, "text": text, **more}
        return {"type": self.kind, "refusal" if self.kind == "refusal" else "text": text}


@dataclass(slots=True)
class Open:
    """An item that is being said."""

    item: Item
    index: int
    part: Part | None = None
    arguments: list[str] = field(default_factory=list)

    def shown(self, status: str) -> Item:
        """As far as it was said."""
        if self.item["type"] == "function_call":
            return {**self.item, "arguments": "".join(self.arguments), "status": status}
        parts = [] if self.part is None else [self.part.shown()]
        return {**self.item, "content": [*self.item["content"], *parts], "status": status}


def begun_item(kind: str) -> Item:
    if kind == "reasoning":
        return {"id": new_id("rs"), "type": "reasoning", "summary": [], "content": [], "encrypted_content": None}
    return {"id": new_id("msg"), "type": "message", "role": "assistant", "content": []}


def place_of(speech: Open, part: Part) -> dict[str, Any]:
    return {"item_id": speech.item["id"], "output_index": speech.index, "content_index": part.index}


def text_in(value: object) -> str:
    return value if isinstance(value, str) else ""


def logprobs_in(raw: object) -> Sequence[Any]:
    content = raw.get("content") if isinstance(raw, dict) else None
    return content if isinstance(content, list) else []
