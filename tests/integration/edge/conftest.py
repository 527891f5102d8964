"""An origin on real parts that answers by quotes, one export of it, and an edge that serves this."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support import edge
from tests.support.answering import Desk, desk
from tests.support.collections import Judged, load_own
from tests.support.engines import prepare_model, start_embeddings
from tests.support.milvus import milvus_server

COLLECTION = "handbook"
SECRET = "The harbour master's private gate code is 90210."  # for one user alone
PIER = {"place": "pier", "year": 2020}


@dataclass(frozen=True)
class Origin:
    """The gateway that was exported from."""

    desk: Desk
    judged: Judged
    model: str
    everyone: httpx.Client  # by a key that reads what everyone may read

    @property
    def url(self) -> str:
        return self.desk.gate.url

    def export(self, to: Path, *words: str, collection: str = COLLECTION, key: str | None = None) -> str:
        """Export to a folder. Returns: what was said."""
        flags = ("--embedding-model", self.model, "--output", str(to))
        done = edge.export(self.url, key or self.desk.gate.key, collection, *flags, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="package")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    folder = tmp_path_factory.mktemp("origin")
    judged = load_own()
    model, _ = prepare_model("embedding")
    quoting = {"STOKER_ANSWER_GENERATE": "quote", "STOKER_MAX_BATCH_FILES": "200"}
    with (
        start_embeddings(folder, "--dtype", "float32") as engine,
        milvus_server(folder / "milvus") as milvus_uri,
        desk(folder / "gate", milvus_uri, engine.url, quoting) as opened,
    ):
        opened.fill(COLLECTION, [(f"{name}.md", text.encode()) for name, text in judged.documents.items()])
        accepted = opened.client.post(
            "/v1/ingest",
            json={
                "collection": COLLECTION,
                "documents": [
                    {"title": "gates.md", "content": SECRET, "acl": {"users": ["usr_harbour"]}},
                    {
                        "title": "pier.md",
                        "content": "The pier opens at 9.",
                        "metadata": {"place": "pier", "year": 2020},
                    },
                ],
            },
        ).json()
        opened.ended(accepted["job_id"])
        with _key(opened, "everyone") as everyone:
            yield Origin(opened, judged, model, everyone)


@contextmanager
def _key(opened: Desk, name: str) -> Iterator[httpx.Client]:
    """A client by a key of a member."""
    limits = {"rpm": 100_000, "tpm": 100_000_000, "parallel": 100}
    made = opened.client.post("/v1/admin/keys", json={"name": name, "role": "member", "limits": limits})
    assert made.status_code == 201, made.text
    with httpx.Client(
        base_url=opened.gate.url, headers={"authorization": f"Bearer {made.json()['key']}"}, timeout=120
    ) as client:
        yield client


@pytest.fixture(scope="package")
def folder(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("carried") / "handbook.edge"
    origin.export(to)
    return to


@pytest.fixture(scope="package")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge.Served]:
    with edge.serve(folder, tmp_path_factory.mktemp("edge") / "edge.log") as one:
        yield one
