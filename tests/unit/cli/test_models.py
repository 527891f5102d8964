"""`./stoker models`: what is asked of the inference side, and what a person sees of its answers."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import models, up
from cli.console import Steps
from cli.environments import Environment
from cli.errors import CliError
from cli.hub import Look
from cli.modelfiles import ModelFiles, Worker
from cli.settings import CliSettings, Engine
from tests.support.hub import fake_hub
from tests.unit.inference.modelfiles.conftest import small_model


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models; the inference side runs in this environment, and no other is made."""
    monkeypatch.setenv("STOKER_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("STOKER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(Environment, "ensure", lambda _: None)
    monkeypatch.setattr(Environment, "python", Path(sys.executable))
    return tmp_path


def run(*words: str) -> str:
    result = CliRunner().invoke(models.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_inference_side_s_own_command_pulls_and_refuses(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.models["acme/tiny"] = small_model()
        folder = place / "models" / "acme--tiny"
        assert json.loads(run("pull", "acme/tiny", "--json")) == {"folder": str(folder), "name": "tiny"}
        (folder / "config.json").write_text("x")
        with pytest.raises(CliError, match=r"config\.json has 1 bytes") as refused:
            run("verify", "acme/tiny")
    assert "pull or import it again" in refused.value.remedy


LISTED = {
    "name": "acme/tiny",
    "bytes": 2_000_000,
    "source": "a hub",
    "commit": "c" * 40,
    "folder": "/f",
    "state": "whole",
}


@pytest.mark.parametrize(
    ("words", "answer", "shown"),
    [
        (["list"], {"models": [LISTED]}, ["acme/tiny", "2 MB", "a hub", "cccccccccccc", "whole"]),
        (["verify", "acme/tiny"], {"verified": {"files": 3, "bytes": 2e6}}, ["as it should be: 3 files, 2 MB"]),
        (["remove", "acme/tiny"], {"removed": "acme/tiny"}, ["acme/tiny is removed"]),
        (
            ["export", "a/b", "c", "/x.tar"],
            {"exported": {"file": "/x.tar", "models": ["a/b", "c"], "bytes": 2e6}},
            ["a/b, c in /x.tar (2 MB)"],
        ),
        (
            ["import", "/x.tar"],
            {"imported": ["a"], "there": ["b"]},
            ["a is imported", "b was there already, and equal"],
        ),
    ],
)
def test_a_command_asks_and_tells(
    place: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], answer: dict[str, Any], shown: list[str]
) -> None:
    asked = []

    def answered(self: Worker, *said: str, steps: Steps) -> dict[str, Any]:
        asked.append((list(said), self.models_dir))
        return answer

    monkeypatch.setattr(Worker, "run", answered)
    told = run(*words)
    assert asked == [(words, place / "models")]
    assert [text for text in shown if text not in told] == []
    inner = answer.get("models") or answer.get("verified") or answer.get("exported") or answer
    assert json.loads(run(*words, "--json")) == inner


def test_export_wants_models_and_a_file(place: Path) -> None:
    assert CliRunner().invoke(models.app, ["export", "acme/tiny"]).exit_code == 2


def worker(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> Worker:
    """A worker whose command is this program instead."""
    python = folder / "python"
    python.write_text(f"#!{sys.executable}\n{program}\n")
    python.chmod(0o755)
    return Worker(python, folder / "models", folder / "models.log")


@pytest.mark.parametrize(
    ("program", "message", "remedy"),
    [
        ("print('{}')\nraise SystemExit(3)", "could not be made", "models.log"),
        ("raise SystemExit(0)", "could not be made", "models.log"),
        (
            """print('{"step": "failed", "error": "a: b", "message": "a", "remedy": "b"}')\nraise SystemExit(1)""",
            "models: a",
            "b",
        ),
    ],
)
def test_a_failure_of_the_other_side_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str, remedy: str
) -> None:
    with pytest.raises(CliError) as told:
        worker(tmp_path, monkeypatch, program).run("list", steps=Steps())
    assert message in told.value.message
    assert remedy in told.value.remedy


def test_what_a_library_prints_is_passed_over_and_chatter_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """import sys\nprint('warning: x\\n[1]\\n{"models": []}')\nprint('chatter', file=sys.stderr)"""
    assert worker(tmp_path, monkeypatch, program).run("list", steps=Steps()) == {"models": []}
    assert (tmp_path / "models.log").read_text() == "chatter\n"


def test_up_prepares_what_nobody_named_and_pulls_what_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def prepare(_self: Worker, _steps: Steps, kinds: list[str]) -> dict[str, ModelFiles]:
        asked.append(("prepare", kinds))
        return {"embedding": ModelFiles("/models/mini", "mini")}

    def pull(_self: Worker, _steps: Steps, name: str, *, if_missing: bool) -> ModelFiles:
        asked.append(("pull", (name, if_missing)))
        return ModelFiles("/models/org--Name", "Name")

    monkeypatch.setattr(Worker, "prepare", prepare)
    monkeypatch.setattr(Worker, "pull", pull)
    monkeypatch.setattr(up, "make_plan", lambda *words: SimpleNamespace(models=words[2]))
    settings = CliSettings(data_dir=place, model="org/Name", engine=Engine.VLLM_CPU)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plan, _ = up._prepare(settings, Steps(), Look())
    assert asked == [("prepare", ["embedding"]), ("pull", ("org/Name", True))]
    models: Any = plan
    assert models.models["llm"] == ModelFiles("/models/org--Name", "Name")
    assert models.models["embedding"].name == "mini"
