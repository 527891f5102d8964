"""A container without an engine: overlays on this machine's files, entered by chroot in a mount namespace of its own.

What a step writes lands in a folder of its own, as a layer's files do; so an image's build is replayed, weighed, and
started read-only as another user. Python is this interpreter's, mounted where Docker's image has it.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Stage, replaced

ROOT = Path(__file__).parents[2]
UV = ROOT / ".stoker/envs/uv/bin/uv"
_PYTHON = Path(sys.base_prefix)
_STEP_S = 400
_OUTSIDE = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Container:
    """Files above this machine's own.

    Attributes:
        layer: folder of what was written.
    """

    layer: Path

    @property
    def _merged(self) -> Path:
        return self.layer.with_name(self.layer.name + ".root")

    def path(self, inside: str) -> Path:
        """Where the layer keeps a path of the container."""
        return self.layer / inside.lstrip("/")

    def script(self, command: str, *, read_only: bool = False, tmpfs: Sequence[str] = (), uid: int = 0) -> list[str]:
        """What enters the container and runs a shell's command; as another user it has no capability left."""
        root, work = self._merged, self.layer.with_name(self.layer.name + ".work")
        for folder in (self.layer, root, work):
            folder.mkdir(parents=True, exist_ok=True)
        binds = [("--rbind", "/proc", "/proc"), ("--rbind", "/dev", "/dev"), ("--bind", str(_PYTHON), "/usr/local")]
        lines = [
            "set -e",
            "mount --make-rprivate /",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={self.layer},workdir={work} {root}",
            *(f"mkdir -p {root}{folder}" for folder in (_CACHE, *tmpfs)),
            *(f"mount {flag} {source} {root}{target}" for flag, source, target in binds),
            f"mount --bind {_uv_cache()} {root}{_CACHE}",
        ]
        if read_only:
            lines += [f"mount -o remount,ro {root}"]
        lines += [f"mount -t tmpfs -o uid={uid},gid={uid},mode=0700 tmpfs {root}{folder}" for folder in tmpfs]
        drop = (
            f"setpriv --reuid {uid} --regid {uid} --clear-groups --no-new-privs --bounding-set=-all -- " if uid else ""
        )
        lines += [f"exec chroot {root} {drop}/bin/sh -c {shlex.quote(command)}"]
        return ["unshare", "--mount", "bash", "-c", "\n".join(lines)]

    def run(self, command: str, env: Mapping[str, str], folder: str = "/") -> str:
        """Run a command to its end. Returns: its output. Raises: AssertionError: it failed."""
        done = subprocess.run(
            self.script(f"cd {folder} && {command}"),
            env={**outside(), **env},
            capture_output=True,
            text=True,
            timeout=_STEP_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stdout


_CACHE = "/var/cache/wheels"


def built(folder: Path, stages: Sequence[Stage], context: Path) -> Container:
    """Replay all steps of all stages that change files. Returns: the last one's container.

    uv is there already, in the version that the file names, and takes wheels out of this machine's cache.
    """
    made: dict[str, Container] = {}
    container = Container(folder)
    for number, stage in enumerate(stages):
        container = Container(folder / str(number))
        container.path("/usr/bin").mkdir(parents=True)
        shutil.copy2(UV, container.path("/usr/bin/uv"))
        environment, at = stage.environment(), "/"
        container.run("ldconfig", environment)
        values = {**stage.arguments, **environment}
        for instruction, text in stage.steps:
            if instruction == "WORKDIR":
                at = text
                container.path(at).mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                _copy(container, made, Stage("", "", {}, [("COPY", text)]), context, at)
            elif instruction == "RUN" and "pip install" in text and "uv==" in text:
                assert f"uv {values['UV_VERSION']}" in subprocess.check_output([UV, "--version"], text=True)
            elif instruction == "RUN":
                container.run(replaced(text, values).replace("--no-cache ", ""), environment, at)
        container.path("/usr/bin/uv").unlink()
        made[stage.name] = container
    return container


def _copy(container: Container, made: Mapping[str, Container], one: Stage, context: Path, at: str) -> None:
    ((origin, sources, target),) = one.copies()
    for source in sources:
        found = made[origin].path(source) if origin else context / source
        place = container.path(os.path.join(at, target))
        if found.is_dir():
            shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True, ignore=_ignored)
        else:
            to = place / found.name if target.endswith("/") else place
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, to)


def _ignored(folder: str, names: list[str]) -> list[str]:
    """What .dockerignore keeps out; an environment's own bytecode was made in the build."""
    return [name for name in names if name == "__pycache__"] if ROOT in Path(folder).parents else []


def outside() -> dict[str, str]:
    """Where packages come from, for uv, which does not read pip's settings."""
    found = {name: os.environ[name] for name in _OUTSIDE if name in os.environ}
    if "PIP_FIND_LINKS" in os.environ:
        found["UV_FIND_LINKS"] = os.environ["PIP_FIND_LINKS"]
    return {**found, "UV_CACHE_DIR": _CACHE}


def _uv_cache() -> str:
    return subprocess.check_output([UV, "cache", "dir"], text=True).strip()


def needs_namespaces() -> None:
    """Skips the test where this user may make no mount namespace with overlays."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if done.returncode != 0 or os.geteuid() != 0:
        pytest.skip("only root may replay an image's build: mount namespaces, overlays and other users are needed")
