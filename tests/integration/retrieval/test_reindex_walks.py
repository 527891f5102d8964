"""Reindexes on the real stores beside their model, step by step, while uploads, changes, readers and kills go on."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from retrieval import generations
from retrieval.index import Place
from retrieval.reindex import Reindexes
from retrieval.rows import fetch
from retrieval.snapshot import pin
from storage.schema import collections, coming_frequencies, documents, revision_terms, tasks, term_frequencies
from tests.integration.retrieval.conftest import Servers
from tests.integration.retrieval.test_versions import LEASE_S, STEPS, Walk, World, paragraphs, world
from tests.support.engines import Engine
from tests.support.versions import Task

__all__ = ["world"]

SEED = int(os.environ.get("REINDEX_SEED", "1"))
FEW, SOME, MANY = 3, 4, 400  # walks
FINE, COARSE = {"characters": 100}, {"characters": 1000, "tokens": 400}
CUTS = {"fine": FINE, "coarse": COARSE}


@pytest.fixture(scope="module")
def servers(servers: Servers, two_spaces: Engine) -> Servers:
    return replace(servers, embedding_url=two_spaces.url)


class ReindexWalk(Walk):
    """A walk in which the collection is indexed anew, in this space or in that one, cut in one way or another."""

    def __init__(self, world: World, seed: int, few: int) -> None:
        super().__init__(world, seed)
        self.model.few = few
        self.acts += [(8, self.begin_reindex), (1, self.cancel_reindex), (6, self.advance), (3, self.come_to_the_end)]

    def make(self, placement: str) -> None:
        super().make(placement)
        self.model.cut = "fine"
        self.reindexes = Reindexes(
            self.database,
            self.world.redis,
            self.collections,
            self.world.embedder,
            self.clock,
            self.world.settings,
        )

    def begin_reindex(self) -> None:
        empty = not any(one.contents and not one.deleted for one in self.model.documents.values())
        if self.model.next_cut is not None or (empty and self.chance.random() < 0.9):
            return
        cut = self.chance.choice(sorted(CUTS))
        spaces = self.run(self.world.embedder.spaces())
        model = self.chance.choice(spaces).name
        self.run(self.reindexes.begin(self.manager, "c", model, CUTS[cut]))
        made = self.model.begin_reindex(self.now_s, cut)
        self.learn(made)
        self.world.hit["reindexes begun"] += 1
        if not made:
            self.switched(True)

    def cancel_reindex(self) -> None:
        if self.model.next_cut is not None:
            self.run(self.reindexes.cancel(self.manager, "c"))
            self.model.cancel_reindex()
            self.world.hit["reindexes cancelled"] += 1

    def advance(self) -> None:
        answered = self.run(generations.advance(self.database, self.clock))
        made, switched = self.model.advance(self.now_s)
        assert answered == switched
        self.learn(made)
        self.switched(switched)

    def switched(self, switched: bool) -> None:
        if switched:
            self.world.hit["reindexes done"] += 1
            self.world.hit["reindexes done while somebody read"] += bool(self.readers)
            self.run(self.look_for_place())
        self.run(self.check_counts())

    def come_to_the_end(self) -> None:
        for _ in range(4):
            if self.model.next_cut is not None:
                self.work_all_off()
                self.advance()

    def learn(self, made: list[Task]) -> None:
        """Find out which tasks of the catalog are the model's."""

        async def find() -> None:
            known = sa.select(tasks.c.job_id, tasks.c.document_id).where(tasks.c.generation.is_not(None))
            new = [
                (row.job_id, row.document_id)
                for row in await fetch(self.database, known)
                if (row.job_id, row.document_id) not in self.tasks
            ]
            assert sorted(document_id for _, document_id in new) == sorted(task.document.id for task in made)
            self.tasks |= {key: next(one for one in made if one.document.id == key[1]) for key in new}
            self.world.hit["twins queued"] += len(new)

        self.run(find())

    async def look_for_place(self) -> None:
        (row,) = await fetch(self.database, sa.select(collections).where(collections.c.id == self.place.collection_id))
        self.place = Place(row.id, row.pool, row.generation)
        self.world.hit[f"switched to {row.embedding_space}, {'pooled' if row.pool else 'dedicated'}"] += 1

    async def check_counts(self) -> None:
        """The statistics in force are those of the visible revisions, and the coming ones of the twins."""
        seen = await fetch(
            self.database,
            sa.select(revision_terms.c.terms).where(
                revision_terms.c.revision_id.in_(
                    sa.select(documents.c.revision_id).where(
                        documents.c.deleted_at.is_(None), documents.c.revision_id.is_not(None)
                    )
                )
            ),
        )
        counted: dict[str, int] = {}
        for row in seen:
            for term, count in row.terms.items():
                counted[term] = counted.get(term, 0) + count
        kept = await fetch(self.database, sa.select(term_frequencies.c.term, term_frequencies.c.chunks))
        assert {row.term: row.chunks for row in kept} == counted
        pinned = await pin(self.database, self.manager.tenant_id, "c", list(counted))
        visible = [one for one in self.model.documents.values() if one.contents and not one.deleted]
        assert pinned.chunks == sum(len(self.parts_of(one.id, len(one.contents), one.contents[-1])) for one in visible)
        if self.model.next_cut is None:
            assert not await fetch(self.database, sa.select(coming_frequencies.c.term))

    def parts_of(self, document_id: str, number: int, content: str) -> list[str]:
        if self.model.documents[document_id].cuts[number - 1] == "fine":
            return paragraphs(content)
        return ["\n\n".join(paragraphs(content))]

    def one_call(self, worker: Any) -> None:
        task = worker.task
        before = task.document.twin
        super().one_call(worker)
        self.world.hit["twins made"] += task.document.twin is not before and task.twin

    def tidy(self) -> None:
        super().tidy()
        self.advance()

    def settle(self) -> None:
        self.all_read_to_the_end()
        if self.chance.random() < 0.3:
            self.cancel_reindex()
        while self.model.next_cut is not None:
            self.pass_time(LEASE_S + 1)
            self.tidy()
            self.work_all_off()
        super().settle()


@pytest.mark.parametrize(
    "walks",
    [
        pytest.param(FEW, marks=pytest.mark.light),
        pytest.param(SOME, marks=pytest.mark.heavy),
        pytest.param(MANY, marks=pytest.mark.long),
    ],
)
def test_reindexes_do_what_the_model_does(
    world: World, walks: int, figure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(SEED, SEED + walks):
        few = (20, 0, 1)[seed % 3]  # with 0, nothing is ever held back
        monkeypatch.setattr(generations, "_FEW", few)
        walk = ReindexWalk(world, seed, few)
        walk.make("pooled" if seed % 2 == 0 else "dedicated")
        try:
            steps = [walk.step() for _ in range(STEPS)]
            walk.settle()
        except BaseException as error:
            error.add_note(f"REINDEX_SEED={seed}")
            raise
        finally:
            walk.close()
        world.hit.update(steps)
    figure(f"{walks} walks from seed {SEED}: {json.dumps(dict(sorted(world.hit.items())))}")
    for happened in (
        "published",
        "refused to zombies",
        "twins made",
        "reindexes done",
        "reindexes done while somebody read",
        "reindexes cancelled",
    ):
        assert world.hit[happened], happened
