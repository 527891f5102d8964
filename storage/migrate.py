"""`python -m storage.migrate`: bring the SQL schema to the newest revision, then end."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from monitoring.logs import configure_logs, logger
from storage.settings import StorageSettings

_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`, upwards or downwards; blocks.

    Raises: sqlalchemy.exc.SQLAlchemyError: the database refused.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["url"] = url
    (command.downgrade if revision == "base" else command.upgrade)(config, revision)


def main() -> None:
    configure_logs("migrate")
    settings = StorageSettings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate(settings.sql_url())
    logger(__name__).info("the schema is current")


if __name__ == "__main__":
    main()
