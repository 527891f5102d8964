"""Settings out of files: a variable such as `STOKER_REDIS_URL_FILE` names the file that holds `STOKER_REDIS_URL`."""

import os
from collections.abc import Mapping

from pydantic_settings import EnvSettingsSource

from core.secretfile import SUFFIX, secret


class SecretFileSource(EnvSettingsSource):
    """The environment as pydantic-settings reads it, and after it what lies in files; any setting may."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        found = dict(super()._load_env_vars())
        for field in self.settings_cls.model_fields:
            name = f"{self.env_prefix}{field}".upper()
            if name + SUFFIX in os.environ and (value := secret(name)) is not None:
                found[name.lower()] = value
        return found
