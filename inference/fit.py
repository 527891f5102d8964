"""`python -m inference.fit --memory BYTES [--gpus N] [--model FOLDER_OR_NAME]`: what fits, as one JSON object.

It needs nothing but the standard library, so it runs before the inference environment is installed. What is set for
vLLM (`STOKER_VLLM_...`) counts. `model` is what was asked for, `default` what is chosen when nobody names a model:

{"model": {"name", "weights", "verdict", "fits", "window", "wanted_window", "sequences", "remedy", "arithmetic",
           "settings"} or {"name", "unknown": why it can't be said} or null,
 "default": {... the same, and "licence", "tensor_parallel"} or null}
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inference import cpu
from inference.catalog import Choice, Entry, default_for, find, model_of
from inference.room import GPU_SHARE, Fit, Machine, Model, Split, Verdict, fit, loaded_bytes
from inference.shape import Shape, ShapeUnknown, read_folder
from inference.vllm_flags import CPU_MAX_MODEL_LEN


def answer(arguments: Sequence[str], environment: Mapping[str, str], processor: frozenset[str]) -> dict[str, Any]:
    """The object to print.

    Args:
        arguments: the command line.
        environment: where settings of vLLM are looked for; one that is no number is as good as unset.
        processor: its abilities, which decide the number format on a CPU.
    """
    parser = argparse.ArgumentParser(prog="python -m inference.fit")
    parser.add_argument("--memory", type=int, required=True, help="bytes of the smallest GPU, or available to a CPU")
    parser.add_argument("--gpus", type=int, default=0, help="how many; 0: a CPU")
    parser.add_argument("--model", help="a folder, or a name on the hub")
    asked = parser.parse_args(arguments)
    share = _number(environment, "GPU_MEMORY_UTILIZATION", GPU_SHARE)
    kv_bytes = int(_number(environment, "KV_CACHE_GIB", 1) * (1 << 30))
    machine = Machine(asked.memory, asked.gpus, min(share, 1.0), kv_bytes)
    chosen = default_for(machine)
    return {
        "model": None if asked.model is None else _of_model(asked.model, machine, environment, processor),
        "default": None if chosen is None else _of_choice(chosen, machine),
    }


def _of_model(name: str, machine: Machine, environment: Mapping[str, str], processor: frozenset[str]) -> dict[str, Any]:
    entry = find(name)
    try:
        if Path(name).is_dir():
            shape, size = read_folder(Path(name))
        elif entry is not None:
            shape, size = entry.shape, entry.weights
        else:
            return {"name": name, "unknown": "it is not in the table: its size is known once it has been fetched"}
        model = _served(name, shape, size, machine, environment, processor)
        split = Split(_whole(environment, "TENSOR_PARALLEL_SIZE"), _whole(environment, "PIPELINE_PARALLEL_SIZE"))
        found = fit(model, machine, split)
    except ShapeUnknown as error:
        return {"name": name, "unknown": str(error)}
    return _told(model, found, _settings(entry) if entry else {})


def _of_choice(choice: Choice, machine: Machine) -> dict[str, Any]:
    settings = _settings(choice.entry)
    if choice.tensor_parallel > 1:
        settings["tensor_parallel_size"] = choice.tensor_parallel
    if machine.gpus:
        settings["max_model_len"] = "auto"  # vLLM measures what this arithmetic can only estimate
    about = _told(model_of(choice.entry, machine), choice.fit, settings)
    return about | {"licence": choice.entry.licence, "tensor_parallel": choice.tensor_parallel}


def _told(model: Model, found: Fit, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": model.name,
        "weights": model.weights,
        "verdict": found.verdict.value,
        "fits": found.verdict is not Verdict.NO,
        "window": found.window,
        "wanted_window": model.window,
        "sequences": found.sequences,
        "remedy": found.remedy,
        "arithmetic": list(found.arithmetic),
        "settings": dict(settings),
    }


def _settings(entry: Entry) -> dict[str, Any]:
    """What the launcher is to be told for a model of the table, unless somebody says otherwise."""
    wanted = {
        "tool_call_parser": entry.tool_call_parser,
        "reasoning_parser": entry.reasoning_parser,
        "enable_thinking": False if entry.thinks else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _served(
    name: str, shape: Shape, size: int, machine: Machine, environment: Mapping[str, str], processor: frozenset[str]
) -> Model:
    """The model as the settings have it served."""
    dtype = _set(environment, "DTYPE") or "auto"
    if dtype == "auto" and not machine.gpus:
        dtype = cpu.dtype(processor)
    elif dtype == "auto":
        dtype = "bfloat16" if shape.dtype == "float32" else shape.dtype  # as vLLM does
    kv_dtype = _set(environment, "KV_CACHE_DTYPE") or "auto"
    window = _set(environment, "MAX_MODEL_LEN") or ""
    own = shape.window or CPU_MAX_MODEL_LEN
    usual = own if machine.gpus else min(own, CPU_MAX_MODEL_LEN)
    return Model(
        name,
        loaded_bytes(shape, size, dtype, _set(environment, "QUANTIZATION")),
        shape,
        dtype if kv_dtype == "auto" else kv_dtype,
        int(window) if window.isdigit() and int(window) > 0 else usual,
    )


def _set(environment: Mapping[str, str], name: str) -> str | None:
    return environment.get(f"STOKER_VLLM_{name}") or None


def _whole(environment: Mapping[str, str], name: str) -> int:
    """A setting that is a number of GPUs; 1 where it is none, which the launcher will complain about."""
    return max(1, int(_number(environment, name, 1)))


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(_set(environment, name) or default)
    except ValueError:
        return default
    return value if 0 < value < math.inf else default


def main() -> None:
    print(json.dumps(answer(sys.argv[1:], os.environ, cpu.flags())))


if __name__ == "__main__":
    main()
