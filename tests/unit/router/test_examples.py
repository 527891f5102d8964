"""LiteLLM's own example configurations, as its package carries them: each loads, and what is left out is told."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from router.config import load
from router.errors import ConfigInvalid


def examples() -> list[Path]:
    spec = find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    files = sorted((Path(spec.origin).parent / "proxy").rglob("*.yaml"))
    return [file for file in files if "model_list" in (yaml.safe_load(file.read_text()) or {})]


def lines_of(file: Path, text: str) -> set[int]:
    return {at for at, line in enumerate(file.read_text().splitlines(), 1) if text in line}


@pytest.mark.parametrize("file", examples(), ids=lambda file: file.name)
def test_an_example_loads_or_is_told_its_line(file: Path) -> None:
    entries = yaml.safe_load(file.read_text())["model_list"]
    if any("litellm_params" not in entry for entry in entries):
        with pytest.raises(ConfigInvalid, match=rf"{file.name}:\d+: model_list.*litellm_params"):
            load(file)
        return
    config = load(file)
    assert len(config.deployments) + len(config.disabled) == len(entries)
    for told in config.unsupported:
        where, key = told.split(": ")
        name, _, line = where.rpartition(":")
        assert name == file.name
        assert int(line) in lines_of(file, key.rpartition(".")[2]), told


def test_there_are_many(figure: Callable[[str], None]) -> None:
    loaded, told, refused = 0, 0, 0
    for file in examples():
        try:
            config = load(file)
        except ConfigInvalid:
            refused += 1
            continue
        loaded += 1
        told += bool(config.unsupported or any("not" in reason for reason in config.disabled.values()))
    figure(f"{loaded} of LiteLLM's examples load, {told} of them with what is left out; {refused} refused")
    assert loaded >= 20
    assert refused <= 1


def test_many_models_by_one_name_and_other_modes_are_disabled_and_say_why(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "model_list:\n"
        "  - {model_name: 'openai/*', litellm_params: {model: 'openai/*', api_key: x}}\n"
        "  - {model_name: pictures, litellm_params: {model: a/b, api_key: x}, model_info: {mode: image_generation}}\n"
        "  - {model_name: a, litellm_params: {model: openai/a, api_key: x}}\n"
    )
    config = load(file)
    assert [deployment.name for deployment in config.deployments] == ["a-1"]
    assert "write an entry for each" in config.disabled["openai/*-1"]
    assert "image_generation is not served" in config.disabled["pictures-1"]
