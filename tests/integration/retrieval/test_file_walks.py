"""The walks of versions and of reindexes with documents that are copies of files, some with a cutting of their own.

They stand apart from the other walks, so that what those meet does not change.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from retrieval import generations
from tests.integration.retrieval.conftest import Servers
from tests.integration.retrieval.test_reindex_walks import ReindexWalk
from tests.integration.retrieval.test_versions import STEPS, Walk, World, world
from tests.support.engines import Engine

__all__ = ["world"]

SEED = int(os.environ.get("FILE_WALKS_SEED", "1"))
FEW, SOME, MANY = 2, 3, 200  # walks of each kind
HELD_BACK = 20  # twins lacking, as usual


@pytest.fixture(scope="module")
def servers(servers: Servers, two_spaces: Engine) -> Servers:
    return replace(servers, embedding_url=two_spaces.url)


class OfFiles:
    """Two files of the name of a document without one."""

    chance: Any

    def choose(self) -> tuple[str, str | None]:
        name = self.chance.choice(["x", "x", "y", "x@0", "x@1", "x@1"])
        return name, self.chance.choice([None, None, "own"])


class FileWalk(OfFiles, Walk): ...


class FileReindexWalk(OfFiles, ReindexWalk): ...


@pytest.mark.parametrize(
    "walks",
    [
        pytest.param(FEW, marks=pytest.mark.light),
        pytest.param(SOME, marks=pytest.mark.heavy),
        pytest.param(MANY, marks=pytest.mark.long),
    ],
)
def test_copies_of_files_do_what_the_model_does(
    world: World, walks: int, figure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "_FEW", HELD_BACK)
    for seed in range(SEED, SEED + walks):
        for walk in (FileWalk(world, seed), FileReindexWalk(world, seed, HELD_BACK)):
            walk.make("pooled" if seed % 2 == 0 else "dedicated")
            try:
                for _ in range(STEPS):
                    walk.step()
                walk.settle()
            except BaseException as error:
                error.add_note(f"FILE_WALKS_SEED={seed}")
                raise
            finally:
                walk.close()
            cuts = {cut for document in walk.model.documents.values() for cut in document.cuts}
            world.hit["walks in which both cuttings were seen"] += "own" in cuts and len(cuts) > 1
    figure(f"{walks} walks of each kind from seed {SEED}: {json.dumps(dict(sorted(world.hit.items())))}")
    for happened in (
        "published",
        "uploads of files",
        "uploads of what was there",
        "reindexes done",
        "walks in which both cuttings were seen",
    ):
        assert world.hit[happened], happened
