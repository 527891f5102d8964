"""What settings of vLLM do not go together, and what to do about it; known before vLLM starts, which takes a minute."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.settings import VllmSettings

TYPED_FLAGS = frozenset(
    "--model --served-model-name --revision --tokenizer --download-dir --host --port --dtype --quantization"
    " --max-model-len --max-num-seqs --max-num-batched-tokens --enforce-eager --tensor-parallel-size"
    " --pipeline-parallel-size --kv-cache-dtype --gpu-memory-utilization --enable-prefix-caching"
    " --enable-chunked-prefill --speculative-config --enable-lora --lora-modules --max-loras --max-lora-rank"
    " --enable-auto-tool-choice --tool-call-parser --reasoning-parser --default-chat-template-kwargs"
    " --max-num-queued-reqs --max-num-queued-tokens --shutdown-timeout --enable-sleep-mode"
    " --otlp-traces-endpoint --disable-uvicorn-access-log".split()
)
"""Flags of vLLM that a setting stands for; `inference.vllm` makes exactly these."""

_OTHER_SPELLINGS = frozenset({"--device-memory-utilization", "--spec-method", "--spec-model", "--spec-tokens"})
_SHORT = ("-q", "-tp", "-pp", "-sc")
_HIDING = frozenset({"--config"})
"""A file of flags: what it says about typed ones could not be seen."""

_DRAFT_WITH_A_MODEL = frozenset({"draft_model", "eagle", "eagle3", "medusa", "mlp_speculator", "dflash"})
_COUNT_THEMSELVES = frozenset({"suffix"})


def contradictions(settings: "VllmSettings") -> list[str]:
    """Every contradiction, each with its remedy; empty when there is none."""
    rules: tuple[Callable[[VllmSettings], Iterator[str]], ...] = (_machine, _batches, _speculation, _lora, _extra)
    return [problem for rule in rules for problem in rule(settings)]


def repeats(word: str) -> bool:
    """Whether a word of vLLM's command line names a flag that has a setting; abbreviations and `--no-...` do, too."""
    name = word.partition("=")[0].partition(".")[0].replace("_", "-")
    if not name.startswith("--"):
        return name.startswith(_SHORT)
    name = "--" + name.removeprefix("--").removeprefix("no-")
    # argparse takes the beginning of a name for the name
    return len(name) > 2 and any(flag.startswith(name) for flag in TYPED_FLAGS | _OTHER_SPELLINGS | _HIDING)


def _machine(settings: "VllmSettings") -> Iterator[str]:
    if settings.engine == "vllm":
        if "kv_cache_gib" in settings.model_fields_set:
            yield "kv_cache_gib is for the CPU build: on a GPU set gpu_memory_utilization instead"
        return
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        if getattr(settings, name) > 1:
            yield f"{name} is for several GPUs: leave it out on the CPU build, or set engine to vllm"
    if settings.sleep_mode:
        yield "sleep_mode needs a GPU: leave it out on the CPU build, or set engine to vllm"
    if settings.gpu_memory_utilization is not None:
        yield "gpu_memory_utilization needs a GPU: on the CPU build set kv_cache_gib instead"


def _batches(settings: "VllmSettings") -> Iterator[str]:
    tokens, window = settings.max_num_batched_tokens, settings.max_model_len
    if tokens is None:
        return
    if settings.max_num_seqs is not None and tokens < settings.max_num_seqs:
        yield (
            f"max_num_batched_tokens {tokens} is less than max_num_seqs {settings.max_num_seqs}: "
            "a step needs a token for each sequence, so raise the first or lower the second"
        )
    if settings.chunked_prefill is False and isinstance(window, int) and tokens < window:
        yield (
            f"chunked_prefill is off and max_num_batched_tokens {tokens} is less than max_model_len {window}: "
            "a whole prompt must go into one step, so raise the first number or leave chunked_prefill on"
        )


def _speculation(settings: "VllmSettings") -> Iterator[str]:
    method, model, tokens = settings.speculative_method, settings.speculative_model, settings.speculative_tokens
    if method is None and model is None:
        if tokens is not None:
            yield "speculative_tokens alone says nothing: set speculative_method (such as ngram) or speculative_model"
        return
    if method in _DRAFT_WITH_A_MODEL and model is None:
        yield f"speculative_method {method} drafts with a model: name it in speculative_model"
    if tokens is None and model is None and method not in _COUNT_THEMSELVES:
        yield f"speculative_method {method} needs speculative_tokens: how many tokens to draft, such as 3"


def _lora(settings: "VllmSettings") -> Iterator[str]:
    for name, folder in settings.lora_modules.items():
        if not name.strip() or not folder.strip():
            yield "lora_modules holds an empty name or folder: write NAME=FOLDER"
        elif name == settings.served_model_name:
            yield f"lora_modules and served_model_name are both {name}: clients choose by name, so give another"
    if settings.lora_modules or settings.lora_at_run_time:
        return
    for name in ("max_loras", "max_lora_rank"):
        if getattr(settings, name) is not None:
            yield f"{name} is set, but no adapter can come: name lora_modules, or set lora_at_run_time"


def _extra(settings: "VllmSettings") -> Iterator[str]:
    words: Sequence[str] = settings.extra_args
    if words and not words[0].startswith("-"):
        yield f"extra_args begin with {words[0]!r}, which is no flag: begin with one, such as --seed"
    for word in words:
        if word.startswith("-") and repeats(word):
            yield f"extra_args repeat {word.partition('=')[0]}: use the setting of that name (--config: each by itself)"
