"""Embedding models: tokens to rows, or to vectors of their tokens."""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inference.loaded import Loaded, Matrix, Placement
from inference.packed import PackedBert, Unfit
from inference.tokens import Cut, Tokenised
from monitoring.logs import logger

_log = logger(__name__)

MIN_COSINE = 0.999
"""A number format or a pass is kept only where its rows have at least this mean cosine to those of the library in
float32.
"""
_TRIES = 5
_HOPELESS = 1.5  # times the best

_SAMPLE = (
    "How do I create an index?",
    "The gateway listens on port 8080; every other port moves to the next free one when it is taken.",
    "Ein kurzer Satz in einer anderen Sprache, mit 42 Zahlen und Zeichen: §3, (a) und [b].",
    "def add(left: int, right: int) -> int:\n    return left + right\n",
    " ".join(["Documents are parsed to text, cut into chunks, embedded and indexed, and the catalog says so."] * 8),
)


class Encoder(Loaded):
    """An embedding model.

    Args:
        model: a local folder, or a name that is fetched from the hub.

    Attributes:
        dimensions: length of a row.
        shorter: lengths to which a row may be cut, because the model was trained for it; empty: to none.
        prompts: by what a text is for (`query`, `document`), what the model wants before it.
    """

    def __init__(self, model: str, placement: Placement) -> None:
        super().__init__("SentenceTransformer", model, placement)
        self.dimensions: int = self._model.get_embedding_dimension()
        self.shorter = _matryoshka(self._model, self.dimensions)
        self.prompts = _prompts(self._model.prompts, self._model.default_prompt_name)
        self._packed: PackedBert | None = None
        self._choose(placement.dtype, self.tokeniser.texts(_SAMPLE, cut=Cut.END))

    def compute(self, batch: Sequence[Tokenised]) -> Matrix:
        """Compute one batch in one forward pass; blocks, so call it from the model's own thread.

        Returns: float32[len(batch), dimensions], rows L2-normalised.
        """
        with self._torch.inference_mode():
            rows = self.forward(batch)["sentence_embedding"] if self._packed is None else self._packed.rows(batch)
            return self._normal(rows)

    def vectors(self, batch: Sequence[Tokenised]) -> list[Matrix]:
        """Token vectors of each text of a batch, special tokens included.

        Returns: for each text float32[tokens, width], rows L2-normalised.
        """
        lengths = [len(work.ids) for work in batch]
        with self._torch.inference_mode():
            if self._packed is not None:
                return np.split(self._normal(self._packed(batch)), np.cumsum(lengths)[:-1])
            padded = self._normal(self.forward(batch)["token_embeddings"])
        return [
            row[len(row) - length :] if self._left else row[:length]
            for row, length in zip(padded, lengths, strict=True)
        ]

    def _normal(self, vectors: Any) -> Matrix:
        found: Matrix = self._torch.nn.functional.normalize(vectors.float(), p=2, dim=-1).cpu().numpy()
        return found

    def _choose(self, wanted: str, sample: Sequence[Tokenised]) -> None:
        """Take the fastest of all number formats and passes that are as true as the library's in float32."""
        true_rows = self.compute(sample)
        plain = self._model
        fast = self.fast_format()
        formats = [wanted] if wanted != "auto" else [*([fast] if fast else []), "float32"]
        best_s, kept, measured = math.inf, wanted, {}
        for dtype in formats:
            model = copy.deepcopy(plain).to(getattr(self._torch, dtype))
            for way in (*self._ways(model), None):  # the fastest first, as a rule: the others are soon given up
                old = self._model, self._packed, self.dtype
                self._model, self._packed, self.dtype = model, way, dtype
                cosine = mean_cosine(self.compute(sample), true_rows)  # the first pass also allocates
                seconds = self._least_s(sample, best_s)
                name = f"{dtype} packed" if way else dtype
                measured[name] = f"{seconds * 1e3:.1f} ms, cosine {cosine:.5f}"
                true = cosine >= MIN_COSINE or (wanted != "auto" and way is None)
                if true and seconds < best_s:
                    best_s, kept = seconds, name
                else:
                    self._model, self._packed, self.dtype = old
        _log.info("number formats measured", kept=kept, measured=measured)

    def _ways(self, model: Any) -> list[PackedBert]:
        """Our own passes over a model, beside the library's."""
        if self.device != "cpu":
            return []
        try:
            return [PackedBert(self._torch, model)]
        except Unfit as reason:
            _log.info("the library's own pass is used", reason=str(reason))
            return []

    def _least_s(self, sample: Sequence[Tokenised], best_s: float) -> float:
        """The least seconds that all of a sample, and one text of it, take in several tries.

        Args:
            best_s: of another way; one that takes far longer is tried once.
        """
        first_s = self._seconds(sample)
        if first_s > _HOPELESS * best_s:
            return first_s
        whole_s = min(first_s, *(self._seconds(sample) for _ in range(_TRIES - 1)))
        return whole_s + min(self._seconds(sample[:1]) for _ in range(_TRIES))

    def _seconds(self, part: Sequence[Tokenised]) -> float:
        """What a pass takes: of the processor, where it is one that computes, since others may be using it, too."""
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        started_s = clock()
        self.compute(part)
        return clock() - started_s


def mean_cosine(rows: Matrix, true_rows: Matrix) -> float:
    """How near normalised rows are to what they should be: 1 where they are equal."""
    return float(np.mean(np.sum(rows * true_rows, axis=1)))


def _prompts(named: Mapping[str, str], default: str | None) -> dict[str, str]:
    """Prompts by what a text is for; the model's default one where none is named for that."""
    plain = named.get(default or "", "")
    query = named.get("query") or plain
    document = next((named[name] for name in ("document", "passage", "corpus") if named.get(name)), plain)
    return {"": plain, "query": query, "document": document}


def _matryoshka(model: Any, dimensions: int) -> frozenset[int]:
    """Lengths that the model's own configuration names.

    Source: `matryoshka_dimensions` and `is_matryoshka`, as vLLM reads them too.
    """
    config = getattr(model, "config", None)
    named = getattr(config, "matryoshka_dimensions", None)
    if named:
        return frozenset(int(one) for one in named if int(one) <= dimensions)
    return frozenset(range(1, dimensions + 1)) if getattr(config, "is_matryoshka", False) else frozenset()
