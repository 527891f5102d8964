"""`python -m storage.migrate`: bring the SQL schema to the newest revision, then end."""

from monitoring.logs import configure_logs, logger
from storage.settings import StorageSettings
from storage.sql import migrate


def main() -> None:
    configure_logs("migrate")
    settings = StorageSettings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate(settings.sql_url())
    logger(__name__).info("the schema is current")


if __name__ == "__main__":
    main()
