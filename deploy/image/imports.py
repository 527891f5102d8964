"""`python imports.py`: imports every module of the API side, keeps its bytecode, and fails where one is missing.

Only what is imported is compiled: the bytecode of all files would weigh twice as much. It is not held against times of
files, which an image may change; the files themselves cannot change there.
"""

import importlib
import pkgutil
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("api", "core", "monitoring", "retrieval", "router", "storage")

_ELSEWHERE = ("retrieval.lite.", "retrieval.ocr_child", "storage.migrations.")
"""What runs inside Milvus Lite, or in the environment of text recognition, or is read by Alembic as files."""


def modules() -> Iterator[str]:
    """Names of all modules that run in the image."""
    for package in PACKAGES:
        yield package
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not found.name.startswith(_ELSEWHERE) and not found.name.endswith("__main__"):
                yield found.name


def keep_bytecode() -> int:
    """Compile what has been imported. Returns: how many modules."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    sources = sorted(name for name in files if name and name.endswith(".py") and Path(name).is_file())
    for name in sources:
        py_compile.compile(name, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return len(sources)


if __name__ == "__main__":
    for name in modules():
        importlib.import_module(name)
    print(f"{keep_bytecode()} modules")
