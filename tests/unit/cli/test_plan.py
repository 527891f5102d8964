"""Which processes a stack has, by its settings."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import pytest

from cli.environments import _without_torch
from cli.errors import CliError
from cli.modelfiles import ModelFiles
from cli.parts import Plan
from cli.plan import make_plan, named_models, needed_models, needs_inference
from cli.probes import dcgm_answers
from cli.settings import ROOT, CliSettings, Engine, load_settings
from cli.supervisor import BackOff
from monitoring.gpus.placement import places
from tests.support.network import free_port

MODELS = {"llm": ModelFiles("/models/llm", "tiny"), "embedding": ModelFiles("/models/embedding", "mini")}
PYTHON = Path("/inference/bin/python")


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where a dcgm-exporter was looked for; there is none, whatever this machine has."""
    urls: list[str] = []
    monkeypatch.setattr("cli.plan.dcgm_answers", lambda url: bool(urls.append(url)))
    monkeypatch.setattr("cli.plan.uuids", lambda: ["GPU-a", "GPU-b", "GPU-c"])
    return urls


def _plan(settings: CliSettings, engine: Engine) -> Plan:
    return make_plan(settings, engine, MODELS, PYTHON)


def _settings(folder: Path, **rest: object) -> CliSettings:
    return CliSettings(data_dir=folder, **rest)  # type: ignore[arg-type]


def test_the_embedded_stack_has_every_part_and_tells_the_gateway_of_its_models(tmp_path: Path) -> None:
    plan = _plan(_settings(tmp_path), Engine.VLLM_CPU)
    assert [part.name for part in plan.parts] == [
        "valkey", "milvus", "embeddings", "vllm", "migrate", "worker", "keeper", "gateway",
    ]  # fmt: skip
    deployments = json.loads(plan.environment["STOKER_LOCAL_DEPLOYMENTS"])
    assert [(each["model_name"], each["model_info"]["mode"]) for each in deployments] == [
        ("mini", "embedding"),
        ("mini-late-interaction", "rerank"),
        ("tiny", "chat"),
    ]
    assert len({part.port for part in plan.parts if part.port}) == 5
    assert plan.environment["STOKER_GATEWAY_URL"] == plan.url, "the keeper asks whether it is ready"
    assert Plan.from_json(plan.to_json()) == plan


def test_parts_that_share_a_folder_of_metrics_open_no_port_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOKER_METRICS_PORT", "9402")
    plan = _plan(_settings(tmp_path), Engine.NONE)
    assert "STOKER_METRICS_PORT" not in plan.environment
    assert plan.environment["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path / "run" / "metrics")


def test_what_is_configured_is_used_instead_of_the_embedded_part(tmp_path: Path) -> None:
    settings = _settings(
        tmp_path,
        redis_url="redis://elsewhere/0",
        milvus_uri="http://elsewhere:19530",
        embedding_url="http://elsewhere:8081",
        database_url="postgresql+asyncpg://u:p@elsewhere/db",
    )
    plan = make_plan(settings, Engine.NONE, {}, PYTHON)
    assert not needs_inference(settings, Engine.NONE)
    assert [part.name for part in plan.parts] == ["migrate", "worker", "keeper", "gateway"]
    assert plan.environment["STOKER_REDIS_URL"] == "redis://elsewhere/0"
    assert plan.environment["STOKER_DATABASE_URL"] == "postgresql+asyncpg://u:p@elsewhere/db"


def test_only_models_that_nobody_named_are_prepared(tmp_path: Path) -> None:
    assert needed_models(_settings(tmp_path), Engine.VLLM_CPU) == ["llm", "embedding"]
    assert needed_models(_settings(tmp_path), Engine.NONE) == ["embedding"]
    assert needed_models(_settings(tmp_path, model="org/A", embedding_model="org/B"), Engine.VLLM) == []
    assert needed_models(_settings(tmp_path, embedding_url="http://elsewhere:8081"), Engine.VLLM) == ["llm"]


def test_the_password_of_the_embedded_server_is_kept_private_and_off_the_command_line(tmp_path: Path) -> None:
    plan = _plan(_settings(tmp_path), Engine.NONE)
    password = (tmp_path / "run" / "valkey.password").read_text()
    assert len(password) >= 24
    assert all(password not in word for part in plan.parts for word in part.command)
    for name in ("valkey.password", "valkey.conf"):
        assert (tmp_path / "run" / name).stat().st_mode & 0o777 == 0o600
    assert _plan(_settings(tmp_path), Engine.NONE).environment["STOKER_REDIS_URL"].count(password) == 1


def test_a_folder_is_passed_through_and_served_under_its_last_name(tmp_path: Path) -> None:
    settings = _settings(tmp_path, model="/models/Some-Model", embedding_model="/models/Other/")
    assert named_models(settings, Engine.VLLM) == {}
    plan = make_plan(settings, Engine.VLLM, {}, PYTHON)
    command = _command(plan, "vllm")
    assert command[command.index("--model") + 1] == "/models/Some-Model"
    assert command[command.index("--served-model-name") + 1] == "Some-Model"
    assert command[-2:] == ["--engine", "vllm"]
    assert "Other" in _command(plan, "embeddings")


def test_a_name_on_the_hub_is_pulled_and_its_folder_is_served(tmp_path: Path) -> None:
    settings = _settings(tmp_path, model="org/Some-Model@v1", embedding_model="org/Embedder")
    assert named_models(settings, Engine.VLLM) == {"llm": "org/Some-Model@v1", "embedding": "org/Embedder"}
    assert named_models(settings, Engine.NONE) == {"embedding": "org/Embedder"}
    assert named_models(_settings(tmp_path, embedding_model="org/E", embedding_url="http://e:1"), Engine.VLLM) == {}
    folder = tmp_path / "org--Embedder"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    pulled = {
        "llm": ModelFiles("/models/org--Some-Model@v1", "Some-Model"),
        "embedding": ModelFiles(str(folder), "Embedder"),
    }
    plan = make_plan(settings, Engine.VLLM, pulled, PYTHON)
    command = _command(plan, "vllm")
    assert command[command.index("--model") + 1] == "/models/org--Some-Model@v1"
    assert command[command.index("--served-model-name") + 1] == "Some-Model"
    assert str(folder) in _command(plan, "embeddings")
    assert plan.environment["STOKER_CHUNK_TOKENIZER"] == str(folder / "tokenizer.json")


def _command(plan: Plan, name: str) -> list[str]:
    return next(part.command for part in plan.parts if part.name == name)


@pytest.mark.parametrize("setting", ["model", "embedding_model"])
def test_a_path_that_is_no_folder_is_not_taken_for_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CliError, match="is no folder"):
        load_settings(**{setting: "./missing"})
    (tmp_path / "here").mkdir()
    assert getattr(load_settings(**{setting: "here"}), setting) == str(tmp_path / "here")


def test_adapters_are_models_of_the_same_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_VLLM_LORA_MODULES", '{"law": "/loras/law", "tax": "/loras/tax"}')
    deployments = json.loads(_plan(_settings(tmp_path), Engine.VLLM).environment["STOKER_LOCAL_DEPLOYMENTS"])
    chat = [each for each in deployments if each["model_info"]["mode"] == "chat"]
    assert [each["model_name"] for each in chat] == ["tiny", "law", "tax"]
    assert [each["litellm_params"]["model"] for each in chat][1:] == ["hosted_vllm/law", "hosted_vllm/tax"]
    assert len({each["litellm_params"]["api_base"] for each in chat}) == 1
    for odd in ("law=/loras/law", "[1]"):
        monkeypatch.setenv("STOKER_VLLM_LORA_MODULES", odd)
        with pytest.raises(CliError) as caught:
            _plan(_settings(tmp_path), Engine.VLLM)
        assert '{"NAME": "FOLDER"}' in caught.value.remedy


def test_flags_for_the_engine_come_last_and_settings_reach_it_as_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOKER_VLLM_QUANTIZATION", "fp8")
    plan = make_plan(_settings(tmp_path), Engine.VLLM, MODELS, PYTHON, ("--tensor-parallel-size", "2"))
    command = next(part.command for part in plan.parts if part.name == "vllm")
    assert command[-4:] == ["--engine", "vllm", "--tensor-parallel-size", "2"]
    assert plan.environment["STOKER_VLLM_QUANTIZATION"] == "fp8"


@pytest.mark.parametrize(("wished", "stop_s"), [("", 50), ("120", 125), ("0", 5), ("soon", 50)])
def test_the_engine_is_not_killed_while_it_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wished: str, stop_s: int
) -> None:
    monkeypatch.setenv("STOKER_VLLM_SHUTDOWN_TIMEOUT_S", wished)
    part = next(part for part in _plan(_settings(tmp_path), Engine.VLLM).parts if part.name == "vllm")
    assert part.stop_s == stop_s


def test_back_off_doubles_to_its_limit_and_forgets_after_a_settled_run() -> None:
    back_off = BackOff()
    assert [back_off.after(0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert back_off.after(61) == 0.5


def test_a_refused_setting_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_PORT", "many")
    with pytest.raises(CliError) as caught:
        load_settings()
    assert "STOKER_PORT" in caught.value.remedy


def test_a_flag_goes_before_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_PORT", "7000")
    assert load_settings().port == 7000
    assert load_settings(port=7001).port == 7001


def test_the_lock_without_torch_is_the_lock_less_one_entry() -> None:
    lock = ROOT / "requirements" / "inference-cpu.txt"
    kept = _without_torch(lock)
    names = [line.split("==")[0] for line in lock.read_text().splitlines() if line[:1].isalnum()]
    assert [line.split("==")[0] for line in kept.splitlines() if line[:1].isalnum()] == [
        n for n in names if n != "torch"
    ]
    assert "torch" in names


def test_a_gpu_host_without_a_dcgm_exporter_gets_a_reader_that_nothing_waits_for(
    tmp_path: Path, asked: list[str]
) -> None:
    plan = _plan(_settings(tmp_path, dcgm_url="http://127.0.0.1:9999/metrics"), Engine.VLLM)
    assert asked == ["http://127.0.0.1:9999/metrics"]
    (part,) = (part for part in plan.parts if part.name == "gpu")
    assert part.command[:3] == [str(PYTHON), "-m", "monitoring.nvml"]
    assert part.command[-1] == str(part.port)
    assert plan.environment["STOKER_DCGM_URL"] == f"http://127.0.0.1:{part.port}/metrics"
    assert part.optional
    assert [other.name for other in plan.parts if other.optional] == ["gpu", "gpu-figures"]
    assert not {"gpu", "gpu-figures"} & {name for other in plan.parts for name in other.needs}
    assert Plan.from_json(plan.to_json()) == plan


def test_where_a_dcgm_exporter_answers_there_is_no_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.plan.dcgm_answers", lambda _url: True)
    plan = _plan(_settings(tmp_path), Engine.VLLM)
    assert "gpu" not in {part.name for part in plan.parts}
    assert "STOKER_DCGM_URL" not in plan.environment


@pytest.mark.parametrize("engine", [Engine.VLLM_CPU, Engine.NONE])
def test_without_a_gpu_engine_nobody_looks_for_gpus(tmp_path: Path, asked: list[str], engine: Engine) -> None:
    assert "gpu" not in {part.name for part in _plan(_settings(tmp_path), engine).parts}
    assert asked == []


def test_with_gpus_their_figures_are_joined_with_deployments_and_nothing_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(_settings(tmp_path, dcgm_url="http://127.0.0.1:9999/metrics"), Engine.VLLM)
    (part,) = (part for part in plan.parts if part.name == "gpu-figures")
    assert part.command[:3] == [sys.executable, "-m", "monitoring.gpus"]
    assert _after(part.command, "--exporter") == [plan.environment["STOKER_DCGM_URL"]]
    assert _after(part.command, "--port") == [str(part.port)]
    assert (part.probe.path, part.optional) == ("/metrics", True)
    assert not {"--config", "--gpu-usd-per-hour"} & set(part.command)
    monkeypatch.setattr("cli.plan.dcgm_answers", lambda _url: True)
    settings = _settings(tmp_path, gpu_usd_per_hour=2.5, gpu_exporters="http://b:9400/metrics, http://c:9400/metrics")
    command = _command(_plan(settings, Engine.VLLM), "gpu-figures")
    assert _after(command, "--exporter") == [settings.dcgm_url, "http://b:9400/metrics", "http://c:9400/metrics"]
    assert _after(command, "--gpu-usd-per-hour") == ["2.5"]


@pytest.mark.parametrize("engine", [Engine.VLLM_CPU, Engine.NONE])
def test_without_a_gpu_engine_figures_are_joined_where_the_file_says_where_gpus_are(
    tmp_path: Path, engine: Engine
) -> None:
    file = tmp_path / "stoker.yaml"
    entry = (
        "- {model_name: m, litellm_params: {model: hosted_vllm/m, api_base: 'http://h:8000/v1'}, model_info: {%s}}\n"
    )
    file.write_text("model_list:\n" + entry % "")
    assert "gpu-figures" not in {part.name for part in _plan(_settings(tmp_path, config=file), engine).parts}
    file.write_text("model_list:\n" + entry % "gpus: ['h:0']")
    settings = _settings(tmp_path, config=file)
    command = _command(_plan(settings, engine), "gpu-figures")
    assert _after(command, "--exporter") == [settings.dcgm_url]
    assert _after(command, "--config") == [str(file)]


@pytest.mark.parametrize(
    ("flags", "environment", "gpus"),
    [
        ((), {}, ["GPU-a"]),
        (("--tensor-parallel-size", "2"), {}, ["GPU-a", "GPU-b"]),
        ((), {"TENSOR_PARALLEL_SIZE": "3"}, ["GPU-a", "GPU-b", "GPU-c"]),
        (("--tensor-parallel-size", "1"), {"PIPELINE_PARALLEL_SIZE": "2"}, ["GPU-a", "GPU-b"]),
        ((), {"TENSOR_PARALLEL_SIZE": "many"}, ["GPU-a"]),
    ],
)
def test_the_engine_and_its_adapters_say_on_which_gpus_they_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    environment: dict[str, str],
    gpus: list[str],
) -> None:
    monkeypatch.setenv("STOKER_VLLM_LORA_MODULES", '{"law": "/loras/law"}')
    for name, value in environment.items():
        monkeypatch.setenv(f"STOKER_VLLM_{name}", value)
    plan = make_plan(_settings(tmp_path), Engine.VLLM, MODELS, PYTHON, flags)
    local = json.loads(plan.environment["STOKER_LOCAL_DEPLOYMENTS"])
    assert [each["model_info"].get("gpus") for each in local] == [None, None, gpus, gpus]
    (embedder, engine) = places(local)
    assert (engine.deployment, engine.model, engine.gpus) == ("tiny-local", "tiny", tuple(gpus))
    assert embedder.gpus == ()


def _after(command: list[str], flag: str) -> list[str]:
    return [value for name, value in pairwise(command) if name == flag]


@contextmanager
def _server(text: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (b'# TYPE DCGM_FI_DEV_GPU_UTIL gauge\nDCGM_FI_DEV_GPU_UTIL{gpu="0"} 3\n', True),
        (b'DCGM_FI_DEV_GPU_UTIL{gpu="0"} 3\nstoker_gpu_up{gpu="0"} 1\n', False),  # another stack's reader
        (b"<html>a login page</html>", False),
    ],
)
def test_only_what_speaks_as_dcgm_exporter_counts_as_one(text: bytes, is_one: bool) -> None:
    with _server(text) as url:
        assert dcgm_answers(url) is is_one


def test_where_nobody_listens_there_is_no_dcgm_exporter() -> None:
    assert not dcgm_answers(f"http://127.0.0.1:{free_port()}/metrics")
