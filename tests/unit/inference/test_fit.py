"""What fits into a machine's memory, by hand-made sums."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.catalog import COMMON_GIB, TABLE, default_for, find, model_of, smallest_gib
from inference.fit import answer
from inference.room import LEAST_WINDOW, Machine, Model, Split, Verdict, fit, loaded_bytes
from inference.shape import ShapeUnknown, bytes_of, read_folder, shape_of, weight_bytes

ROOT = Path(__file__).parents[3]
GIB = 1 << 30

# Llama 3.1 8B, Gemma 3 (nested, sliding), DeepSeek V3, Qwen3.5 9B: as their config.json has it.
LLAMA: dict[str, Any] = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
GEMMA: dict[str, Any] = {
    "text_config": {
        "hidden_size": 2560,
        "num_attention_heads": 8,
        "num_hidden_layers": 34,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 1024,
        "max_position_embeddings": 131072,
    },
    "torch_dtype": "bfloat16",
}
DEEPSEEK: dict[str, Any] = {
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8"},
    "torch_dtype": "bfloat16",
}
QWEN: dict[str, Any] = {
    "text_config": {
        "hidden_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 32,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 8,
        "linear_num_value_heads": 32,
        "linear_num_key_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        "max_position_embeddings": 262144,
        "dtype": "bfloat16",
    }
}


@pytest.mark.parametrize(
    ("config", "per_token"),
    [
        (LLAMA, 32 * 2 * 8 * 128 * 2),
        ({**LLAMA, "num_key_value_heads": None}, 32 * 2 * 32 * 128 * 2),  # every head has its own
        (GEMMA, 34 * 2 * 4 * 256 * 2),
        (DEEPSEEK, 61 * (512 + 64) * 2),
        (QWEN, 8 * 2 * 4 * 256 * 2),  # a quarter of its layers
    ],
)
def test_a_tokens_bytes_follow_from_the_config(config: dict[str, Any], per_token: int) -> None:
    assert shape_of(config).kv_bytes_per_token("bfloat16") == per_token
    assert shape_of(config).kv_bytes_per_token("fp8_e4m3") == per_token / 2


def test_gpus_share_heads_but_each_keeps_the_whole_latent() -> None:
    llama, deepseek = shape_of(LLAMA), shape_of(DEEPSEEK)
    assert llama.kv_bytes_per_token("bfloat16", 4) == llama.kv_bytes_per_token("bfloat16") / 4
    assert llama.kv_bytes_per_token("bfloat16", 16) == llama.kv_bytes_per_token("bfloat16") / 8  # a head at least
    assert deepseek.kv_bytes_per_token("bfloat16", 8) == deepseek.kv_bytes_per_token("bfloat16")
    assert llama.kv_bytes_per_token("bfloat16", 1, 5) == 7 * 2 * 8 * 128 * 2  # the largest of 5 parts of 32 layers


def test_linear_layers_keep_a_fixed_state_for_each_sequence() -> None:
    """24 layers, each with 32 matrices of 128 x 128 and 3 steps of 8,192 channels, in float32."""
    assert shape_of(QWEN).state_bytes() == 24 * (32 * 128 * 128 + 3 * 8192) * 4
    without = {**QWEN["text_config"], "linear_num_value_heads": None}
    assert "linear layers is not counted" in shape_of(without).notes[0]
    interval = {**QWEN["text_config"], "layer_types": None, "full_attention_interval": 4}
    assert replace(shape_of(interval), notes=()) == replace(shape_of(QWEN), notes=())


def test_sliding_windows_are_counted_as_whole_ones_and_it_is_said() -> None:
    assert "sliding" in shape_of(GEMMA).notes[0]
    assert not shape_of({**LLAMA, "sliding_window": 4096, "use_sliding_window": False}).notes
    assert not shape_of(LLAMA).notes


@pytest.mark.parametrize("missing", ["num_hidden_layers", "num_attention_heads"])
def test_a_config_that_lacks_a_size_is_named(missing: str) -> None:
    with pytest.raises(ShapeUnknown, match=missing):
        shape_of({name: value for name, value in LLAMA.items() if name != missing})


def test_weights_follow_from_files_or_from_parameters(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    with pytest.raises(ShapeUnknown, match="no weights"):
        read_folder(tmp_path)
    for name, size in (("model-1.safetensors", 600), ("model-2.safetensors", 400), ("consolidated.safetensors", 1000)):
        (tmp_path / name).write_bytes(bytes(size))
    shape, size = read_folder(tmp_path)
    assert size == 1000  # not twice
    assert loaded_bytes(shape, size, "bfloat16") == 1000
    assert loaded_bytes(shape, size, "float32") == 2000
    assert loaded_bytes(shape, size, "bfloat16", "fp8") == 500
    assert loaded_bytes(shape, size, "bfloat16", "awq") == 1000  # its files would be quantised themselves
    assert loaded_bytes(shape_of(DEEPSEEK), 1000, "float32", "fp8") == 1000
    assert weight_bytes(8e9, "bfloat16") == 16_000_000_000
    assert weight_bytes(32, "mxfp4") == 17  # 4 bits each, and 8 for all
    with pytest.raises(ShapeUnknown, match="int3"):
        bytes_of("int3")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ShapeUnknown, match="no object"):
        read_folder(tmp_path)
    with pytest.raises(ShapeUnknown, match="can't be read"):
        read_folder(tmp_path / "absent")


def _model(weights: float, window: int = 32768, config: Mapping[str, Any] = LLAMA) -> Model:
    return Model("m", int(weights), shape_of(config), "bfloat16", window)


def test_what_is_left_of_a_gpu_is_the_cache() -> None:
    """0.92 x 24 GB - 16 GB - (1.5 + 0.03 x 24 GB) = 3.86 GB, at 131,072 bytes a token."""
    found = fit(_model(16e9, 16384), Machine(24_000_000_000, 1))
    assert found.kv_bytes == 3_860_000_000
    assert found.tokens == 3_860_000_000 // 131_072
    assert found.verdict is Verdict.FITS
    assert (found.window, found.sequences) == (16384, 1.8)
    assert found.remedy == ""
    assert "0.92 x 24.00 GB of each GPU - 16.00 GB of weights - 2.22 GB allowance = 3.86 GB" in found.arithmetic[0]
    assert "32 layers x 2 x 8 heads x 128 x 2 bytes = 131,072 bytes" in found.arithmetic[1]


def test_a_window_too_long_is_shortened_and_the_settings_are_named() -> None:
    found = fit(_model(16e9, 131072), Machine(24_000_000_000, 2))
    assert found.verdict is Verdict.SHORTER
    assert found.window == found.tokens == 29449
    assert found.remedy == "set STOKER_VLLM_MAX_MODEL_LEN to 29449 or to auto, or STOKER_VLLM_TENSOR_PARALLEL_SIZE to 2"
    alone = fit(_model(16e9, 131072), Machine(24_000_000_000, 1))
    assert alone.remedy == "set STOKER_VLLM_MAX_MODEL_LEN to 29449 or to auto"


def test_what_does_not_fit_names_gpus_or_a_quantised_version() -> None:
    model = _model(40e9)
    assert fit(model, Machine(24_000_000_000, 4)).remedy == "set STOKER_VLLM_TENSOR_PARALLEL_SIZE to 4"
    alone = fit(model, Machine(24_000_000_000, 1))
    assert (alone.verdict, alone.window, alone.sequences) == (Verdict.NO, 0, 0.0)
    assert alone.remedy.startswith("4 such GPUs would do; or take a quantised version of 19.59 GB at most")
    smaller = replace(model, weights=19_590_000_000)
    assert fit(smaller, Machine(24_000_000_000, 1)).verdict is Verdict.SHORTER
    assert "such GPUs" not in fit(_model(900e9), Machine(24_000_000_000, 1)).remedy


def test_heads_that_cant_be_shared_and_gpus_that_arent_there_are_refused() -> None:
    machine = Machine(80_000_000_000, 3)
    assert "32 attention heads can't be shared by 3 GPUs" in fit(_model(1e9), machine, Split(3)).remedy
    assert "there are 3" in fit(_model(1e9), machine, Split(4)).remedy
    assert fit(_model(1e9), machine, Split(1, 3)).verdict is Verdict.FITS


def test_on_a_cpu_the_caches_size_is_set_and_all_must_go_into_what_is_available() -> None:
    """16 + 1.07 + 2.3 GB; a GiB holds 8,192 tokens of 131,072 bytes."""
    found = fit(_model(16e9, 4096), Machine(20_000_000_000, 0))
    assert (found.verdict, found.tokens, found.sequences) == (Verdict.FITS, 8192, 2.0)
    assert "16.00 GB of weights + 1.07 GB of cache + 2.30 GB allowance = 19.37 GB, of 20.00 GB" in found.arithmetic[0]
    longer = fit(_model(16e9, 16384), Machine(20_000_000_000, 0))
    assert longer.verdict is Verdict.SHORTER
    assert longer.remedy == "set STOKER_VLLM_KV_CACHE_GIB to 2, or STOKER_VLLM_MAX_MODEL_LEN to 8192"
    assert fit(_model(16e9, 16384), Machine(21_000_000_000, 0, kv_bytes=2 * GIB)).verdict is Verdict.FITS
    small = fit(_model(16e9, 4096), Machine(19_000_000_000, 0))
    assert small.verdict is Verdict.NO
    assert small.remedy.startswith("0.37 GB are missing")


@given(st.integers(1, 200), st.sampled_from([1, 2, 4, 8]), st.floats(0.1, 300), st.integers(16, 300_000), st.booleans())
def test_more_memory_never_makes_it_worse_and_a_verdict_agrees_with_its_numbers(
    gib: int, gpus: int, weights_gb: float, window: int, hybrid: bool
) -> None:
    model = _model(weights_gb * 1e9, window, QWEN if hybrid else LLAMA)
    small, large = (fit(model, Machine(size * GIB, gpus), Split(gpus)) for size in (gib, gib + 1))
    order = [Verdict.NO, Verdict.SHORTER, Verdict.FITS]
    assert order.index(small.verdict) <= order.index(large.verdict)
    assert (small.verdict is Verdict.FITS) == (small.window == window) == (small.remedy == "")
    if small.verdict is Verdict.SHORTER:
        assert LEAST_WINDOW <= small.window < window
        assert fit(replace(model, window=small.window), Machine(gib * GIB, gpus), Split(gpus)).verdict is Verdict.FITS


@pytest.mark.parametrize(
    ("name", "layers", "hidden", "inner", "heads"),
    [
        ("Qwen/Qwen3-0.6B", 28, 1024, 3072, 16),
        ("Qwen/Qwen3-1.7B", 28, 2048, 6144, 16),
        ("Qwen/Qwen3-4B-Instruct-2507", 36, 2560, 9728, 32),
    ],
)
def test_parameters_of_dense_models_follow_from_their_configs(
    name: str, layers: int, hidden: int, inner: int, heads: int
) -> None:
    """Attention with 8 heads of 128 for keys and values, three matrices of the feed-forward part, tied embeddings."""
    entry = find(name)
    assert entry is not None
    layer = hidden * 128 * (2 * heads + 2 * 8) + 3 * hidden * inner
    assert entry.parameters * 1e9 == pytest.approx(layers * layer + 151_936 * hidden, rel=0.005)
    assert entry.weights == pytest.approx(entry.parameters * 2e9, rel=0.001)


@pytest.mark.parametrize(
    ("name", "layers", "hidden", "inner", "heads", "kv_heads", "value_heads", "beside"),
    [
        ("Qwen/Qwen3.5-9B", 32, 4096, 12288, 16, 4, 32, 0.70e9),
        ("Qwen/Qwen3.6-27B-FP8", 64, 5120, 17408, 24, 4, 48, 0.91e9),
    ],
)
def test_parameters_of_hybrid_models_follow_from_their_configs(
    name: str, layers: int, hidden: int, inner: int, heads: int, kv_heads: int, value_heads: int, beside: float
) -> None:
    """A gated attention layer for each three of Gated DeltaNet; beside them a vision tower and a drafting layer."""
    entry = find(name)
    assert entry is not None
    attention = hidden * 256 * (3 * heads + 2 * kv_heads)
    delta = hidden * 128 * (2 * 16 + 3 * value_heads)
    total = layers * 3 * hidden * inner + layers // 4 * (attention + 3 * delta) + 2 * 248_320 * hidden
    assert entry.parameters * 1e9 == pytest.approx(total + beside, rel=0.01)


@pytest.mark.parametrize(
    ("name", "layers", "experts"), [("openai/gpt-oss-120b", 36, 128), ("openai/gpt-oss-20b", 24, 32)]
)
def test_bytes_of_mixed_formats_follow_from_their_parts(name: str, layers: int, experts: int) -> None:
    """Experts of three matrices of 2880 x 2880 in MXFP4, all else in bfloat16."""
    entry = find(name)
    assert entry is not None
    in_experts = layers * experts * 3 * 2880 * 2880
    mixed = weight_bytes(in_experts, "mxfp4") + 2 * (entry.parameters * 1e9 - in_experts)
    assert entry.weights == pytest.approx(mixed, rel=0.01)


def test_the_chosen_model_grows_with_the_machine() -> None:
    names = [entry.name for entry in TABLE]
    before = len(names)
    for gib in COMMON_GIB:
        choice = default_for(Machine(gib * GIB, 1))
        assert choice is not None
        assert names.index(choice.entry.name) <= before
        assert choice.tensor_parallel == 1
        before = names.index(choice.entry.name)
    assert default_for(Machine(2 * GIB, 1)) is None


@pytest.mark.parametrize(
    ("gib", "gpus", "name", "shared_by"),
    [
        (12, 1, "Qwen/Qwen3-1.7B", 1),  # Qwen3.5-4B fits, for three at once
        (24, 1, "Qwen/Qwen3.5-9B", 1),
        (24, 2, "Qwen/Qwen3.6-35B-A3B-FP8", 2),
        (80, 1, "Qwen/Qwen3.6-35B-A3B-FP8", 1),
        (80, 8, "Qwen/Qwen3.5-122B-A10B-FP8", 2),
        (8, 0, "Qwen/Qwen3-1.7B", 1),
    ],
)
def test_the_best_that_fits_is_chosen_on_the_fewest_gpus(gib: int, gpus: int, name: str, shared_by: int) -> None:
    choice = default_for(Machine(gib * GIB, gpus))
    assert choice is not None
    assert (choice.entry.name, choice.tensor_parallel) == (name, shared_by)


@given(st.integers(1, 200), st.sampled_from([1, 2, 4, 8]))
def test_what_is_chosen_fits_and_serves_several_at_once(gib: int, gpus: int) -> None:
    choice = default_for(Machine(gib * GIB, gpus))
    if choice is None:
        return
    assert "gpu" in choice.entry.chosen_on
    assert choice.fit.window >= 16_384
    shape = choice.entry.shape
    each = 4096 * shape.kv_bytes_per_token("bfloat16", choice.tensor_parallel) + shape.state_bytes(
        choice.tensor_parallel
    )
    assert choice.fit.kv_bytes >= 8 * each
    if choice.tensor_parallel > 1:
        fewer = fit(model_of(choice.entry, Machine(gib * GIB, gpus)), Machine(gib * GIB, gpus), Split(1))
        assert fewer.kv_bytes < choice.fit.kv_bytes


def test_the_documented_table_is_the_real_one() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for entry in TABLE:
        gib = smallest_gib(entry)
        row = (
            f"| `{entry.name}` | {entry.parameters:g} | {entry.weights / 1e9:.1f} GB | "
            f"{entry.shape.kv_bytes_per_token('bfloat16'):,.0f} | {gib} GiB | {entry.chosen_on.replace(' ', ', ')} |"
        )
        assert row in page, row
        assert entry.licence == "Apache-2.0"  # the page says so of all


def _ask(*words: str, **environment: str) -> dict[str, Any]:
    return answer(words, {f"STOKER_VLLM_{name}": value for name, value in environment.items()}, frozenset({"amx_bf16"}))


def test_the_command_tells_of_the_model_and_of_the_default() -> None:
    found = _ask("--memory", str(24 * GIB), "--gpus", "2", "--model", "qwen/qwen3.5-9b")
    assert found["model"]["verdict"] == "fits with a shorter window"
    assert found["model"]["settings"] == {
        "tool_call_parser": "qwen3_coder",
        "reasoning_parser": "qwen3",
        "enable_thinking": False,
    }
    assert found["default"]["name"] == "Qwen/Qwen3.6-35B-A3B-FP8"
    assert found["default"]["tensor_parallel"] == found["default"]["settings"]["tensor_parallel_size"] == 2
    assert found["default"]["settings"]["max_model_len"] == "auto"
    assert found["default"]["licence"] == "Apache-2.0"
    assert _ask("--memory", str(GIB), "--gpus", "1") == {"model": None, "default": None}
    assert "not in the table" in _ask("--memory", "1", "--model", "org/unknown")["model"]["unknown"]


def test_settings_of_vllm_change_the_sums() -> None:
    words = ("--memory", str(24 * GIB), "--gpus", "2", "--model", "Qwen/Qwen3.5-9B")
    usual = _ask(*words)["model"]
    assert _ask(*words, TENSOR_PARALLEL_SIZE="2")["model"]["verdict"] == "fits"
    assert _ask(*words, MAX_MODEL_LEN="16384")["model"]["verdict"] == "fits"
    assert _ask(*words, MAX_MODEL_LEN="auto")["model"] == usual
    assert _ask(*words, GPU_MEMORY_UTILIZATION="0.5")["model"]["fits"] is False
    assert _ask(*words, KV_CACHE_DTYPE="fp8")["model"]["window"] == pytest.approx(2 * usual["window"], abs=2)
    assert _ask(*words, QUANTIZATION="fp8")["model"]["verdict"] == "fits"
    for odd in ("", "many", "-1", "nan", "inf"):
        assert _ask(*words, TENSOR_PARALLEL_SIZE=odd, GPU_MEMORY_UTILIZATION=odd)["model"] == usual


def test_a_local_folder_is_measured(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "torch_dtype": "float32"}))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(4_000_000_000)  # nothing is written
    on_gpu = _ask("--memory", str(8 * GIB), "--gpus", "1", "--model", str(tmp_path))["model"]
    assert "- 2.00 GB of weights" in on_gpu["arithmetic"][0]  # vLLM turns float32 into 16 bits
    on_cpu = _ask("--memory", str(16 * GIB), "--model", str(tmp_path))["model"]
    assert "2.00 GB of weights" in on_cpu["arithmetic"][0]
    assert on_cpu["wanted_window"] == 4096
    slow = answer(["--memory", str(16 * GIB), "--model", str(tmp_path)], {}, frozenset())["model"]
    assert "4.00 GB of weights" in slow["arithmetic"][0]  # a processor without bfloat16
    (tmp_path / "config.json").unlink()
    assert "config.json" in _ask("--memory", "1", "--model", str(tmp_path))["model"]["unknown"]


def test_it_runs_on_nothing_but_the_standard_library() -> None:
    """`-I -S`: no packages. The doctor asks before anything is installed."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import inference.fit as it; it.main()"
    asked = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, "--memory", str(80 * GIB), "--gpus", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ.get("PATH", "")},
    )
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["default"]["fits"]
