"""Embedding models: tokens to rows, or to vectors of their tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from inference.loaded import Loaded, Matrix, Placement
from inference.tokens import Cut, Tokenised

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
        self.choose(placement.dtype, self.tokeniser.texts(_SAMPLE, cut=Cut.END))

    def compute(self, batch: Sequence[Tokenised]) -> Matrix:
        """Compute one batch in one forward pass; blocks, so call it from the model's own thread.

        Returns: float32[len(batch), dimensions], rows L2-normalised.
        """
        torch = self._torch
        with torch.inference_mode():
            out = self.forward(batch)
            rows: Matrix = torch.nn.functional.normalize(out["sentence_embedding"].float(), p=2, dim=1).cpu().numpy()
        return rows

    def vectors(self, batch: Sequence[Tokenised]) -> list[Matrix]:
        """Token vectors of each text of a batch, special tokens included.

        Returns: for each text float32[tokens, width], rows L2-normalised.
        """
        torch = self._torch
        with torch.inference_mode():
            out = self.forward(batch)
            vectors = torch.nn.functional.normalize(out["token_embeddings"].float(), p=2, dim=2).cpu().numpy()
        return [
            row[len(row) - len(work.ids) :] if self._left else row[: len(work.ids)]
            for row, work in zip(vectors, batch, strict=True)
        ]


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
