"""The embedding model: texts to tokens, tokens to rows. Everything that touches torch is here."""

import copy
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.logs import logger

_log = logger(__name__)

MIN_COSINE = 0.999
"""A faster number format is kept only where its rows have at least this mean cosine to float32's."""

_SAMPLE = (
    "How do I create an index?",
    "The gateway listens on port 8080; every other port moves to the next free one when it is taken.",
    "Ein kurzer Satz in einer anderen Sprache, mit 42 Zahlen und Zeichen: §3, (a) und [b].",
    "def add(left: int, right: int) -> int:\n    return left + right\n",
    " ".join(["Documents are parsed to text, cut into chunks, embedded and indexed, and the catalog says so."] * 8),
)


@dataclass(frozen=True, slots=True)
class Tokenised:
    """One text as tokens.

    Attributes:
        ids: token ids with the model's special tokens, at most `max_tokens`.
        truncated: the text was longer and has been cut.
    """

    ids: list[int]
    truncated: bool


class Encoder:
    """A sentence-transformers model.

    Args:
        model: a local folder, or a name that is fetched from the hub.
        device: "auto", "cpu" or "cuda".
        dtype: "float32", "bfloat16", "float16", or "auto": the faster one that is true to float32.
        threads: CPU threads; 0 leaves torch's choice, which is every core the process may use.

    Attributes:
        dimensions: length of a row.
        max_tokens: longer texts are cut here.
        dtype: the number format in use.
    """

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto", threads: int = 0) -> None:
        local = Path(model).is_dir()
        if local:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read at import: a local folder never asks the network
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # vLLM's threads may share these cores: a thread of ours that waits must sleep, not spin.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import torch  # type: ignore[import-not-found]
        from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self._model: Any = SentenceTransformer(model, device=self._device, local_files_only=local)
        self._model.eval()
        self._tokenizer: Any = self._model.tokenizer
        self._prompt: str = self._model.prompts.get(self._model.default_prompt_name or "", "")
        self.dimensions: int = self._model.get_embedding_dimension()
        self.max_tokens: int = self._model.max_seq_length or self._tokenizer.model_max_length
        self.dtype = "float32"
        self._choose(dtype)

    def tokenise(self, texts: Sequence[str]) -> list[Tokenised]:
        """Cut texts into tokens; safe beside `embed` in another thread."""
        rows = self._tokenizer([self._prompt + text for text in texts], truncation=True, max_length=self.max_tokens)
        return [
            Tokenised(ids, bool(encoding.overflowing))
            for ids, encoding in zip(rows["input_ids"], rows.encodings, strict=True)
        ]

    def embed(self, batch: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """Compute one batch in one forward pass; blocks, so call it from the model's own thread.

        Returns: float32[len(batch), dimensions], rows L2-normalised.
        """
        torch = self._torch
        with torch.inference_mode():
            features = self._tokenizer.pad({"input_ids": [list(ids) for ids in batch]}, return_tensors="pt")
            out = self._model({name: tensor.to(self._device) for name, tensor in features.items()})
            rows = torch.nn.functional.normalize(out["sentence_embedding"].float(), p=2, dim=1)
            array: npt.NDArray[np.float32] = rows.cpu().numpy()
        return array

    def _choose(self, wanted: str) -> None:
        torch = self._torch
        if wanted != "auto":
            self._model.to(getattr(torch, wanted))
            self.dtype = wanted
            return
        candidate = self._fast_format()
        if candidate is None:
            return
        sample = [row.ids for row in self.tokenise(_SAMPLE)]
        true_rows, true_s = self._timed(sample)
        true_model = self._model
        self._model = copy.deepcopy(true_model).to(getattr(torch, candidate))
        rows, fast_s = self._timed(sample)
        cosine = float(np.mean(np.sum(rows * true_rows, axis=1)))
        if cosine >= MIN_COSINE and fast_s < true_s:
            self.dtype = candidate
        else:
            self._model = true_model
        _log.info(
            "number format measured",
            candidate=candidate,
            kept=self.dtype,
            cosine=round(cosine, 6),
            speedup=round(true_s / fast_s, 2),
        )

    def _fast_format(self) -> str | None:
        """What this hardware computes faster than float32, if anything."""
        if self._device == "cuda":
            return "float16"
        capability = self._torch.cpu.get_capabilities()
        return "bfloat16" if capability.get("amx_bf16") or capability.get("avx512_bf16") else None

    def _timed(self, sample: list[list[int]]) -> tuple[npt.NDArray[np.float32], float]:
        self.embed(sample)  # the first pass allocates
        started = time.perf_counter()
        rows = self.embed(sample)
        for _ in range(2):
            self.embed(sample)
        return rows, time.perf_counter() - started
