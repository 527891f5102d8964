"""What the code says of its processes: their settings, the paths that they serve, and what they connect to."""

import ast
import re
from functools import cache
from pathlib import Path

from fastapi.routing import iter_route_contexts
from pydantic_settings import BaseSettings

from api.app import create_app
from api.settings import ApiSettings
from cli.settings import CliSettings
from inference.settings import EmbeddingSettings, VllmSettings
from retrieval.settings import RetrievalSettings
from storage.settings import StorageSettings
from tests.support.process import ROOT

SETTINGS: dict[str, type[BaseSettings]] = {
    "api": ApiSettings,
    "api.keeper": ApiSettings,
    "retrieval.worker": RetrievalSettings,
    "storage.migrate": StorageSettings,
    "inference.embeddings": EmbeddingSettings,
    "inference.vllm": VllmSettings,
    "inference.probe": VllmSettings,
    "cli": CliSettings,
}
"""By module, what it reads its variables with."""

ADDRESSES = {
    "sql_url": "database_url",
    "redis_address": "redis_url",
    "redis_url": "redis_url",
    "milvus_uri": "milvus_uri",
    "embedding_url": "embedding_url",
    "object_store_url": "object_store",
    "gateway_url": "gateway_url",
    "otlp_endpoint": "otlp_endpoint",
    "sentry_dsn": "sentry_dsn",
    "budget_webhook": "budget_webhook",
    "hosted_embeddings_url": "hosted_embeddings_url",
}
"""What code reads of its settings to connect somewhere, and the field that says where."""

_OWN = ("api", "cli", "core", "inference", "monitoring", "retrieval", "router", "storage")
_PATH = re.compile(r"""(?:web\.get|app\.get)\("(/[a-z/]+)\"""")
_VLLM_PATHS = frozenset({"/health", "/metrics"})  # of vLLM's own server, which the router's watch asks for, too


@cache
def paths(module: str) -> frozenset[str]:
    """What a process answers on GET, by its module."""
    if module == "api":
        return frozenset(str(context.path) for context in iter_route_contexts(create_app(ApiSettings()).routes))
    if module == "inference.vllm":
        return _VLLM_PATHS
    file = "inference/embeddings.py" if module == "inference.embeddings" else "monitoring/serving.py"
    return frozenset(_PATH.findall((ROOT / file).read_text()))


@cache
def connects(module: str) -> frozenset[str]:
    """The fields of settings that say where a process connects, of all that its modules read."""
    read = {name for file in _reached(module) for name in _read_of_settings(file)}
    return frozenset(ADDRESSES[name] for name in read if name in ADDRESSES)


def exists(module: str) -> bool:
    """Whether `python -m MODULE` runs."""
    file = _file(module)
    return file is not None and (file.name == "__main__.py" or '__name__ == "__main__"' in file.read_text())


def _file(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    for found in (path.with_suffix(".py"), path / "__main__.py"):
        if found.is_file():
            return found
    return None


def _reached(module: str) -> set[Path]:
    entry = _file(module)
    assert entry is not None, module
    found, left = set[Path](), [entry]
    if module == "api":  # uvicorn imports it by its name
        left.append(ROOT / "api" / "app.py")
    while left:
        file = left.pop()
        if file in found:
            continue
        found.add(file)
        left += [there for there in _imported(file) if there not in found]
    return found


@cache
def _imported(file: Path) -> list[Path]:
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    paths = [ROOT / name.replace(".", "/") for name in names if name.partition(".")[0] in _OWN]
    files = [file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py")]
    return [file for file in files if file.is_file()]


@cache
def _read_of_settings(file: Path) -> frozenset[str]:
    if file.name == "settings.py":
        return frozenset()
    nodes = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute))
    return frozenset(node.attr for node in nodes if _name(node.value).endswith("settings"))


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
