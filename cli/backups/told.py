"""The settings of a stack as a backup tells them: what is no secret, and the names of all else."""

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from api.settings import ApiSettings
from cli.settings import CliSettings
from monitoring.redaction import redacted
from router.config import written

LEFT_OUT = "LEFT OUT: keep it where you keep secrets"

_PREFIX = "STOKER_"
_SECRET = re.compile(r"(?i)(api_?key|secret|password|passwd|token$|credential|authorization|_dsn|private|headers)")
_FROM_ENVIRONMENT = "os.environ/"
_LONGEST = 10_000


def as_text(config: Path | None) -> str:
    """As JSON."""
    return json.dumps(settings_told(config), indent=1, ensure_ascii=False)


def settings_told(config: Path | None) -> dict[str, Any]:
    """Names and values of `STOKER_...` variables, and the configuration file, each secret left out by name."""
    known = {**_fields(CliSettings), **_fields(ApiSettings)}
    ours = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_PREFIX)}
    shown = {name: value for name, value in ours.items() if known.get(name, False) and not _looks_secret(name, value)}
    return {
        "environment": shown,
        "left_out": [name for name in ours if name not in shown],
        "configuration": None if config is None else _without_secrets(written(config).data),
    }


def _fields(settings: type[BaseSettings]) -> dict[str, bool]:
    """Variables by name: whether they may be told."""
    return {
        f"{_PREFIX}{name.upper()}": SecretStr not in (field.annotation, *get_args(field.annotation))
        for name, field in settings.model_fields.items()
    }


def _looks_secret(name: str, value: str) -> bool:
    return bool(_SECRET.search(name)) or redacted(value, _LONGEST) != value


def _without_secrets(node: Any, name: str = "") -> Any:
    """Whatever has a secret's name or form; names of environment variables stay."""
    if isinstance(node, dict):
        if _SECRET.search(name):
            return LEFT_OUT
        return {key: _without_secrets(value, str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_secrets(each, name) for each in node]
    if isinstance(node, str) and node.startswith(_FROM_ENVIRONMENT):
        return node
    secret = _SECRET.search(name) if isinstance(node, str) else None
    return LEFT_OUT if secret or (isinstance(node, str) and redacted(node, _LONGEST) != node) else node
