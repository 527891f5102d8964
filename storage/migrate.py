"""`python -m storage.migrate`: bring the SQL schema to the newest revision, then end."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from monitoring.logs import configure_logs, logger
from storage.settings import StorageSettings

_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`, upwards or downwards; blocks.

    Raises: sqlalchemy.exc.SQLAlchemyError: the database refused.
    """
    config = _config()
    config.attributes["url"] = url
    (command.downgrade if revision == "base" else command.upgrade)(config, revision)


def revisions() -> list[str]:
    """The schema's revisions that this version knows, the oldest first."""
    return [each.revision for each in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def main() -> None:
    configure_logs("migrate")
    settings = StorageSettings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate(settings.sql_url())
    logger(__name__).info("the schema is current")


if __name__ == "__main__":
    main()
