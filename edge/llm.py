"""A small model that writes, in this process: transformers on the CPU, one answer at a time."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import FolderRefused

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be written.

    Attributes:
        temperature: 0: always the likeliest token.
    """

    messages: Messages
    max_tokens: int
    temperature: float = 0.0


class Writing:
    """One answer as it is written; iterate it once, in a thread of its own.

    Attributes:
        prompt_tokens, completion_tokens: so far.
        cut: it ended because it was allowed no more tokens, or the model's window was full.
    """

    def __init__(self, model: "LocalModel", wish: Wish) -> None:
        self._model = model
        self._wish = wish
        self._stopped = threading.Event()
        self.prompt_tokens = self.completion_tokens = 0
        self.cut = False

    def stop(self) -> None:
        """Write no more than the token that is being made."""
        self._stopped.set()

    def __iter__(self) -> Iterator[str]:
        """Pieces of text, a token or some at a time; white space between words comes with the later one."""
        ids = self._model.prompt(self._wish.messages)
        self.prompt_tokens = len(ids)
        made: list[int] = []
        shown = ""
        for token in self._model.tokens(ids, self._wish.temperature):
            if self._stopped.is_set() or token in self._model.ends:
                return
            made.append(token)
            self.completion_tokens = len(made)
            text = self._model.text(made)
            if not text.endswith("\ufffd"):  # a sign whose other bytes are still to come
                piece, shown = text[len(shown) :], text
                if piece:
                    yield piece
            if len(made) >= self._wish.max_tokens or len(ids) + len(made) >= self._model.window:
                self.cut = True
                return


class LocalModel:
    """A Hugging Face folder, loaded.

    Attributes:
        window: tokens that prompt and answer share.
        ends: tokens that end an answer.
    """

    def __init__(self, folder: Path) -> None:
        """Raises: FolderRefused."""
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import torch  # type: ignore[import-not-found]
        import transformers  # type: ignore[import-not-found]

        transformers.utils.logging.disable_progress_bar()
        self._torch = torch
        capability = torch.cpu.get_capabilities()
        fast = capability.get("amx_bf16") or capability.get("avx512_bf16")
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, dtype=torch.bfloat16 if fast else torch.float32, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise FolderRefused(f"{folder} is no model that writes: {error}", "export it with another --llm") from error
        if self._tokenizer.chat_template is None:
            raise FolderRefused(f"{folder} has no chat template", "export it with a model that was tuned to chat")
        self._model.eval()
        self.window = int(self._model.config.max_position_embeddings)
        named = self._model.generation_config.eos_token_id
        self.ends = frozenset([named] if isinstance(named, int) else named or [self._tokenizer.eos_token_id])

    def prompt(self, messages: Messages) -> list[int]:
        """The tokens of a chat, up to where the answer begins."""
        text = self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def text(self, tokens: Sequence[int]) -> str:
        decoded: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return decoded

    def tokens(self, ids: Sequence[int], temperature: float) -> Iterator[int]:
        """The model's tokens, one after the other, as many as are asked for."""
        torch, known = self._torch, None
        fed: Any = torch.tensor([list(ids)])
        while True:
            with torch.inference_mode():
                said = self._model(input_ids=fed, past_key_values=known, use_cache=True, logits_to_keep=1)
            known, logits = said.past_key_values, said.logits[0, -1].float()
            if temperature > 0:
                token = int(torch.multinomial(torch.softmax(logits / temperature, -1), 1))
            else:
                token = int(logits.argmax())
            yield token
            fed = torch.tensor([[token]])
