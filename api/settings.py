"""All settings of the gateway and the keeper, read once per process."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from retrieval.settings import RetrievalSettings


class ApiSettings(RetrievalSettings):
    """Read from `STOKER_...` environment variables; `./stoker up` sets those of the embedded parts."""

    host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(8080, ge=1, le=65535, description="Port of the gateway.")
    workers: int = Field(1, ge=1, le=64, description="Processes of the gateway.")
    admin_key_file: Path | None = Field(
        None, description="File of the first admin key, made once with mode 0600. Unset: admin.key in the data folder."
    )
    config: Path | None = Field(None, description="Deployments and routing, in LiteLLM's form (stoker.yaml).")
    local_deployments: Annotated[list[dict[str, Any]], NoDecode] = Field(
        default_factory=list, description="JSON list of the local engines, in LiteLLM's model_list form."
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Origins, separated by commas, whose pages may call this gateway."
    )
    max_body_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="Bytes of the largest request body, uploads included."
    )
    answer_model: str | None = Field(
        None, description="Model group that answers questions when a request names none. Unset: the first chat model."
    )
    answer_passages: int = Field(1, ge=1, le=20, description="Passages that the answering model is shown.")
    answer_context_characters: int = Field(
        300, ge=200, le=16_000, description="Characters of context at most; 4 are about one token."
    )
    answer_max_tokens: int = Field(64, ge=1, le=4096, description="Tokens of an answer, where a request says nothing.")
    answer_min_coverage: float = Field(
        0.6, ge=0, le=1, description="Share of a sentence's terms that its source must hold for it to be kept."
    )

    @field_validator("local_deployments", mode="before")
    @classmethod
    def _from_json(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _from_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    def admin_key_path(self) -> Path:
        """The admin key's file in force."""
        return self.admin_key_file or self.data_dir / "admin.key"
