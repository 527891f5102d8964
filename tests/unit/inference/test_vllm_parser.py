"""Real vLLM's own parser takes every command that the launcher can make, as it was meant; no engine starts."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from inference.catalog import TABLE
from inference.settings import VllmSettings
from inference.vllm import command
from inference.vllm_rules import TYPED_FLAGS, repeats
from tests.support.engines import INFERENCE_PYTHON, ROOT

pytestmark = pytest.mark.vllm

# One value at least for every setting, and what vLLM must understand by it.
_ANYWHERE: dict[str, tuple[Any, dict[str, Any]]] = {
    "revision": ("v1", {"revision": "v1"}),
    "tokenizer": ("org/t", {"tokenizer": "org/t"}),
    "download_dir": ("/cache", {"download_dir": "/cache"}),
    "host": ("127.0.0.2", {"host": "127.0.0.2"}),
    "port": (8123, {"port": 8123}),
    "dtype": ("float16", {"dtype": "float16"}),
    "quantization": ("fp8", {"quantization": "fp8"}),
    "max_model_len": ("auto", {"max_model_len": -1}),
    "max_num_seqs": (7, {"max_num_seqs": 7}),
    "max_num_batched_tokens": (512, {"max_num_batched_tokens": 512}),
    "enforce_eager": (False, {"enforce_eager": False}),
    "kv_cache_dtype": ("fp8", {"kv_cache_dtype": "fp8"}),
    "prefix_caching": (False, {"enable_prefix_caching": False}),
    "chunked_prefill": (True, {"enable_chunked_prefill": True}),
    "speculative_method": ("suffix", {"speculative_config": {"method": "suffix"}}),
    "speculative_model": ("org/d", {"speculative_config": {"model": "org/d"}}),
    "lora_modules": (
        {"a": "/x,1", "b": "/y=2"},
        {"enable_lora": True, "lora_modules": [["a", "/x,1"], ["b", "/y=2"]]},
    ),
    "lora_at_run_time": (True, {"enable_lora": True, "lora_modules": None}),
    "tool_call_parser": ("hermes", {"tool_call_parser": "hermes", "enable_auto_tool_choice": True}),
    "reasoning_parser": ("qwen3", {"reasoning_parser": "qwen3"}),
    "enable_thinking": (False, {"default_chat_template_kwargs": {"enable_thinking": False}}),
    "max_num_queued_reqs": (9, {"max_num_queued_reqs": 9}),
    "max_num_queued_tokens": (999, {"max_num_queued_tokens": 999}),
    "shutdown_timeout_s": (12, {"shutdown_timeout": 12}),
    "extra_args": (["--seed", "5"], {"seed": 5}),
}
_GPU_ONLY: dict[str, tuple[Any, dict[str, Any]]] = {
    "tensor_parallel_size": (2, {"tensor_parallel_size": 2}),
    "pipeline_parallel_size": (4, {"pipeline_parallel_size": 4}),
    "gpu_memory_utilization": (0.8, {"gpu_memory_utilization": 0.8}),
    "otlp_traces_endpoint": ("http://jaeger:4317", {"otlp_traces_endpoint": "http://jaeger:4317"}),
    "sleep_mode": (True, {"enable_sleep_mode": True}),
}
_TOGETHER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_loras": 3, "max_lora_rank": rank, "lora_at_run_time": True}, {"max_loras": 3, "max_lora_rank": rank})
    for rank in (1, 8, 16, 32, 64, 128, 256, 320, 512)
] + [
    (
        {"speculative_method": "ngram", "speculative_tokens": 3},
        {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}},
    ),
    ({"chunked_prefill": False}, {"enable_chunked_prefill": False}),
    ({"prefix_caching": True}, {"enable_prefix_caching": True}),
    ({"max_model_len": 512}, {"max_model_len": 512}),
]
_DECIDED_ELSEWHERE = {
    "model", "served_model_name", "engine", "kv_cache_gib", "speculative_tokens", "max_loras", "max_lora_rank",
}  # fmt: skip

# What the inference environment's Python runs: argument lists in, what vLLM makes of them out.
_ASK_VLLM = """
import json, sys
from typing import get_args
from vllm.config.lora import MaxLoRARanks
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
from inference import vllm_names

parser = make_arg_parser(FlexibleArgumentParser())
found = []
for words in json.load(sys.stdin):
    try:
        args = parser.parse_args(words)
        validate_parsed_serve_args(args)
    except (SystemExit, Exception) as error:
        found.append({"refused": repr(error)})
        continue
    values = dict(vars(args))
    loras = values["lora_modules"]
    values["lora_modules"] = loras and [[lora.name, lora.path] for lora in loras]
    found.append(values)
names = {kind: sorted(vllm_names.known(kind)) for kind in
         ("tool_call_parser", "reasoning_parser", "quantization", "speculative_method")}
options = [[action.dest, list(action.option_strings)] for action in parser._actions]
print("ANSWER" + json.dumps({"parsed": found, "names": names, "options": options, "ranks": get_args(MaxLoRARanks)},
                            default=str))
"""


def _cases() -> Iterator[tuple[VllmSettings, dict[str, Any]]]:
    common = {"model": "org/m", "served_model_name": "m"}
    for engine in ("vllm", "vllm-cpu"):
        single = _ANYWHERE | (_GPU_ONLY if engine == "vllm" else {})
        yield VllmSettings(**common, engine=engine), {"model": "org/m", "served_model_name": ["m"]}
        for name, (value, meant) in single.items():
            yield VllmSettings(**common, engine=engine, **{name: value}), meant
        for several, meant in _TOGETHER:
            yield VllmSettings(**common, engine=engine, **several), meant
        everything = {name: value for name, (value, _) in single.items()}
        all_meant: dict[str, Any] = {}
        for _, meant in single.values():
            all_meant |= meant
        all_meant |= {"lora_modules": [["a", "/x,1"], ["b", "/y=2"]]}
        all_meant |= {"speculative_config": {"method": "suffix", "model": "org/d"}}
        yield VllmSettings(**common, engine=engine, **everything), all_meant


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    lists = [command(settings, None, {}).arguments[2:] for settings, _ in _cases()]
    asked = subprocess.run(
        [INFERENCE_PYTHON, "-c", _ASK_VLLM],
        cwd=ROOT,
        input=json.dumps(lists),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    line = next((line for line in asked.stdout.splitlines() if line.startswith("ANSWER")), None)
    assert line is not None, asked.stdout[-2000:] + asked.stderr[-4000:]
    found: dict[str, Any] = json.loads(line.removeprefix("ANSWER"))
    return found


def test_every_setting_has_a_case() -> None:
    assert _ANYWHERE.keys() | _GPU_ONLY.keys() | _DECIDED_ELSEWHERE == VllmSettings.model_fields.keys()


def test_vllm_takes_every_command_as_it_was_meant(answer: dict[str, Any]) -> None:
    for (settings, meant), parsed in zip(_cases(), answer["parsed"], strict=True):
        assert "refused" not in parsed, (settings, parsed)
        assert {name: parsed[name] for name in meant} == meant, settings


def test_every_spelling_of_a_typed_flag_is_known_and_no_other_flag_is_taken_for_one(answer: dict[str, Any]) -> None:
    options = [(dest, spellings) for dest, spellings in answer["options"] if spellings]
    every = {spelling for _, spellings in options for spelling in spellings}
    assert every >= TYPED_FLAGS
    for dest, spellings in options:
        typed = bool(TYPED_FLAGS & set(spellings)) or dest in ("spec_method", "spec_model", "spec_tokens", "config")
        for spelling in spellings:
            assert repeats(spelling) == typed, spelling


def test_lora_ranks_are_those_of_vllm(answer: dict[str, Any]) -> None:
    for rank in answer["ranks"]:
        VllmSettings(model="m", served_model_name="m", lora_at_run_time=True, max_lora_rank=rank)
    assert len(answer["ranks"]) == 9


def test_vllm_is_asked_for_its_own_names(answer: dict[str, Any]) -> None:
    names = answer["names"]
    assert "hermes" in names["tool_call_parser"]
    assert "qwen3" in names["reasoning_parser"]
    assert "fp8" in names["quantization"]
    assert {"ngram", "draft_model", "eagle3", "mtp"} <= set(names["speculative_method"])


def test_the_tables_parsers_are_there(answer: dict[str, Any]) -> None:
    for entry in TABLE:
        assert entry.tool_call_parser in (None, *answer["names"]["tool_call_parser"]), entry.name
        assert entry.reasoning_parser in (None, *answer["names"]["reasoning_parser"]), entry.name


def test_a_name_that_vllm_does_not_know_ends_the_launcher_before_vllm_starts() -> None:
    words = ["--model", "org/m", "--served-model-name", "m", "--reasoning-parser", "nonsense"]
    ended = subprocess.run(
        [INFERENCE_PYTHON, "-m", "inference.vllm", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 2
    assert "reasoning_parser: this vLLM has no nonsense: take one of" in ended.stderr
    assert "qwen3" in ended.stderr
    assert "Traceback" not in ended.stderr
