"""A model in torch: where it lies, which number format it is computed in, and one pass over a batch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.tokens import Tokenised, Tokeniser

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a model is computed.

    Attributes:
        device: "auto", "cpu" or "cuda".
        dtype: "float32", "bfloat16", "float16", or "auto": the faster one that is true to float32.
        threads: CPU threads; 0 leaves torch's choice, which is every core the process may use.
    """

    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0


_MOST_LANES = 4


class Loaded:
    """A model of sentence-transformers in torch, with its tokenizer.

    Attributes:
        tokeniser: of the model.
        max_tokens: that the model takes of one text, special ones included.
        dtype: the number format in use.
        device: "cpu" or "cuda".
    """

    def __init__(self, kind: str, model: str, placement: Placement) -> None:
        local = Path(model).is_dir()
        if local:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read at import: a local folder never asks the network
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # vLLM's threads may share these cores: a thread of ours that waits must sleep, not spin.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import sentence_transformers  # type: ignore[import-not-found]
        import torch  # type: ignore[import-not-found]

        if placement.threads:
            torch.set_num_threads(placement.threads)
        self._torch = torch
        self._cores: int = torch.get_num_threads()
        asked = placement.device
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked
        self._model: Any = getattr(sentence_transformers, kind)(model, device=self.device, local_files_only=local)
        self._model.eval()
        tokenizer = self._model.tokenizer
        self._pad: int = tokenizer.pad_token_id or 0
        self._left: bool = tokenizer.padding_side == "left"
        self.max_tokens: int = self._model.max_seq_length or tokenizer.model_max_length
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(f"{model} has no fast tokenizer (tokenizer.json): choose a model that has one")
        backend.no_truncation()
        backend.no_padding()
        self.tokeniser = Tokeniser(backend, self.max_tokens)
        self.dtype = "float32"

    def forward(self, batch: Sequence[Tokenised]) -> Any:
        """One pass over a batch. Returns: what the model says of it, as tensors by name."""
        torch = self._torch
        longest = max(len(work.ids) for work in batch)
        ids = np.full((len(batch), longest), self._pad, dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        typed = batch[0].types is not None
        types = np.zeros_like(mask) if typed else None
        for row, work in enumerate(batch):
            place = slice(longest - len(work.ids), longest) if self._left else slice(0, len(work.ids))
            ids[row, place] = work.ids
            mask[row, place] = 1
            if types is not None:
                types[row, place] = work.types or 0
        arrays = {"input_ids": ids, "attention_mask": mask, **({"token_type_ids": types} if typed else {})}
        return self._model({name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()})

    def lanes(self) -> int:
        """How many passes at once compute the most: on a CPU, threads of one pass wait for each other in every step."""
        return 1 if self.device == "cuda" else min(_MOST_LANES, self._cores)

    def enter_lane(self, lanes: int) -> None:
        """Have the calling thread compute with its part of the cores."""
        if lanes > 1:
            self._torch.set_num_threads(max(1, self._cores // lanes))

    def use(self, dtype: str) -> None:
        """Compute in this number format from now on."""
        self._model.to(getattr(self._torch, dtype))
        self.dtype = dtype

    def fast_format(self) -> str | None:
        """What this hardware computes faster than float32, if anything."""
        if self.device == "cuda":
            return "float16"
        capability = self._torch.cpu.get_capabilities()
        return "bfloat16" if capability.get("amx_bf16") or capability.get("avx512_bf16") else None
