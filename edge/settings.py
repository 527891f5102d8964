"""Settings of an edge: flags of `./stoker edge serve`; the key of a central comes from the environment alone."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.settings import ApiSettings


class EdgeSettings(BaseSettings):
    """Read from flags, and `STOKER_EDGE_...` environment variables."""

    model_config = SettingsConfigDict(
        env_prefix="STOKER_EDGE_", cli_kebab_case=True, cli_prog_name="python -m edge", hide_input_in_errors=True
    )

    folder: Path = Field(description="What ./stoker edge export made.")
    host: str = Field("127.0.0.1", description="Its address; any other than this machine's needs a key.")
    port: int = Field(8090, ge=1, le=65535, description="Its port.")
    key: SecretStr | None = Field(None, description="Key that callers send; unset: whoever reaches the port may ask.")
    central: str | None = Field(None, description="Address of a gateway that hard questions may go to.")
    central_key: SecretStr | None = Field(None, description="Key for it.")
    central_deadline_s: float = Field(20.0, gt=0, le=600, description="Seconds in which it must answer.")
    confidence: float = Field(
        0.5, ge=0, le=1, description="Share of a question that its best passage must hold, or the central is asked."
    )
    max_json_bytes: int = Field(1024 * 1024, ge=1024, description="Bytes of the largest request body.")
    log_level: str = Field("info", description="debug, info, warning or error.")

    @field_validator("key", "central_key")
    @classmethod
    def _empty_is_none(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value is not None and value.get_secret_value() else None

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.key is None and not is_home(self.host):
            raise ValueError(f"others reach {self.host}: give them a key with --key, or listen on 127.0.0.1")
        if self.central is None:
            return self
        parts = urlsplit(self.central)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{self.central} is no address of a gateway, such as https://stoker.example.com")
        if self.central_key is None:
            raise ValueError("--central needs its key: set STOKER_API_KEY")
        return self


def answering(said: dict[str, Any]) -> ApiSettings:
    """Settings of answers as the origin has them; everything else as it is by default."""
    return ApiSettings.model_validate({**_DEFAULTS, **{name: said[name] for name in said if name in _DEFAULTS}})


_DEFAULTS = {name: field.default for name, field in ApiSettings.model_fields.items() if name.startswith("answer_")}


def is_home(host: str) -> bool:
    """Whether a name or address is this machine's own, reached from nowhere else."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
