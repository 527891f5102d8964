"""The scripts of deployment: what they make, what they refuse, and what they leave behind."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.process import ROOT
from tests.support.stack import Stack

DIGEST = "sha256:" + "a" * 64


def _run(
    *words: str | Path, folder: Path = ROOT, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_executable_and_has_a_shells_grammar(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert _run("bash", "-n", script).returncode == 0


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert _run(ROOT / "scripts/init_secrets.sh", folder).returncode == 0
    first = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    assert folder.stat().st_mode & 0o077 == 0, "nobody else looks into the folder"
    assert all((folder / name).stat().st_mode & 0o777 == 0o444 for name in first)
    assert first["postgres_password"].strip() in first["database_url"]
    assert len({first[name] for name in ("postgres_password", "redis_password", "minio_password", "admin_key")}) == 4

    (folder / "grafana_password").unlink()
    assert _run(ROOT / "scripts/init_secrets.sh", folder).returncode == 0
    again = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    assert {name for name in first if first[name] != again[name]} == {"grafana_password"}


def _checkout(tmp_path: Path, docker: str) -> tuple[Path, dict[str, str]]:
    """A copy with a stand-in for the engine's client: there is no engine here, and no registry."""
    for name in ("deploy", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("secrets"))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(f"#!/bin/bash\n{docker}\n")
    (programs / "docker").chmod(0o755)
    return tmp_path, {"PATH": f"{programs}:{os.environ['PATH']}"}


def test_digests_are_asked_for_every_image_of_others(tmp_path: Path) -> None:
    folder, env = _checkout(tmp_path, f"echo {DIGEST}")
    done = _run(folder / "scripts/resolve_digests.sh", env=env)
    assert done.returncode == 0, done.stderr
    lines = (folder / "deploy/digests.env").read_text().splitlines()
    assert f"POSTGRES_IMAGE=postgres:17.11-bookworm@{DIGEST}" in lines
    named = [line for line in (ROOT / "deploy/images.env").read_text().splitlines() if line and line[0] not in "#S"]
    assert len(lines) == len(named) > 10


@pytest.mark.parametrize("docker", ["exit 1", "echo latest", 'echo "manifest unknown"'])
def test_what_is_no_digest_leaves_the_old_file(tmp_path: Path, docker: str) -> None:
    folder, env = _checkout(tmp_path, docker)
    (folder / "deploy/digests.env").write_text("OLD=1\n")
    done = _run(folder / "scripts/resolve_digests.sh", env=env)
    assert done.returncode == 1
    assert "PYTHON_IMAGE" in done.stderr
    assert (folder / "deploy/digests.env").read_text() == "OLD=1\n"
    assert not list((folder / "deploy").glob(".digests*"))


def test_compose_gets_images_settings_and_secrets(tmp_path: Path) -> None:
    folder, env = _checkout(tmp_path, 'echo "ran: $*"')
    shutil.copy(ROOT / "docker-compose.gpu.yml", folder)
    done = _run(folder / "scripts/compose.sh", "up", "--detach", env=env)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1]
    assert said == "ran: compose --env-file deploy/images.env --env-file .env --file docker-compose.gpu.yml up --detach"
    assert (folder / ".env").stat().st_mode & 0o077 == 0
    assert (folder / "deploy/secrets/admin_key").read_text().startswith("sk-stoker-")

    (folder / "deploy/digests.env").write_text("A=b\n")
    more = _run(folder / "scripts/compose.sh", "ps", env={**env, "STOKER_DEV": "1"}).stdout.splitlines()[-1]
    assert "--env-file deploy/images.env --env-file deploy/digests.env --env-file .env" in more
    assert "--file docker-compose.gpu.yml --file docker-compose.dev.yml ps" in more


def test_without_an_engine_compose_says_what_to_install(tmp_path: Path) -> None:
    folder, env = _checkout(tmp_path, "exit 1")
    done = _run(folder / "scripts/compose.sh", "up", env=env)
    assert done.returncode == 1
    assert "install docker-compose-plugin" in done.stderr


def test_a_version_is_put_in_and_the_one_before_put_back(tmp_path: Path) -> None:
    folder, env = _checkout(tmp_path, 'echo "ran: $*"')
    shutil.copy(ROOT / "docker-compose.gpu.yml", folder)
    (folder / ".env").write_text("STOKER_REGISTRY=ghcr.io/us\nSTOKER_SITE=localhost\n")
    for version in ("v1.0.0", "v1.1.0"):
        done = _run(folder / "scripts/put_version.sh", folder, version, env=env)
        assert done.returncode == 0, done.stderr
        assert "up --detach --no-build --wait" in done.stdout
    assert "STOKER_API_IMAGE=ghcr.io/us/stoker-api:v1.1.0" in (folder / ".env").read_text().splitlines()
    assert _run(folder / "scripts/put_version.sh", folder, "--before", env=env).returncode == 0
    lines = (folder / ".env").read_text().splitlines()
    assert "STOKER_INFERENCE_IMAGE=ghcr.io/us/stoker-inference:v1.0.0" in lines
    assert "STOKER_SITE=localhost" in lines
    refused = _run(folder / "scripts/put_version.sh", folder, "latest; rm -rf /", env=env)
    assert refused.returncode == 1
    assert "is no version" in refused.stderr


@pytest.mark.slow
def test_the_smoke_test_finds_a_stack_well(plain_stack: Stack) -> None:
    env = {"SMOKE_MODEL": "none"}  # this stack has no engine; test_the_smoke_test_of_a_whole_stack asks one
    done = _run(ROOT / "scripts/smoke_test.sh", plain_stack.url, plain_stack.admin_key, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("ok")] == [
        ["ok", name] for name in ("health", "models", "embeddings", "ingest", "query", "metrics")
    ]
    assert "1847" in done.stdout
    assert not [
        one for one in plain_stack.client.get("/v1/collections").json()["data"] if one["name"].startswith("smoke-")
    ]


@pytest.mark.slow
def test_the_smoke_test_names_what_failed(plain_stack: Stack) -> None:
    done = _run(ROOT / "scripts/smoke_test.sh", plain_stack.url, plain_stack.admin_key)
    assert done.returncode == 2, done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED")] == ["chat", "stream"]
    wrong = _run(ROOT / "scripts/smoke_test.sh", plain_stack.url, "sk-stoker-wrong", env={"SMOKE_MODEL": "none"})
    assert wrong.returncode == 4, wrong.stdout
    assert "answered 401" in wrong.stdout
    assert "sk-stoker-wrong" not in wrong.stdout + wrong.stderr
    assert _run(ROOT / "scripts/smoke_test.sh", "nowhere").returncode == 64


@pytest.mark.vllm
@pytest.mark.slow
def test_the_smoke_test_of_a_whole_stack(stack: Stack) -> None:
    done = _run(ROOT / "scripts/smoke_test.sh", stack.url, stack.admin_key)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("ok")]) == 8
