"""Which model is served when nobody names one; GPUs and hub are played by a script and a server on this machine."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cli import choice, doctor, hub, up
from cli.choice import Choice, choose, launcher_flags
from cli.console import Steps
from cli.doctor import Finding, Verdict
from cli.errors import CliError
from cli.hub import Look
from cli.machine import Gpu, GpusUnreadable, available_memory, gpus, uuids
from cli.modelfiles import ModelFiles, Worker
from cli.parts import Plan
from cli.settings import CliSettings, Engine
from cli.sizing import Sized, sizes

GIB = 1 << 30


@pytest.fixture(autouse=True)
def _nothing_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No internet, no GPU of this machine, no settings of who runs the tests."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PATH", "")
    for name in ("CUDA_VISIBLE_DEVICES", "TRANSFORMERS_OFFLINE", "STOKER_VLLM_TENSOR_PARALLEL_SIZE"):
        monkeypatch.delenv(name, raising=False)


def _nvidia(monkeypatch: pytest.MonkeyPatch, folder: Path, output: str, code: int = 0) -> None:
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n/bin/cat <<'end'\n{output}\nend\nexit {code}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@contextmanager
def _hub(monkeypatch: pytest.MonkeyPatch, status: int = 200) -> Iterator[list[str]]:
    """Gives the requests that came."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "reached"), [(200, True), (404, True), (401, True), (403, False), (503, False)])
def test_a_hub_is_in_reach_when_it_answers(monkeypatch: pytest.MonkeyPatch, status: int, reached: bool) -> None:
    with _hub(monkeypatch, status) as asked:
        look = Look(within_s=30)
        assert look.in_reach() is reached
        assert look.in_reach() is reached
        assert len(asked) == 1
        assert asked[0].startswith("HEAD ")


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_hub_that_is_switched_off_is_not_asked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with _hub(monkeypatch) as asked:
        monkeypatch.setenv(name, "1")
        assert not Look(within_s=30).in_reach()
        assert asked == []


def test_a_hub_that_is_silent_or_no_hub_at_all_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never answers
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert not Look(within_s=0.05).in_reach()
        port = server.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    assert not Look(within_s=30).in_reach()  # refused at once
    for odd in ("file:///etc/passwd", "nonsense", "http://"):
        monkeypatch.setenv("HF_ENDPOINT", odd)
        assert not Look(within_s=30).in_reach()
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert hub.endpoint() == "https://huggingface.co"


def test_gpus_are_read_with_their_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert gpus() == []
    _nvidia(monkeypatch, tmp_path, "0, NVIDIA H100 80GB HBM3, 81559\n1, NVIDIA GB10, [N/A]")
    h100 = Gpu("NVIDIA H100 80GB HBM3", 81559 << 20)
    assert gpus() == [h100, Gpu("NVIDIA GB10", None)]
    for visible, seen in (("0", 1), ("0,1", 2), ("", 0), ("-1", 0), ("GPU-1a2b", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert len(gpus()) == seen
    _nvidia(monkeypatch, tmp_path, "no driver", code=9)
    with pytest.raises(GpusUnreadable):
        gpus()
    assert available_memory() > 0


def test_on_gpus_with_a_hub_the_tables_default_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _nvidia(monkeypatch, tmp_path, "0, NVIDIA A10, 24576\n1, NVIDIA A10, 24576")
    chosen = choose(Engine.VLLM, None, lambda: True)
    assert chosen.model == "Qwen/Qwen3.6-35B-A3B-FP8"
    assert chosen.flags == (
        "--tool-call-parser", "qwen3_coder", "--reasoning-parser", "qwen3", "--enable-thinking", "false",
        "--tensor-parallel-size", "2", "--max-model-len", "auto",
    )  # fmt: skip
    assert "fits here on 2 GPUs" in chosen.note
    assert "Apache-2.0, 37.5 GB to fetch" in chosen.note
    assert choose(Engine.VLLM, None, lambda: False) == Choice(None)


def test_without_gpus_that_say_their_memory_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never() -> bool:
        raise AssertionError("the hub was asked for nothing")

    assert choose(Engine.VLLM, None, never) == Choice(None)
    _nvidia(monkeypatch, tmp_path, "0, NVIDIA GB10, [N/A]")
    assert choose(Engine.VLLM, None, never) == Choice(None)
    _nvidia(monkeypatch, tmp_path, "", code=9)
    assert choose(Engine.VLLM, None, never) == Choice(None)
    _nvidia(monkeypatch, tmp_path, "0, NVIDIA T400, 2048")
    assert choose(Engine.VLLM, None, lambda: True) == Choice(None)  # nothing fits
    assert choose(Engine.NONE, None, never) == Choice(None)


def test_on_a_cpu_the_wheels_model_stays_and_a_better_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "available_memory", lambda: 16 * GIB)
    chosen = choose(Engine.VLLM_CPU, None, lambda: True)
    assert (chosen.model, chosen.flags, chosen.note) == (None, (), "")
    assert chosen.hint == "./stoker up --model Qwen/Qwen3-1.7B would answer better (3.4 GB to fetch)"
    assert choose(Engine.VLLM_CPU, None, lambda: False) == Choice(None)
    monkeypatch.setattr(choice, "available_memory", lambda: 3 * GIB)
    assert choose(Engine.VLLM_CPU, None, lambda: True) == Choice(None)


def test_a_named_model_is_kept_and_one_of_the_table_gets_its_parsers(tmp_path: Path) -> None:
    def never() -> bool:
        raise AssertionError("the hub was asked for nothing")

    assert choose(Engine.VLLM, "org/other", never) == Choice("org/other")
    assert choose(Engine.VLLM, str(tmp_path), never) == Choice(str(tmp_path))
    known = choose(Engine.VLLM_CPU, "Qwen/Qwen3-1.7B", never)
    assert known.model == "Qwen/Qwen3-1.7B"
    assert known.flags == (
        "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3", "--enable-thinking", "false",
    )  # fmt: skip


def test_what_the_environment_sets_for_vllm_goes_before_the_table() -> None:
    sized = Sized("m", settings={"tool_call_parser": "a", "enable_thinking": False, "tensor_parallel_size": 2})
    kept = {"STOKER_VLLM_TOOL_CALL_PARSER": "mine", "STOKER_VLLM_ENABLE_THINKING": ""}
    assert launcher_flags(sized, kept) == ("--enable-thinking", "false", "--tensor-parallel-size", "2")
    assert launcher_flags(None, {}) == ()


def test_sizes_come_from_a_process_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = sizes(24 * GIB, 1, "org/unknown")
    assert found.model is not None
    assert "not in the table" in found.model.unknown
    assert found.default is not None
    assert found.default.fits
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(CliError, match="could not be worked out"):
        sizes(1, 0, None)


def _findings(settings: CliSettings, engine: Engine) -> dict[str, Finding]:
    return {found.about: found for found in doctor._models(settings, engine, Look(within_s=30))}


def test_the_doctor_says_what_fits_on_gpus_with_the_arithmetic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _nvidia(monkeypatch, tmp_path, "0, NVIDIA H100 80GB HBM3, 81559")
    assert doctor._gpu(Engine.VLLM).text == "NVIDIA H100 80GB HBM3, 85.5 GB"
    with _hub(monkeypatch):
        found = _findings(CliSettings(data_dir=tmp_path), Engine.VLLM)
        assert "127.0.0.1" in found["hub"].text
        assert "is in reach" in found["hub"].text
        chosen = found["model chosen by up"]
        assert chosen.verdict is Verdict.OK
        assert "Qwen/Qwen3.6-35B-A3B-FP8 fits: window 262,144 tokens" in chosen.text
        assert "0.92 x 85.52 GB of each GPU - 37.50 GB of weights - 4.07 GB allowance = 37.11 GB" in chosen.text
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = _findings(CliSettings(data_dir=tmp_path), Engine.VLLM)
    assert "not in reach" in found["hub"].text
    assert "model chosen by up" not in found
    assert "Qwen/Qwen3.6-35B-A3B-FP8" in found["model that a hub would give"].text
    large = _findings(CliSettings(data_dir=tmp_path, model="Qwen/Qwen3.5-122B-A10B-FP8"), Engine.VLLM)["model"]
    assert large.verdict is Verdict.FAIL
    assert "2 such GPUs would do" in large.remedy
    unknown = _findings(CliSettings(data_dir=tmp_path, model="org/unknown"), Engine.VLLM)["model"]
    assert (unknown.verdict, unknown.remedy) == (Verdict.OK, "")
    assert "once it has been fetched" in unknown.text


def test_the_doctor_measures_a_folder_and_tells_of_a_shorter_window(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _nvidia(monkeypatch, tmp_path, "0, NVIDIA L4, 23034")
    sizes_of = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    (tmp_path / "config.json").write_text(json.dumps({**sizes_of, "max_position_embeddings": 131072}))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(16_000_000_000)  # nothing is written
    found = _findings(CliSettings(data_dir=tmp_path, model=str(tmp_path)), Engine.VLLM)["model"]
    assert found.verdict is Verdict.WARN
    assert "fits with a shorter window" in found.text
    assert found.remedy.startswith("set STOKER_VLLM_MAX_MODEL_LEN to 3")


def test_the_doctor_says_the_same_of_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "available_memory", lambda: 16 * GIB)
    found = _findings(CliSettings(data_dir=tmp_path), Engine.VLLM_CPU)
    assert "SmolLM2-135M-Instruct fits: window 4,096 tokens" in found["model"].text
    assert "of 17.18 GB available" in found["model"].text
    assert found.keys() == {"model", "hub"}  # nothing could be fetched
    with _hub(monkeypatch):
        found = _findings(CliSettings(data_dir=tmp_path), Engine.VLLM_CPU)
        assert "Qwen/Qwen3-1.7B fits" in found["model to try"].text
    monkeypatch.setattr(doctor, "available_memory", lambda: 2 * GIB)
    found = _findings(CliSettings(data_dir=tmp_path), Engine.VLLM_CPU)
    assert found["model"].verdict is Verdict.WARN
    assert "are missing" in found["model"].remedy
    assert _findings(CliSettings(data_dir=tmp_path), Engine.NONE) == {}


class _Installed:
    """An inference environment that is there."""

    python = Path("/inference/bin/python")

    def ensure(self) -> None:
        pass


def test_up_serves_the_chosen_model_with_its_flags_and_makes_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _nvidia(monkeypatch, tmp_path, "0, NVIDIA H100 80GB HBM3, 81559")
    made: list[str] = []

    def pull(_self: Worker, _steps: Steps, name: str, *, if_missing: bool) -> ModelFiles:
        assert if_missing
        made.append(name)
        return ModelFiles(f"/models/{name}", name.rpartition("/")[2])

    def prepare(_self: Worker, _steps: Steps, kinds: list[str]) -> dict[str, ModelFiles]:
        made.extend(kinds)
        return {kind: ModelFiles(f"/models/{kind}", kind) for kind in kinds}

    monkeypatch.setattr(up.environments, "inference", lambda _engine: _Installed())
    monkeypatch.setattr(Worker, "prepare", prepare)
    monkeypatch.setattr(Worker, "pull", pull)
    settings = CliSettings(data_dir=tmp_path / "data", engine=Engine.VLLM)
    settings.run_dir.mkdir(parents=True)
    with _hub(monkeypatch):
        plan, chosen = up._prepare(settings, Steps(), Look(within_s=30))
    command = next(part.command for part in plan.parts if part.name == "vllm")
    assert command[command.index("--model") + 1] == "/models/Qwen/Qwen3.6-35B-A3B-FP8"
    assert command[-len(chosen.flags) :] == list(chosen.flags)
    assert made == ["embedding", "Qwen/Qwen3.6-35B-A3B-FP8"]
    assert "no --model: Qwen/Qwen3.6-35B-A3B-FP8" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plan, chosen = up._prepare(settings, Steps(), Look(within_s=30))
    assert "/models/llm" in next(part.command for part in plan.parts if part.name == "vllm")
    assert chosen == Choice(None)


def test_up_names_a_better_model_at_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = CliSettings(data_dir=tmp_path)
    plan = Plan("run", "http://127.0.0.1:1", "vllm-cpu", str(tmp_path), str(tmp_path), {}, [])
    up._introduce(settings, plan, 1.0, Choice(None, hint="./stoker up --model org/better"), with_demo=False)
    assert "A hub is in reach: ./stoker up --model org/better" in capsys.readouterr().out
    up._introduce(settings, plan, 1.0, Choice(None), with_demo=False)
    assert "hub" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ["GPU-aa11", "GPU-bb22", "GPU-bc33"]),
        ("1", ["GPU-bb22"]),
        ("2,0", ["GPU-bc33", "GPU-aa11"]),
        ("GPU-bc, GPU-a", ["GPU-bc33", "GPU-aa11"]),
        ("0,GPU-b,1", ["GPU-aa11"]),  # of two that are meant, none is
        ("MIG-aa11", []),
        ("-1", []),
        ("", []),
    ],
)
def test_the_uuids_of_the_gpus_to_be_used_come_in_the_order_in_which_they_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, found: list[str]
) -> None:
    _nvidia(monkeypatch, tmp_path, "0, GPU-aa11\n1, GPU-bb22\n2, GPU-bc33")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert uuids() == found


def test_where_nvidia_smi_fails_or_is_not_there_no_uuid_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert uuids() == []
    _nvidia(monkeypatch, tmp_path, "no devices were found", code=9)
    assert uuids() == []
