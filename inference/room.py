"""What fits: weights, cache and allowance against the memory that there is. Pure arithmetic, standard library only."""

from dataclasses import dataclass, replace
from enum import StrEnum

from inference.shape import Shape, ShapeUnknown, bytes_of, weight_bytes

GPU_SHARE = 0.92
"""Of a GPU's memory, what vLLM 0.32 takes where nobody says otherwise (`gpu_memory_utilization`)."""
LEAST_WINDOW = 2048
"""Tokens: with less, a model does not serve."""
_GPU_ALLOWANCE = 1_500_000_000
_GPU_ALLOWANCE_SHARE = 0.03
"""CUDA's context, graphs, activations and logits: an allowance, not measured; larger GPUs compute larger steps."""
_CPU_ALLOWANCE = 2_300_000_000
"""vLLM's CPU build beside weights and cache: 3.6 GB were measured with 0.27 GB of weights and 1 GiB of cache."""
_SPLITS = (2, 4, 8)


class Verdict(StrEnum):
    """Whether it fits."""

    FITS = "fits"
    SHORTER = "fits with a shorter window"
    NO = "does not fit"


_SERVES = (Verdict.FITS, Verdict.SHORTER)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the model is to run.

    Attributes:
        memory_bytes: of the smallest GPU, all of it; on a CPU what is available.
        gpus: how many there are; 0: a CPU.
        share: of each GPU's memory, what vLLM may take.
        kv_bytes: the size of the cache on a CPU, which is set; on GPUs it is what is left.
    """

    memory_bytes: int
    gpus: int
    share: float = GPU_SHARE
    kv_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Model:
    """What is to run.

    Attributes:
        weights: bytes as they are loaded, of all GPUs together.
        kv_dtype: number format of the cache.
        window: tokens of prompt and answer that are wanted.
    """

    name: str
    weights: int
    shape: Shape
    kv_dtype: str
    window: int


@dataclass(frozen=True, slots=True)
class Split:
    """GPUs that share each layer, and groups of GPUs that each have a part of the layers."""

    tensor: int = 1
    pipeline: int = 1

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline


@dataclass(frozen=True, slots=True)
class Fit:
    """The outcome.

    Attributes:
        kv_bytes: left for the cache on each GPU; below zero where not even the weights fit.
        tokens: of one sequence that the cache holds.
        window: tokens that can be served, at most those wanted.
        sequences: of the whole window, at once.
        remedy: what to do where it does not fit as wanted.
        arithmetic: how it came about, line by line.
    """

    verdict: Verdict
    kv_bytes: int
    tokens: int
    window: int
    sequences: float
    remedy: str
    arithmetic: tuple[str, ...]


def loaded_bytes(shape: Shape, file_bytes: int, dtype: str, quantization: str | None = None) -> int:
    """Bytes of weights once loaded: those of the files, changed by the ratio of the number formats.

    Args:
        dtype: the number format to be served in.
        quantization: to be made while loading, such as fp8; another way of saying what the files hold changes nothing.
    """
    if shape.quantised:
        return file_bytes
    parameters = file_bytes / bytes_of(shape.dtype)
    try:
        return weight_bytes(parameters, quantization or dtype)
    except ShapeUnknown:
        return weight_bytes(parameters, dtype)


def fit(model: Model, machine: Machine, split: Split | None = None) -> Fit:
    """Whether a model fits, with the arithmetic."""
    split = split or Split()
    verdict, tokens = _verdict(model, machine, split)
    allowance, kv_bytes = _left(model, machine, split)
    window = min(model.window, tokens)
    taken = window * _per_token(model, split) + model.shape.state_bytes(split.tensor, split.pipeline)
    return Fit(
        verdict,
        int(kv_bytes),
        tokens,
        window,
        round(kv_bytes / taken, 1) if window else 0.0,
        _remedy(verdict, model, machine, split, window),
        _arithmetic(model, machine, split, allowance, kv_bytes),
    )


def _verdict(model: Model, machine: Machine, split: Split) -> tuple[Verdict, int]:
    """Returns: the verdict, and the tokens of one sequence that the cache holds."""
    kv_bytes = _left(model, machine, split)[1] - model.shape.state_bytes(split.tensor, split.pipeline)
    per_token = _per_token(model, split)
    if kv_bytes < 0 or (machine.gpus and not _can_split(model, machine, split)):
        return Verdict.NO, 0
    tokens = int(kv_bytes / per_token) if per_token else model.window
    if tokens >= model.window:
        return Verdict.FITS, tokens
    return (Verdict.SHORTER if tokens >= LEAST_WINDOW else Verdict.NO), tokens


def _per_token(model: Model, split: Split) -> float:
    return model.shape.kv_bytes_per_token(model.kv_dtype, split.tensor, split.pipeline)


def _left(model: Model, machine: Machine, split: Split) -> tuple[float, float]:
    """Returns: the allowance, and what is left for the cache, in bytes of each GPU."""
    if not machine.gpus:
        left = machine.memory_bytes - model.weights - _CPU_ALLOWANCE
        return _CPU_ALLOWANCE, machine.kv_bytes if left >= machine.kv_bytes else min(0, left - machine.kv_bytes)
    allowance = _GPU_ALLOWANCE + _GPU_ALLOWANCE_SHARE * machine.memory_bytes
    return allowance, machine.memory_bytes * machine.share - model.weights / split.gpus - allowance


def _can_split(model: Model, machine: Machine, split: Split) -> bool:
    """Whether there are so many GPUs, and the heads can be shared out evenly."""
    return split.gpus <= machine.gpus and model.shape.attention_heads % split.tensor == 0


def _remedy(verdict: Verdict, model: Model, machine: Machine, split: Split, window: int) -> str:
    if verdict is Verdict.FITS:
        return ""
    if not machine.gpus:
        return _cpu_remedy(verdict, model, machine, window)
    if verdict is Verdict.SHORTER:
        shorter = f"set STOKER_VLLM_MAX_MODEL_LEN to {window} or to auto"
        wider = _smallest_split(model, machine, split, Verdict.FITS)
        return shorter + (f", or STOKER_VLLM_TENSOR_PARALLEL_SIZE to {wider}" if wider else "")
    if split.gpus > machine.gpus:
        return f"it is to be shared by {split.gpus} GPUs and there are {machine.gpus}: lower the parallel sizes"
    if model.shape.attention_heads % split.tensor:
        return f"{model.shape.attention_heads} attention heads can't be shared by {split.tensor} GPUs: take 1, 2 or 4"
    wider = _smallest_split(model, machine, split, *_SERVES)
    if wider:
        return f"set STOKER_VLLM_TENSOR_PARALLEL_SIZE to {wider}"
    many = replace(machine, gpus=max(_SPLITS) * split.pipeline)
    more = _smallest_split(model, many, split, *_SERVES)
    smaller = f"take a quantised version of {_gb(_most_weights(model, machine, split))} at most, or a smaller model"
    return f"{more} such GPUs would do; or {smaller}" if more else smaller


def _cpu_remedy(verdict: Verdict, model: Model, machine: Machine, window: int) -> str:
    if verdict is Verdict.SHORTER:
        needed = model.window * model.shape.kv_bytes_per_token(model.kv_dtype) + model.shape.state_bytes()
        gib = int(-(-needed // (1 << 30)))
        return f"set STOKER_VLLM_KV_CACHE_GIB to {gib}, or STOKER_VLLM_MAX_MODEL_LEN to {window}"
    missing = model.weights + _CPU_ALLOWANCE + machine.kv_bytes - machine.memory_bytes
    if missing <= 0:
        return "raise STOKER_VLLM_KV_CACHE_GIB"
    return f"{_gb(missing)} are missing: end other programs, or take a smaller model"


def _smallest_split(model: Model, machine: Machine, split: Split, *good: Verdict) -> int | None:
    """The fewest GPUs sharing each layer with which the verdict is a good one."""
    for tensor in _SPLITS:
        if tensor > split.tensor and _verdict(model, machine, Split(tensor, split.pipeline))[0] in good:
            return tensor
    return None


def _most_weights(model: Model, machine: Machine, split: Split) -> float:
    """Bytes of weights, of all GPUs together, that would leave room for the least window."""
    room = _left(replace(model, weights=0), machine, split)[1]
    least = LEAST_WINDOW * _per_token(model, split) + model.shape.state_bytes(split.tensor, split.pipeline)
    return max(0.0, (room - least) * split.gpus)


def _arithmetic(model: Model, machine: Machine, split: Split, allowance: float, kv_bytes: float) -> tuple[str, ...]:
    weights = model.weights / split.gpus
    if machine.gpus:
        shared = f" (of {_gb(model.weights)}, shared by {split.gpus})" if split.gpus > 1 else ""
        left = (
            f"{machine.share:g} x {_gb(machine.memory_bytes)} of each GPU - {_gb(weights)} of weights{shared}"
            f" - {_gb(allowance)} allowance = {_gb(kv_bytes)} for the cache"
        )
    else:
        left = (
            f"{_gb(model.weights)} of weights + {_gb(machine.kv_bytes)} of cache + {_gb(allowance)} allowance"
            f" = {_gb(model.weights + machine.kv_bytes + allowance)}, of {_gb(machine.memory_bytes)} available"
        )
    shape = model.shape
    layers = -(-shape.cached_layers // split.pipeline)
    if shape.latent:
        token = f"{layers} layers x {shape.latent} x {bytes_of(model.kv_dtype):g} bytes"
    else:
        heads = max(1, shape.kv_heads // split.tensor)
        token = f"{layers} layers x 2 x {heads} heads x {shape.head_dim} x {bytes_of(model.kv_dtype):g} bytes"
    lines = [left, f"a token of cache takes {token} = {_per_token(model, split):,.0f} bytes"]
    if state := shape.state_bytes(split.tensor, split.pipeline):
        lines.append(f"a sequence takes {_gb(state)} beside its tokens")
    return (*lines, *shape.notes)


def _gb(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
