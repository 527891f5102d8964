"""The bootstrap script, with a stand-in for what it would install: nothing is fetched here."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.settings import ROOT

_TOOLS = ("bash", "sha256sum", "cut", "dirname", "readlink", "mkdir", "flock", "env", "grep")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the repository's own code under a path with a space, its API environment already current."""
    root = tmp_path / "a house"
    root.mkdir()
    shutil.copy(ROOT / "stoker", root / "stoker")
    for package in ("cli", "core", "monitoring", "storage", "requirements"):
        (root / package).symlink_to(ROOT / package)
    env = root / ".stoker" / "envs" / "api"
    (env / "bin").mkdir(parents=True)
    python = env / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    stamp = hashlib.sha256((ROOT / "requirements" / "api.txt").read_bytes()).hexdigest()
    (env / ".stoker-stamp").write_text(stamp + "\n")
    return root


def _run(command: Path, *words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, *words], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=60
    )


def _bare_path(folder: Path) -> Path:
    """A folder for PATH with the script's tools and no Python."""
    folder.mkdir()
    for tool in _TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    return folder


def test_it_works_from_any_folder_through_a_symlink_and_with_spaces(house: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    (elsewhere / "cli").mkdir(parents=True)  # a folder of that name in the caller's place must not be taken for ours
    (elsewhere / "cli" / "__init__.py").write_text("raise SystemExit('the wrong cli')")
    (elsewhere / "link").symlink_to(house / "stoker")
    (tmp_path / "second").symlink_to(Path("else where") / "link")
    result = _run(tmp_path / "second", "status", cwd=elsewhere, STOKER_DATA_DIR="my data", PYTHONPATH=str(elsewhere))
    assert result.returncode == 1
    assert f"no stack is running on {elsewhere / 'my data'}" in result.stdout


def test_without_a_usable_python_the_remedy_is_named(house: Path, tmp_path: Path) -> None:
    (house / ".stoker" / "envs" / "api" / ".stoker-stamp").unlink()
    path = _bare_path(tmp_path / "bin")
    for shim in ("python3.11", "python3"):  # what a version manager leaves: there, executable, and failing
        (path / shim).write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
        (path / shim).chmod(0o755)
    result = _run(house / "stoker", "status", cwd=tmp_path, PATH=str(path), STOKER_PYTHON="")
    assert result.returncode == 1
    assert "no Python 3.11" in result.stderr
    assert "what to do: install it" in result.stderr


def test_a_failing_shim_is_passed_over_for_a_python_that_runs(house: Path, tmp_path: Path) -> None:
    (house / ".stoker" / "envs" / "api" / ".stoker-stamp").unlink()
    path = _bare_path(tmp_path / "bin")
    shim, real = path / "python3.11", path / "python3"
    shim.write_text("#!/bin/sh\nexit 127\n")
    # This one is a 3.12 as far as the script can tell, and can't make a virtual environment.
    says = 'case "$2" in *version_info*) echo 3.12;; *) echo "$0";; esac'
    real.write_text(f'#!/bin/sh\n[ "$1" = -c ] || exit 1\n{says}\n')
    for each in (shim, real):
        each.chmod(0o755)
    result = _run(house / "stoker", "status", cwd=tmp_path, PATH=str(path), STOKER_PYTHON="")
    assert result.returncode == 1
    assert "Python 3.12 is untested" in result.stderr
    assert "python3-venv" in result.stderr
    assert not (house / ".stoker" / "envs" / "api" / ".stoker-stamp").exists()
