"""What compose mounts into the images of others, tried with the same servers without a container."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.deploy.deployment import Deployment
from tests.support.database import migrated
from tests.support.gateway import answers
from tests.support.network import free_port
from tests.support.postgres import postgres_server
from tests.support.process import ROOT, running
from tests.support.valkey import accepts, valkey_command
from tests.support.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    subprocess.run([ROOT / "scripts/init_secrets.sh", folder], check=True, capture_output=True)
    return folder


def test_valkey_starts_as_compose_starts_it_and_wants_its_password(secrets: Path, tmp_path: Path) -> None:
    """The script of the compose file runs as it stands, but for where files and the program are."""
    port, server = free_port(), valkey_command(tmp_path, 0)[0]
    it = Deployment(ROOT)
    script = it.settled(it.services["valkey"]["command"][0])
    conf = tmp_path / "valkey.conf"
    conf.write_text(
        it.text("deploy/compose/valkey.conf")
        .replace("/tmp/password.conf", str(tmp_path / "password.conf"))
        .replace("dir /data", f"dir {tmp_path}")
        .replace("bind * -::*", f"bind 127.0.0.1\nport {port}")
    )
    for found, place in (
        ("/run/secrets", str(secrets)),
        ("/tmp/password.conf", str(tmp_path / "password.conf")),
        ("valkey-server", server),
        ("/etc/valkey/valkey.conf", str(conf)),
    ):
        assert found in script
        script = script.replace(found, place)
    with running(["/bin/sh", "-euc", script], tmp_path / "log", lambda: accepts(port)) as process:
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        password = (secrets / "redis_password").read_text().strip()
        client = redis.Redis(port=port, password=password, decode_responses=True)
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert password.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert (tmp_path / "password.conf").stat().st_mode & 0o077 == 0


def test_grafanas_user_reads_three_tables_and_changes_nothing(secrets: Path) -> None:
    with postgres_server() as server:
        uri = server.server.get_uri()
        migrated(server.url())
        psql = Path(__import__("pgserver").__file__).parent / "pginstall" / "bin" / "psql"
        script = (ROOT / "deploy/compose/reader.sh").read_text().replace("psql --no", f"{psql} {uri!r} --no")
        assert str(psql) in script
        for _ in range(2):  # at every start
            done = subprocess.run(
                ["/bin/sh", "-c", script], env={"SECRETS": str(secrets), "PATH": "/usr/bin:/bin"}, capture_output=True
            )
            assert done.returncode == 0, done.stderr

        def asked(text: str) -> subprocess.CompletedProcess[str]:
            words = [psql, uri, "--no-psqlrc", "--tuples-only", "--set", "ON_ERROR_STOP=1", "--command"]
            return subprocess.run([*words, f"SET ROLE grafana; {text}"], capture_output=True, text=True)

        for table in ("ledger", "tenants", "budget_alerts"):
            assert asked(f"SELECT count(*) FROM {table}").returncode == 0, table
        for table in ("api_keys", "users", "conversations"):
            assert "permission denied" in asked(f"SELECT count(*) FROM {table}").stderr, table
        assert "permission denied" in asked("DELETE FROM ledger").stderr
        assert "permission denied" in asked("INSERT INTO tenants (id, name, created_at) VALUES ('x', 'x', 0)").stderr


def test_the_gateway_of_the_development_file_starts_again_when_code_changes(tmp_path: Path) -> None:
    it = Deployment(ROOT)
    command = it.dev["services"]["gateway"]["command"]
    for mount in it.dev["services"]["gateway"]["volumes"]:
        source = mount.partition(":")[0]
        shutil.copytree(ROOT / source, tmp_path / "app" / source, ignore=shutil.ignore_patterns("__pycache__"))
    port, log = free_port(), tmp_path / "log"
    env = {
        "PYTHONPATH": str(tmp_path / "app"),
        "STOKER_DATA_DIR": str(tmp_path / "data"),
        "STOKER_PORT": str(port),
        "STOKER_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "STOKER_DRAIN_S": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    python = [sys.executable, "-P", "-m"]
    subprocess.run([*python, "storage.migrate"], cwd=tmp_path, env={**env, "PATH": "/usr/bin:/bin"}, check=True)
    words = ["/bin/sh", "-c", f"cd {tmp_path} && exec {' '.join([*python, *command])}"]
    with running(words, log, lambda: answers(port, "/health/live"), env):
        health = tmp_path / "app/api/health.py"
        text = health.read_text()
        assert '"status": "ok"' in text
        health.write_text(text.replace('"status": "ok"', '"status": "changed"', 1))
        until(lambda: _status(port) == "changed", "the new code", 60)


def _status(port: int) -> str:
    import httpx

    try:
        return str(httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=5).json()["status"])
    except (httpx.HTTPError, ValueError):
        return ""
