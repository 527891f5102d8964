"""Where the state lives; every process that keeps or reads something inherits these settings."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from storage.secretfiles import SecretFileSource


class StorageSettings(BaseSettings):
    """Read from `STOKER_...` environment variables; `./stoker up` sets those of the embedded parts."""

    model_config = SettingsConfigDict(env_prefix="STOKER_", extra="ignore")

    data_dir: Path = Field(Path(".stoker"), description="Folder of everything that the embedded parts keep.")
    database_url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL: sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/DB. "
        "Unset: SQLite in the data folder.",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="redis://[:PASSWORD@]HOST:PORT/DB of a Redis or Valkey server; `./stoker up` starts one where "
        "this is unset.",
    )
    object_store: str | None = Field(
        None, description="folder:PATH or s3://BUCKET/PREFIX for files. Unset: a folder in the data folder."
    )
    s3_endpoint_url: str | None = Field(None, description="Endpoint of an S3-compatible store; unset: AWS.")
    sql_deadline_s: float = Field(5.0, gt=0, le=60, description="Seconds for one SQL transaction.")
    redis_deadline_s: float = Field(1.0, gt=0, le=30, description="Seconds for one Redis command.")
    object_deadline_s: float = Field(30.0, gt=0, le=600, description="Seconds for one file of the object store.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # ours reads the environment, too
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, SecretFileSource(settings_cls), dotenv_settings, file_secret_settings

    def sql_url(self) -> str:
        """The SQLAlchemy URL in force."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{self.data_dir.resolve() / 'stoker.db'}"

    def object_store_url(self) -> str:
        """The object store's address in force."""
        return self.object_store or f"folder:{self.data_dir.resolve() / 'objects'}"

    def redis_address(self) -> str:
        """The Redis URL in force."""
        return "redis://127.0.0.1:6379/0" if self.redis_url is None else self.redis_url.get_secret_value()
