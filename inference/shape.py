"""What a model's config.json says about the memory that it needs. Standard library only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "int8": 1.0, "mxfp4": 0.53125, "nvfp4": 0.5625}
"""Bytes of one number; the two 4-bit formats with their scales (8 bits for each 32 and each 16 numbers)."""
_STATE_BYTES = 4
"""Bytes of one number in the state of a layer with linear attention."""
_NESTED = ("text_config", "llm_config", "language_config")


class ShapeUnknown(ValueError):
    """The config lacks what the arithmetic needs; the message names it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that count.

    Attributes:
        layers: all of them.
        cached_layers: those that keep something of every token.
        kv_heads: heads of keys and values; grouped-query attention has fewer of them than attention heads.
        attention_heads: must be divisible by the number of GPUs that share a layer.
        head_dim: numbers in one head's key, and in its value.
        latent: numbers that multi-head latent attention keeps instead, for all heads together; 0: it is not used.
        state_numbers: numbers that layers with linear attention keep of one sequence, however long it is.
        window: tokens that the model was made for.
        dtype: number format of its files.
        quantised: whether the files hold quantised weights, whose sizes don't follow from `dtype`.
        notes: what the arithmetic leaves out.
    """

    layers: int
    cached_layers: int
    kv_heads: int
    attention_heads: int
    head_dim: int
    latent: int
    state_numbers: int
    window: int | None
    dtype: str
    quantised: bool
    notes: tuple[str, ...]

    def kv_bytes_per_token(self, kv_dtype: str, tensor_parallel: int = 1, pipeline_parallel: int = 1) -> float:
        """Bytes of cache that one token takes on each GPU.

        Heads are shared out among the GPUs, one at least to each; a latent is kept whole by all of them.
        """
        layers = _share(self.cached_layers, pipeline_parallel)
        if self.latent:
            return layers * self.latent * bytes_of(kv_dtype)
        heads = max(1, self.kv_heads // tensor_parallel)
        return layers * 2 * heads * self.head_dim * bytes_of(kv_dtype)

    def state_bytes(self, tensor_parallel: int = 1, pipeline_parallel: int = 1) -> float:
        """Bytes that one sequence takes on each GPU beside those of its tokens."""
        return self.state_numbers * _STATE_BYTES / tensor_parallel / pipeline_parallel


def bytes_of(dtype: str) -> float:
    """Bytes of one number. Raises: ShapeUnknown: a format that is not known here."""
    found = _BYTES.get("fp8" if dtype.startswith("fp8") else dtype)
    if found is None:
        raise ShapeUnknown(f"the number format {dtype} is not known here")
    return found


def weight_bytes(parameters: float, number_format: str) -> int:
    """Bytes of weights that are all in one format; embeddings, which stay larger, are not told apart."""
    return round(parameters * bytes_of(number_format))


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Read a config.json. Raises: ShapeUnknown: a size is missing, so the model is of a kind not known here."""
    text = next((config[name] for name in _NESTED if isinstance(config.get(name), Mapping)), config)
    layers, attention_heads = _number(text, "num_hidden_layers"), _number(text, "num_attention_heads")
    latent = text.get("kv_lora_rank") or 0
    rope = text.get("qk_rope_head_dim") or 0
    head_dim = text.get("head_dim") or (0 if latent else _number(text, "hidden_size") // attention_heads)
    cached, linear, notes = _kinds(text, layers)
    state = linear * _state_of_a_layer(text)
    if linear and not state:
        notes.append("the fixed memory of its linear layers is not counted")
    window = text.get("max_position_embeddings")
    return Shape(
        layers=layers,
        cached_layers=cached,
        kv_heads=text.get("num_key_value_heads") or attention_heads,
        attention_heads=attention_heads,
        head_dim=head_dim,
        latent=latent + rope if latent else 0,
        state_numbers=state,
        window=window if isinstance(window, int) else None,
        dtype=_dtype(text, config),
        quantised=bool(config.get("quantization_config") or text.get("quantization_config")),
        notes=tuple(notes),
    )


def read_folder(folder: Path) -> tuple[Shape, int]:
    """A local model's shape, and the bytes of its weight files.

    Raises: ShapeUnknown: it has no config.json, no weights, or is of a kind not known here.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ShapeUnknown(f"{folder / 'config.json'} can't be read: {error}") from error
    if not isinstance(config, dict):
        raise ShapeUnknown(f"{folder / 'config.json'} holds no object")
    for pattern in ("model*.safetensors", "*.safetensors", "*.bin"):  # some folders hold the weights twice
        if size := sum(file.stat().st_size for file in folder.glob(pattern)):
            return shape_of(config), size
    raise ShapeUnknown(f"{folder} holds no weights (*.safetensors)")


def _kinds(text: Mapping[str, Any], layers: int) -> tuple[int, int, list[str]]:
    """Returns: layers that keep every token, layers with a fixed state, notes."""
    kinds = text.get("layer_types")
    interval = text.get("full_attention_interval")
    if isinstance(kinds, list) and kinds:
        cached = sum(str(kind).endswith("attention") and kind != "linear_attention" for kind in kinds)
        slides = any("sliding" in str(kind) or "chunked" in str(kind) for kind in kinds)
    elif isinstance(interval, int) and interval > 0:
        cached, slides = layers // interval, False
    else:
        cached, slides = layers, bool(text.get("sliding_window")) and text.get("use_sliding_window") is not False
    linear = (len(kinds) if isinstance(kinds, list) and kinds else layers) - cached
    note = "its sliding windows are counted as whole ones: it needs less than said here"
    return cached, linear, [note] if slides else []


def _state_of_a_layer(text: Mapping[str, Any]) -> int:
    """Numbers that a layer of Gated DeltaNet keeps of a sequence: a matrix for each head, and its convolution."""
    names = "linear_num_value_heads linear_num_key_heads linear_key_head_dim linear_value_head_dim".split()
    values = [text.get(name) for name in names]
    if not all(isinstance(value, int) for value in values):
        return 0
    value_heads, key_heads, key_dim, value_dim = (int(value) for value in values if value is not None)
    channels = 2 * key_heads * key_dim + value_heads * value_dim
    return value_heads * key_dim * value_dim + channels * max(0, int(text.get("linear_conv_kernel_dim") or 4) - 1)


def _dtype(*configs: Mapping[str, Any]) -> str:
    found = (config.get(name) for config in configs for name in ("dtype", "torch_dtype"))
    return str(next((name for name in found if name), "bfloat16")).removeprefix("torch.")


def _number(text: Mapping[str, Any], name: str) -> int:
    value = text.get(name)
    if not isinstance(value, int) or value < 1:
        raise ShapeUnknown(f"the config says nothing of {name}")
    return value


def _share(count: int, parts: int) -> int:
    """The largest part."""
    return -(-count // parts)
