"""What holds for every command: JSON where it makes sense, exit codes, completion."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cli.ask import ask
from cli.client import Client
from cli.completion import Shell
from cli.errors import CliError
from cli.main import app
from tests.support.process import ROOT

PAGE = (ROOT / "docs" / "cli.md").read_text()
EXCEPTIONS = re.findall(r"^\| `([a-z ]+)` \| ", PAGE.split("These have no `--json`")[1], re.MULTILINE)


def commands() -> Iterator[tuple[str, set[str]]]:
    """Each command by its words, and its flags."""

    def below(command: Any, words: str) -> Iterator[tuple[str, set[str]]]:
        if hasattr(command, "commands"):
            for name, each in command.commands.items():
                yield from below(each, f"{words} {name}".strip())
        else:
            yield words, {flag for parameter in command.params for flag in parameter.opts}

    return below(typer.main.get_command(app), "")


def run(*words: str, env: Mapping[str, str] | None = None, **how: Any) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    command = [sys.executable, "-m", "cli", *words]
    return subprocess.run(
        command, cwd=ROOT, env={**clean, **(env or {})}, capture_output=True, text=True, timeout=120, check=False, **how
    )


def test_every_command_prints_json_or_is_listed_with_the_reason() -> None:
    found = dict(commands())
    assert len(found) > 25
    without = sorted(name for name, flags in found.items() if "--json" not in flags)
    assert without == sorted(EXCEPTIONS)


def test_what_readme_has_people_type_is_a_command_with_these_flags() -> None:
    known = dict(commands())
    text = (ROOT / "README.md").read_text()
    typed = re.findall(r"\./stoker ((?:[^`\n|)#\"]|\"[^\"]*\")+)", text)
    assert len(typed) > 15
    for line in typed:
        words = shlex.split(line)
        name = next((found for n in (2, 1) if (found := " ".join(words[:n])) in known), None)
        assert name is not None or words == ["--help"], line
        assert {word for word in words if word.startswith("--")} <= known.get(name or "", set()) | {"--help"}, line


def test_help_lists_every_command_under_a_heading() -> None:
    found: Any = typer.main.get_command(app)
    headings = {name: command.rich_help_panel for name, command in found.commands.items()}
    assert [name for name, heading in headings.items() if not isinstance(heading, str)] == []
    assert headings["ask"] == "Every day"
    assert headings["bench"] == "For those who change Stoker"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("keys", "list"), 1),
        (("ask", "what?", "--data-dir", "/nowhere/at/all"), 1),
        (("up", "--json"), 1),
        (("no-such-command",), 2),
        (("status", "--no-such-flag"), 2),
        (("up", "--port", "0"), 2),
        (("--help",), 0),
    ],
)
def test_exit_codes_are_the_documented_ones(words: tuple[str, ...], code: int) -> None:
    done = run(*words)
    assert done.returncode == code, done.stdout + done.stderr
    assert code != 1 or "what to do" in done.stderr
    assert f"| {code} |" in PAGE


def test_down_says_in_json_whether_something_ran(tmp_path: Path) -> None:
    done = run("down", "--json", "--data-dir", str(tmp_path))
    assert json.loads(done.stdout) == {"data_dir": str(tmp_path), "was_running": False}
    assert done.returncode == 0


class Stub(Client):
    """A server that answers one question with these events."""

    def __init__(self, *events: tuple[str, Any]) -> None:
        from cli.client import Event

        self._told = [Event(name, data) for name, data in events]

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[Any]:
        return iter(self._told)


def test_ask_prints_one_json_value_and_nothing_of_the_stream(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"answer": "It is [bold]8080[/bold].", "citations": [], "degraded": True}
    ask(Stub(("token", {"text": "It is"}), ("done", answer)), "which?", "demo", None, as_json=True)
    printed = capsys.readouterr().out
    assert printed.startswith("{")
    assert json.loads(printed) == answer
    with pytest.raises(CliError, match="away"):
        ask(Stub(("error", {"error": {"message": "it is away"}})), "which?", "demo", None, as_json=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shell", list(Shell))
def test_each_shell_gets_a_script_that_asks_by_the_variable(shell: Shell) -> None:
    done = run("completion", shell.value)
    assert done.returncode == 0
    assert "_STOKER_COMPLETE" in done.stdout


def test_bash_completes_commands_and_values(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not here")
    program = tmp_path / "stoker"
    program.write_text(f'#!/bin/bash\nexport PYTHONPATH={ROOT}\nexec {sys.executable} -m cli "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text(run("completion", "bash").stdout)

    def completed(*words: str) -> set[str]:
        typed = " ".join(f"'{word}'" for word in words)
        asked = (
            f"source {tmp_path}/script; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; "
            f"_stoker_completion {program}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=120, check=False)
        return set(done.stdout.split())

    assert {"collections", "completion"} <= completed("stoker", "co")
    assert {"export", "import"} <= completed("stoker", "collections", "")
    assert completed("stoker", "completion", "") >= {"bash", "zsh", "fish"}
