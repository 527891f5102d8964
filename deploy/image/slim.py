"""`python slim.py ENVIRONMENT`: takes out of an installed environment what nobody runs in a container.

Tests and sources of libraries, symbols of what is compiled, the descriptions of AWS services that nothing here calls,
pages of LiteLLM's own proxy, spelling lists of other languages. `tests/deploy/test_image.py` imports everything
afterwards.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

KEPT_SERVICES = ("s3", "sts", "sso", "sso-oidc", "signin", "bedrock", "sagemaker", "secretsmanager")
"""Of botocore: the object store's, those by which credentials are had, and those of LiteLLM's providers."""

_REMOVED = (
    "litellm/proxy/_experimental/out",
    "litellm/proxy/swagger",
    "litellm/proxy/client",
    "litellm/proxy/management_endpoints",
    "litellm/proxy/_lazy_openapi_snapshot.json",
    "litellm/rust_bridge/_native.abi3.so",  # 37 MB; LiteLLM takes its Python code where it is not there
)
_TESTED = ("numpy", "pandas")
_SOURCES = frozenset((".a", ".c", ".h", ".pxd", ".pyi", ".pyx"))  # of what is compiled; of types
_SPOKEN = "en.json.gz"


def slim(environment: Path) -> int:
    """Take it out. Returns: bytes that went."""
    packages = next(environment.glob("lib/python3.*/site-packages"))
    before = size(environment)
    for path in _superfluous(packages):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    _strip(packages)
    return before - size(environment)


def size(folder: Path) -> int:
    """Bytes of all files, as an image's layer has them."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _superfluous(packages: Path) -> Iterator[Path]:
    yield from (path for name in _REMOVED if (path := packages / name).exists())
    yield from [path for path in packages.rglob("*") if path.suffix in _SOURCES and path.is_file()]
    for package in _TESTED:
        yield from [path for path in (packages / package).rglob("tests") if path.is_dir()]
    for path in [*(packages / "botocore" / "data").iterdir()]:
        if path.is_dir() and not path.name.startswith(KEPT_SERVICES):
            yield path
    for path in [*(packages / "spellchecker" / "resources").iterdir()]:
        if path.name != _SPOKEN:
            yield path


def _strip(packages: Path) -> None:
    """Symbols that nothing links by are a fifth of compiled code; folders `*.libs` were laid out by hand and stay."""
    compiled = [path for path in packages.rglob("*.so") if not path.parent.name.endswith(".libs")]
    for path in compiled:
        # A new file: one that is a hard link into a cache must not change there.
        stripped = path.with_suffix(".stripped")
        subprocess.run(["strip", "--strip-unneeded", "-o", stripped, path], check=True)  # noqa: S603, S607
        stripped.replace(path)


if __name__ == "__main__":
    print(f"{slim(Path(sys.argv[1])) / 1e6:.0f} MB taken out")
    sys.exit()
