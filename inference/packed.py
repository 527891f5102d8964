"""BERT without padding, for a CPU: all texts of a batch stand behind each other in one matrix.

The library's own pass computes each text as long as the longest of its batch, asks for queries, keys and values in
three products, and copies what it could view: a single question takes twice as long. Only the plain encoder is known
here, behind which rows are made by the mean or by the first token; anything else is `Unfit`, and the library computes
it. Whoever loads a model holds this pass against the library's and keeps it only where it is as true and faster.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from inference.tokens import Tokenised

_ROWS = 512  # of a batch, for which oneDNN lays out weights
_FEW, _MANY = 16, 64  # tokens, of which a batch has a multiple
Product = Callable[[Any], Any]


class Unfit(Exception):
    """The model is none that is known here."""


class PackedBert:
    """One pass of a model of sentence-transformers.

    Args:
        model: it, in the number format that is to be computed in.

    Raises: Unfit.
    """

    def __init__(self, torch: Any, model: Any) -> None:
        self._torch = torch
        bert, self._pooling = _parts(model)
        self._embeddings = bert.embeddings
        self._no_type = bert.embeddings.token_type_embeddings.weight[0].detach()
        self._heads: int = bert.config.num_attention_heads
        self._layers = [self._layer(layer) for layer in bert.encoder.layer]

    def __call__(self, batch: Sequence[Tokenised]) -> Any:
        """Token vectors of all texts, one text behind the other. Returns: tensor[tokens, width]."""
        torch, of = self._torch, self._embeddings
        lengths = [len(work.ids) for work in batch]
        tokens = sum(lengths)
        # For each new shape oneDNN makes new code, and keeps it: few shapes are faster, and save a gigabyte.
        lengths += [1] * (-tokens % (_FEW if tokens <= 4 * _FEW else _MANY))
        ids = torch.tensor([*(token for work in batch for token in work.ids), *[0] * (sum(lengths) - tokens)])
        places = torch.cat([torch.arange(length) for length in lengths])
        x = of.LayerNorm(of.word_embeddings(ids) + of.position_embeddings(places) + self._no_type)
        runs = [(length, len(list(some))) for length, some in groupby(lengths)]
        for attend, both, close, widen, narrow, end in self._layers:
            x = close(both(self._attention(attend(x), runs), x))
            x = end(narrow(widen(x), x))
        return x[:tokens]

    def rows(self, batch: Sequence[Tokenised]) -> Any:
        """One row for each text, not normalised. Returns: float32 tensor[texts, width]."""
        torch = self._torch
        vectors = self(batch).float()
        parts = vectors.split([len(work.ids) for work in batch])
        return torch.stack([part.mean(0) if self._pooling == "mean" else part[0] for part in parts])

    def _attention(self, mixed: Any, runs: Sequence[tuple[int, int]]) -> Any:
        """Attention of texts that stand behind each other; those of one length are computed together.

        Args:
            mixed: tensor[tokens, 3 x width]: queries, keys and values.
            runs: length and number of texts that follow each other.
        """
        torch, heads, first, parts = self._torch, self._heads, 0, []
        for length, count in runs:
            tokens = length * count
            one = mixed[first : first + tokens].view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
            found = torch.nn.functional.scaled_dot_product_attention(one[0], one[1], one[2])
            parts.append(found.transpose(1, 2).reshape(tokens, -1))
            first += tokens
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _layer(self, layer: Any) -> tuple[Any, ...]:
        of, output = layer.attention.self, layer.attention.output
        parts = (of.query, of.key, of.value)
        weight = self._torch.cat([part.weight for part in parts])
        bias = self._torch.cat([part.bias for part in parts])
        return (
            self._product(weight, bias),
            self._product_and(output.dense.weight, output.dense.bias),
            output.LayerNorm,
            self._product(layer.intermediate.dense.weight, layer.intermediate.dense.bias, layer.intermediate),
            self._product_and(layer.output.dense.weight, layer.output.dense.bias),
            layer.output.LayerNorm,
        )

    def _product(self, weight: Any, bias: Any, intermediate: Any = None) -> Product:
        """x times weight and bias, and what a layer's `intermediate` makes of it.

        In bfloat16 the weight is laid out once for oneDNN, as torch's compiler does it, which does the rest in the same
        step: to read and write the widest matrix once more takes longer than to compute with it.
        """
        torch, weight, bias = self._torch, weight.detach().contiguous(), bias.detach()
        activate = (lambda x: x) if intermediate is None else intermediate.intermediate_act_fn
        if not self._lays_out(weight):
            return lambda x: activate(torch.nn.functional.linear(x, weight, bias))
        laid_out, multiply = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS), torch.ops.mkldnn._linear_pointwise
        if intermediate is None:
            return lambda x: multiply(x, laid_out, bias, "none", [], "")
        if _is_gelu(torch, activate):
            return lambda x: multiply(x, laid_out, bias, "gelu", [], "none")
        return lambda x: activate(multiply(x, laid_out, bias, "none", [], ""))

    def _product_and(self, weight: Any, bias: Any) -> Callable[[Any, Any], Any]:
        """x times weight and bias, and the sum of it and another matrix."""
        torch, weight, bias = self._torch, weight.detach().contiguous(), bias.detach()
        if not self._lays_out(weight):
            return lambda x, other: torch.nn.functional.linear(x, weight, bias) + other
        laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        multiply = torch.ops.mkldnn._linear_pointwise.binary
        return lambda x, other: multiply(x, other, laid_out, bias, "add")

    def _lays_out(self, weight: Any) -> bool:
        torch = self._torch
        return weight.dtype is torch.bfloat16 and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _is_gelu(torch: Any, activate: Any) -> bool:
    """Whether it is the exact GELU, by what it does: a model may name it in many ways."""
    probe = torch.linspace(-4, 4, 101)
    return bool(torch.allclose(activate(probe), torch.nn.functional.gelu(probe), atol=1e-6))


def _parts(model: Any) -> tuple[Any, str]:
    """The encoder and how its rows are made. Raises: Unfit."""
    names = [type(module).__name__ for module in model]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise Unfit(f"it is made of {', '.join(names)}")
    bert, pooling = model.transformers_model, model[1]
    if type(bert).__name__ != "BertModel" or getattr(bert.config, "is_decoder", False):
        raise Unfit(f"it is a {type(bert).__name__}")
    if getattr(bert.config, "position_embedding_type", "absolute") != "absolute":
        raise Unfit("its places are not absolute")
    if pooling.pooling_mode not in ("mean", "cls") or not pooling.include_prompt:
        raise Unfit(f"its rows are made by {pooling.pooling_mode}")
    return bert, pooling.pooling_mode
