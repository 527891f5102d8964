"""Trees of the code of another version, to be run beside this one."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.process import ROOT

_PACKAGES = ("api", "core", "monitoring", "retrieval", "router", "storage")
_VERSIONS = Path("storage/migrations/versions")
_LOOKED_AT = 200  # commits
_NEXT = '''"""A column and a table that only the next version uses"""

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{before}"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("of_the_next", sa.String(9)))
    op.add_column("files", sa.Column("also_of_the_next", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table("of_the_next", sa.Column("id", sa.String(9), primary_key=True))


def downgrade() -> None:
    op.drop_table("of_the_next")
    op.drop_column("files", "also_of_the_next")
    op.drop_column("api_keys", "of_the_next")
'''


def next_version(folder: Path) -> Path:
    """This tree, one migration later, which calls itself 9.0.0. Returns: its folder."""
    for package in _PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    newest = max(path.name[:4] for path in (ROOT / _VERSIONS).glob("[0-9]*.py"))
    (folder / _VERSIONS / "9001_next.py").write_text(_NEXT.format(before=newest))
    version = folder / "core" / "version.py"
    version.write_text(re.sub(r'VERSION = ".*"', 'VERSION = "9.0.0"', version.read_text()))
    return folder


def earlier_version(folder: Path, migrations: int) -> Path | None:
    """The newest commit with so many migrations fewer. Returns: its folder; None: this clone's history ends before."""
    fewer = len(list((ROOT / _VERSIONS).glob("[0-9]*.py"))) - migrations
    for commit in _git("rev-list", "--first-parent", f"--max-count={_LOOKED_AT}", "HEAD").split():
        there = [name for name in _git("ls-tree", "--name-only", commit, f"{_VERSIONS}/").split() if name[-3:] == ".py"]
        if len(there) <= fewer:
            folder.mkdir(parents=True)
            archive = folder / "tree.tar"
            _git("archive", "--output", str(archive), commit, *_PACKAGES)
            shutil.unpack_archive(archive, folder, filter="data")
            return folder
    return None


def _git(*words: str) -> str:
    """What git says; nothing where this is no clone, or its history ends."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return ""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout
