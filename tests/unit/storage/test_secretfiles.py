"""Every setting may lie in a file."""

from pathlib import Path

import pytest

from api.settings import ApiSettings
from core.secretfile import SUFFIX, SecretUnread
from router.config import load
from router.errors import ConfigInvalid


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def test_a_setting_is_read_from_the_file_that_its_variable_names(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("redis://:from-a-file@valkey:6379/0\n")
    monkeypatch.setenv("STOKER_REDIS_URL_FILE", str(file))
    assert ApiSettings().redis_address() == "redis://:from-a-file@valkey:6379/0"
    assert "from-a-file" not in repr(ApiSettings())


def test_lists_and_numbers_in_files_are_read_as_variables_are(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("https://a.example, https://b.example\n")
    monkeypatch.setenv("STOKER_CORS_ORIGINS_FILE", str(file))
    assert ApiSettings().cors_origins == ["https://a.example", "https://b.example"]


def test_a_setting_that_is_in_no_file_still_comes_from_its_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("secret")
    monkeypatch.setenv("STOKER_SENTRY_DSN_FILE", str(file))
    monkeypatch.setenv("STOKER_PORT", "8099")
    assert ApiSettings().port == 8099


@pytest.mark.parametrize("name", ["REDIS_URL", "DATABASE_URL", "SENTRY_DSN", "BUDGET_WEBHOOK"])
def test_both_at_once_stop_the_start(file: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    file.write_text("one")
    monkeypatch.setenv(f"STOKER_{name}", "another")
    monkeypatch.setenv(f"STOKER_{name}_FILE", str(file))
    with pytest.raises(SecretUnread, match=f"STOKER_{name} and STOKER_{name}_FILE are both set"):
        ApiSettings()


def test_no_setting_takes_the_name_of_another_ones_file() -> None:
    fields = {field.upper() for field in ApiSettings.model_fields}
    assert not {field + SUFFIX for field in fields} & fields


def test_a_providers_key_is_read_from_a_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("sk-of-a-file\n")
    config = tmp_path / "stoker.yaml"
    config.write_text(
        "model_list:\n"
        "  - model_name: hosted\n"
        "    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/FILED_KEY}\n"
    )
    monkeypatch.setenv("FILED_KEY_FILE", str(file))
    (deployment,) = load(config).deployments
    assert deployment.api_key == "sk-of-a-file"

    file.write_text("")
    with pytest.raises(ConfigInvalid, match=r"stoker.yaml:3.*FILED_KEY_FILE.*holds no secret: write one line"):
        load(config)
