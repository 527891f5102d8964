"""What the documentation names exists."""

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from api.settings import ApiSettings
from edge.settings import EdgeSettings
from inference.settings import EmbeddingSettings, VllmSettings
from monitoring.nvml.settings import NvmlSettings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FILE = re.compile(r"`((?:[a-z_]+/)+[a-z_0-9.]+\.(?:py|md|toml|jsonl)|(?:requirements|tests)/[a-z_*./]+)`")
_LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [name for name in _FILE.findall(text) if not list(ROOT.glob(name.rstrip("/")))]
    broken = [link for link in _LINK.findall(text) if not (page.parent / link).exists()]
    assert not missing
    assert not broken


def test_the_tour_really_names_the_rooms() -> None:
    named = set(_FILE.findall((ROOT / "docs" / "tour.md").read_text(encoding="utf-8")))
    assert len(named) > 30


@pytest.mark.parametrize("settings", [ApiSettings, EdgeSettings, EmbeddingSettings, NvmlSettings, VllmSettings])
def test_every_setting_is_described_and_documented(settings: type[BaseSettings]) -> None:
    name = "edge.md" if settings is EdgeSettings else "configuration.md"
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for name, field in settings.model_fields.items():
        assert field.description, name
        variable = f"{settings.model_config.get('env_prefix')}{name.upper()}"
        assert f"`{variable}`" in page, f"docs/configuration.md does not tell of {variable}"


def test_what_is_said_of_vllms_settings_is_what_their_fields_say() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name, field in VllmSettings.model_fields.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `STOKER_VLLM_{name.upper()}` |"))
        assert row.endswith(f"| {field.description} |")
