# ruff: noqa: E501  # a mistake is a line
"""The files that deploy Stoker hold to the rules, and each kind of mistake in them is found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from api.settings import ApiSettings
from inference.settings import EmbeddingSettings, VllmSettings
from router.config import load
from tests.deploy.deployment import API, EMBEDDING, VLLM, Deployment
from tests.deploy.rules import RULES, Rule
from tests.deploy.test_image import TMPFS

ROOT = Path(__file__).parents[2]
BIN = Path(sys.prefix) / "bin"
COMPOSE, API_FILE, INFERENCE_FILE = "docker-compose.gpu.yml", "Dockerfile.api", "Dockerfile.inference"
CADDY, CI, DEPLOY = "deploy/compose/Caddyfile", ".github/workflows/ci.yml", ".github/workflows/deploy.yml"
_FOLDERS = ("deploy", "scripts", "requirements", ".github", ".ci")
_PACKAGES = ("api", "core", "inference", "monitoring", "retrieval", "router", "storage")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_finds_nothing_wrong(rule: Rule) -> None:
    assert list(rule(Deployment(ROOT))) == []


def _checked(schema: str, *files: Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "check-jsonschema", "--builtin-schema", schema, *files]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _linted(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "hadolint", file], capture_output=True, text=True, check=False)


def test_compose_files_and_workflows_fulfil_their_schemas() -> None:
    compose = _checked("vendor.compose-spec", ROOT / COMPOSE, ROOT / "docker-compose.dev.yml")
    assert compose.returncode == 0, compose.stdout
    workflows = _checked("vendor.github-workflows", *sorted((ROOT / ".github/workflows").glob("*.yml")))
    assert workflows.returncode == 0, workflows.stdout


@pytest.mark.parametrize("name", [API_FILE, INFERENCE_FILE])
def test_the_linter_of_dockerfiles_has_nothing_to_say(name: str) -> None:
    done = _linted(ROOT / name)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files of the deployment; code is linked, for nobody changes it."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("secrets", "*.txt"))
    for path in (ROOT / "requirements").glob("*.txt"):
        (tmp_path / "requirements" / path.name).symlink_to(path)
    for name in (COMPOSE, "docker-compose.dev.yml", API_FILE, INFERENCE_FILE, ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in (*_PACKAGES, "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def _planted(copy: Path, file: str, replaces: str, by: str) -> None:
    text = (copy / file).read_text()
    assert replaces in text, "the place of this mistake has moved"
    (copy / file).write_text(text.replace(replaces, by, 1))


MISTAKES = [
    # compose
    (COMPOSE, "STOKER_REDIS_URL_FILE", "STOKER_REDIS_URI_FILE", "STOKER_REDIS_URI_FILE is no setting"),
    (COMPOSE, "STOKER_VLLM_MODEL:", "STOKER_VLLM_MODELL:", "STOKER_VLLM_MODELL is no setting"),
    (COMPOSE, "127.0.0.1:8080/health/live", "127.0.0.1:8080/healthz", "api/health.py serves no /healthz"),
    (COMPOSE, "127.0.0.1:9464/health", "127.0.0.1:9465/health", "its health check asks port 9465"),
    (COMPOSE, 'command: ["retrieval.worker"]', 'command: ["retrieval.workers"]', "there is no module retrieval.workers"),
    (COMPOSE, "http://milvus:19530", "http://milvus:19531", "milvus serves no port 19531"),
    (COMPOSE, "http://embedding:8081\n", "http://embeddings:8081\n", "finds no embeddings in its networks"),
    (COMPOSE, "./deploy/compose/valkey.conf", "./deploy/compose/redis.conf", "mounts ./deploy/compose/redis.conf"),
    (COMPOSE, "volumes:\n  state: {}", "volumes:\n  spare: {}\n  state: {}", "nobody uses the volume spare"),
    (COMPOSE, "    secrets: [postgres_password]\n", "", "which it does not have"),
    (COMPOSE, "secrets:\n  admin_key:", "secrets:\n  spare: { file: ./deploy/secrets/spare }\n  admin_key:", "secret spare"),
    (COMPOSE, "POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password", "POSTGRES_PASSWORD: planted", "in the environment"),
    (COMPOSE, "    user: \"999:1000\"\n", "    user: \"999:1000\"\n    ports: [{target: 6379, published: \"6379\"}]\n", "valkey: publishes"),
    (COMPOSE, "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "has capabilities"),
    (COMPOSE, "cap_add: [NET_BIND_SERVICE]", "cap_add: [SYS_ADMIN]", "front: has capabilities"),
    (COMPOSE, '["no-new-privileges:true"]', "[]", "may gain privileges"),
    (COMPOSE, "  read_only: true\n  tmpfs:", "  tmpfs:", "can write its root file system"),
    (COMPOSE, "    hostname: gpu-host", "    privileged: true\n    hostname: gpu-host", "dcgm-exporter: is privileged"),
    (COMPOSE, "/var/lib/docker/containers:/var/lib/docker/containers:ro", "/var/run/docker.sock:/var/run/docker.sock:ro", "socket"),
    (COMPOSE, "ipc: private", "ipc: host", "vllm: is privileged, or shares"),
    (COMPOSE, "    - /run/stoker/metrics:size=64m,uid=10001,gid=10001,mode=0700\n", "", "gateway: writes to"),
    (COMPOSE, "back: { internal: true }", "back: {}", "the network back is not internal"),
    (COMPOSE, "    networks: [vectors]\n    healthcheck:\n      test: [\"CMD\", \"etcdctl\"", "    networks: [back]\n    healthcheck:\n      test: [\"CMD\", \"etcdctl\"", "etcd: is in other networks"),
    (COMPOSE, "limits: { cpus: \"4\", memory: 4g }", "limits: { cpus: \"4\" }", "no limits of processors and memory"),
    (COMPOSE, "      max-size: 20m\n", "", "its log grows for ever"),
    (COMPOSE, "  restart: unless-stopped\n", "", "restarts: None"),
    (COMPOSE, "    healthcheck:\n      test: [\"CMD\", \"etcdctl\", \"endpoint\", \"health\"]\n      interval: 10s\n      timeout: 10s\n      retries: 6\n      start_period: 30s\n", "", "milvus: waits for etcd, which has no health check"),
    (COMPOSE, "STOKER_DRAIN_S: ${STOKER_DRAIN_S:-660}", "STOKER_DRAIN_S: ${STOKER_DRAIN_S:-30}", "it drains for 30 s"),
    (COMPOSE, "stop_grace_period: 690s", "stop_grace_period: 60s", "is killed after 60 s"),
    (COMPOSE, "stop_grace_period: 630s", "stop_grace_period: 45s", "drains for 600 s and is killed after 45 s"),
    (COMPOSE, "${VALKEY_IMAGE:?run scripts/compose.sh}", "valkey/valkey:latest", "is no image of deploy/images.env"),
    # what stands beside it
    ("deploy/images.env", "prom/prometheus:v3.15.0", "prom/prometheus:latest", "has no exact tag"),
    ("deploy/images.env", "python:3.11.15-slim-bookworm\n#", "python:3.11.14-slim-bookworm\n#", "Dockerfile.api: PYTHON_IMAGE is"),
    ("deploy/compose/env.example", "STOKER_WORKERS=2", "STOKER_WORKRES=2", "nobody reads STOKER_WORKRES"),
    ("deploy/compose/env.example", "SERVED_MODEL_NAME=qwen3-8b", "SERVED_MODEL_NAME=qwen", "and vLLM serves qwen"),
    ("deploy/compose/stoker.yaml", "http://vllm:8000", "http://vllm:8001", "serves no port 8001"),
    ("deploy/compose/stoker.yaml", "gpu-host:0", "gpu-host:1", "run `scripts/compose.sh monitoring`"),
    ("deploy/compose/grafana.yml", "http://loki:3100", "http://loki:3101", "loki serves no port 3101"),
    ("deploy/compose/alloy.config", 'values = ["service", "level"]', 'values = ["service", "level", "filename"]', "other labels"),
    ("deploy/compose/alloy.config", 'level = "level"}', 'level = "level", trace = "trace_id"}', "other labels"),
    ("deploy/monitoring/prometheus.yml", "gateway:8080", "api:8080", "finds no api in its networks"),
    ("deploy/compose/monitoring/keepers.yml", "keeper:9464", "keeper:9400", "keeper serves no port 9400"),
    ("scripts/init_secrets.sh", "keep redis_url ", "keep redis_uri ", "makes no redis_url"),
    ("docker-compose.dev.yml", "host_ip: 127.0.0.1", "host_ip: 0.0.0.0", "publishes to others"),
    ("docker-compose.dev.yml", "./retrieval:/app", "./retrievel:/app", "mounts ./retrievel, which is not there"),
    (CADDY, "grace_period 690s", "grace_period 10s", "front: drains for 10 s"),
    (CADDY, "max_size 72MB", "max_size 10MB", "so clients get a foreign error"),
    (CADDY, "lb_try_duration 10s", "flush_interval -1", "from noticing that a client has left"),
    (CADDY, "gateway:8080", "gateway:80", "gateway serves no port 80"),
    # Dockerfiles
    (API_FILE, "COPY storage /app/storage", "COPY storages /app/storage", "copies storages, which is not there"),
    (".dockerignore", "!retrieval\n", "", "copies retrieval, which .dockerignore keeps out"),
    (API_FILE, "USER 10001:10001", "USER 0:0", "ends as another user"),
    (API_FILE, 'ENTRYPOINT ["python", "-m"]', "ENTRYPOINT python -m", "ENTRYPOINT is not in exec form"),
    (API_FILE, "--require-hashes ", "", "installs without hashes"),
    (INFERENCE_FILE, "vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:latest", "Dockerfile.inference: VLLM_IMAGE is"),
    # workflows
    (CI, "actions/checkout@v7", "actions/checkout@main", "is not pinned"),
    (CI, "permissions:\n  contents: read\n", "", "has no permissions"),
    (CI, "    timeout-minutes: 45\n", "", "images has no timeout-minutes"),
    (CI, "scripts/try_image.sh", "scripts/tried_image.sh", "runs scripts/tried_image.sh, which is not there"),
    (DEPLOY, "    environment: { name: production }", "    # none", "neither for staging nor for an approval"),
    (DEPLOY, "    needs: staging\n", "", "neither for staging nor for an approval"),
    (DEPLOY, '"$VERSION"', '"${{ github.event.inputs.version }}"', "a stranger's text into a shell"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "replaces", "by", "said"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_planted_mistake_is_found(copy: Path, file: str, replaces: str, by: str, said: str) -> None:
    _planted(copy, file, replaces, by)
    complaints = [complaint for rule in RULES for complaint in rule(Deployment(copy))]
    assert any(said in complaint for complaint in complaints), complaints


def test_an_unchanged_copy_has_no_mistake(copy: Path) -> None:
    assert [complaint for rule in RULES for complaint in rule(Deployment(copy))] == []


@pytest.mark.parametrize(
    ("schema", "file", "replaces", "by"),
    [
        ("vendor.compose-spec", COMPOSE, "start_period: 30m", "start_periode: 30m"),
        ("vendor.compose-spec", COMPOSE, "capabilities: [gpu]", "capability: [gpu]"),
        ("vendor.github-workflows", CI, "runs-on:", "run-on:"),
        ("vendor.github-workflows", DEPLOY, "workflow_dispatch:", "workflow_dispatched:"),
    ],
)
def test_a_word_that_a_schema_does_not_know_is_found(
    copy: Path, schema: str, file: str, replaces: str, by: str
) -> None:
    _planted(copy, file, replaces, by)
    assert _checked(schema, copy / file).returncode != 0


@pytest.mark.parametrize(
    ("file", "replaces", "by"),
    [
        (API_FILE, "FROM ${BUILDER_IMAGE} AS builder", "FROM python:latest AS builder"),
        (API_FILE, "USER 10001:10001", "USER root"),
        (INFERENCE_FILE, "WORKDIR /app", "WORKDIR app"),
    ],
)
def test_the_linter_finds_a_planted_mistake(copy: Path, file: str, replaces: str, by: str) -> None:
    _planted(copy, file, replaces, by)
    assert _linted(copy / file).returncode != 0


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    subprocess.run([ROOT / "scripts/init_secrets.sh", folder], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("service", API)
def test_the_api_sides_settings_take_what_compose_gives_them(
    service: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Deployment(ROOT)
    files = {path: it.compose["secrets"][name]["file"].rpartition("/")[2] for name, path in it.secrets(service).items()}
    for name, value in it.environment(service).items():
        monkeypatch.setenv(name, str(secrets / files[value]) if value in files else value)
    settings = ApiSettings()
    password = (secrets / "postgres_password").read_text().strip()
    assert settings.sql_url() == f"postgresql+asyncpg://stoker:{password}@postgres:5432/stoker"
    if service != "migrate":
        assert settings.redis_address().endswith("@valkey:6379/0")
    if service == "gateway":
        config = load(ROOT / it.example["STOKER_CONFIG_FILE"], settings.local_deployments)
        assert {deployment.kind for deployment in config.deployments} == {"chat", "embedding", "rerank"}
        assert settings.drain_s >= settings.request_deadline_s


@pytest.mark.parametrize("service", [*VLLM, *EMBEDDING])
def test_the_inference_sides_settings_take_what_compose_gives_them(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in Deployment(ROOT).environment(service).items():
        monkeypatch.setenv(name, value)
    if service in VLLM:
        assert VllmSettings().otlp_endpoint == "http://jaeger:4318"
    else:
        assert EmbeddingSettings().served_model_name == "all-minilm-l6-v2"


def test_what_compose_lets_the_api_side_write_is_what_its_image_was_tried_with() -> None:
    form = yaml.safe_load((ROOT / COMPOSE).read_text())["services"]["gateway"]
    written = {one.partition(":")[0] for one in form["tmpfs"]} | {"/var/lib/stoker"}
    assert written == set(TMPFS)
