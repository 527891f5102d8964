"""Settings of the GPU reader; flags on the command line win over the environment."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, CliImplicitFlag, SettingsConfigDict


class NvmlSettings(BaseSettings):
    """The GPU reader: `STOKER_NVML_...`, or flags such as `--min-interval-s`."""

    model_config = SettingsConfigDict(
        env_prefix="STOKER_NVML_", cli_kebab_case=True, cli_prog_name="python -m monitoring.nvml"
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(9400, ge=1, le=65535, description="Port to listen on.")
    gpus: str = Field(
        "",
        description="Indices or UUIDs of GPUs, or UUIDs of MIG instances, separated by commas. Unset: all of them.",
    )
    min_interval_s: float = Field(
        0.5, ge=0, le=60, description="Seconds for which one reading answers everybody who asks."
    )
    deadline_s: float = Field(
        3.0, gt=0, le=60, description="Seconds that a caller waits for a reading before an older one is given."
    )
    stale_s: float = Field(
        15.0, ge=0, le=600, description="Seconds for which an older reading is given; then the GPUs count as down."
    )
    once: CliImplicitFlag[bool] = Field(False, description="Print one reading as JSON and end.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @property
    def wanted(self) -> frozenset[str]:
        """What `gpus` names."""
        return frozenset(name.strip() for name in self.gpus.split(",") if name.strip())
