"""The environment for Node, with an npm of our own in the PATH."""

from pathlib import Path

import pytest

from cli import environments
from cli.environments import NodeEnvironment
from cli.errors import CliError

ONE = NodeEnvironment("sdk-node", "requirements/sdk-node", "packages")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH; the environments go elsewhere."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "envs")
    return folder


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_it_is_installed_once_from_the_lock_file(tools: Path) -> None:
    put(tools, "node", "")
    put(tools, "npm", f"echo $* >>{tools}/calls; test -f package-lock.json && test -f package.json")
    ONE.ensure()
    ONE.ensure()
    assert ONE.is_current()
    assert (tools / "calls").read_text() == "ci --ignore-scripts --no-audit --no-fund\n"


def test_an_installation_that_failed_is_taken_up_by_the_next_run(tools: Path) -> None:
    put(tools, "node", "")
    put(tools, "npm", "echo no registry; exit 7")
    with pytest.raises(CliError, match="could not be installed") as refused:
        ONE.ensure()
    assert "registry" in refused.value.remedy
    assert not ONE.is_current()
    put(tools, "npm", "")
    ONE.ensure()
    assert ONE.is_current()


@pytest.mark.parametrize("there", [[], ["node"], ["npm"]])
def test_without_node_or_npm_it_is_left_out_with_a_word(
    tools: Path, capsys: pytest.CaptureFixture[str], there: list[str]
) -> None:
    for name in there:
        put(tools, name, "exit 1")
    ONE.ensure()
    assert not ONE.is_current()
    assert "node or npm is not here" in " ".join(capsys.readouterr().err.split())


def test_the_lock_file_names_versions_and_hashes_and_no_address() -> None:
    lock = (environments.ROOT / ONE.source / "package-lock.json").read_text()
    assert lock.count('"integrity": "sha512-') == lock.count('"node_modules/') == 9
    assert "://" not in lock
    assert "resolved" not in lock
