"""Killed, stopped and missing parts: nothing is lost, nothing is shown twice, and it is said what is away."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from pymilvus import DataType, MilvusClient

from core.dependency import DependencyError, DependencyUnavailable
from core.ids import new_id
from retrieval.index import Place
from retrieval.intake import NewFile
from retrieval.milvus import VectorIndex
from retrieval.open import open_retrieval
from retrieval.query import Query
from retrieval.rows import fetch
from retrieval.status import JobStatus, Status
from storage.schema import revisions
from tests.integration.retrieval.conftest import House, Servers, kill, until
from tests.support.milvus import milvus_server
from tests.support.network import free_port
from tests.support.process import stop

LONG = "\n\n".join(
    f"## Paragraph {number}\n\n" + f"Ship {number} carried {number * 7} crates of tea to pier {number % 9}. " * 10
    for number in range(48)
)


@pytest.mark.slow
async def test_a_killed_workers_document_is_finished_by_the_next_once(house: House, tmp_path: Path) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    accepted = await house.retrieval.intake.accept(
        house.principal, "c", [NewFile("long.md", None, LONG.encode()), NewFile("short.md", None, b"Short.")]
    )
    quick = {"STOKER_LEASE_S": "2", "STOKER_HEARTBEAT_S": "0.3", "STOKER_POLL_S": "0.2"}
    first = house.worker_process(tmp_path / "first.log", **quick)
    try:

        async def embedding() -> bool | None:
            job = await house.retrieval.jobs.get(house.principal, accepted.job_id)
            return True if job.documents[0].status is Status.EMBEDDING else None

        await until(embedding, 60)
    finally:
        kill(first)
    found = await house.retrieval.searcher.search(house.principal, Query("c", "crates of tea"))
    assert found.passages == []
    second = house.worker_process(tmp_path / "second.log", **quick)
    try:
        job = await house.ended(accepted.job_id, 120)
    finally:
        stop(second)
    assert job.status is JobStatus.SUCCEEDED, job
    visible = sa.select(revisions.c.document_id).where(revisions.c.visible_from.is_not(None))
    assert sorted(row.document_id for row in await fetch(house.database, visible)) == sorted(accepted.document_ids)
    found = await house.retrieval.searcher.search(house.principal, Query("c", "ship 37 crates of tea", top_k=20))
    assert len({(passage.document_id, passage.start) for passage in found.passages}) == 20
    for passage in found.passages:
        text = await house.retrieval.documents.content(house.principal, "c", passage.document_id)
        assert text[passage.start : passage.end] == passage.text


@pytest.mark.heavy  # what is handed back and taken again is in test_leases.py
async def test_sigterm_hands_the_document_back(house: House, tmp_path: Path) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    accepted = await house.retrieval.intake.accept(house.principal, "c", [NewFile("long.md", None, LONG.encode())])
    worker = house.worker_process(tmp_path / "worker.log")
    try:

        async def working() -> bool | None:
            job = await house.retrieval.jobs.get(house.principal, accepted.job_id)
            return True if job.documents[0].status in (Status.EMBEDDING, Status.INDEXING) else None

        await until(working, 60)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 15) == 0
    finally:
        stop(worker)
    job = await house.retrieval.jobs.get(house.principal, accepted.job_id)
    assert (job.status, job.documents[0].status) == (JobStatus.QUEUED, Status.QUEUED)
    lease = await house.leases().acquire()
    assert lease is not None
    assert lease.attempt == 1
    assert '"stopped"' in (tmp_path / "worker.log").read_text()


async def test_with_the_embedding_server_away_hybrid_answers_by_words_alone(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    async with house.worker():
        await house.ingest("c", tide="The tide is high at noon.")
    settings = house.settings.model_copy(update={"embedding_url": f"http://127.0.0.1:{free_port()}"})
    async with open_retrieval(settings, house.database, house.redis, house.objects) as lame:
        found = await lame.searcher.search(house.principal, Query("c", "tide at noon"))
        assert found.degraded
        assert "dense search is away" in (found.degraded_reason or "")
        assert found.passages[0].text == "The tide is high at noon."
        with pytest.raises(DependencyError):
            await lame.searcher.search(house.principal, Query("c", "tide", mode="dense"))
        with pytest.raises(DependencyError):
            await lame.checks()["embeddings"]()
    await house.retrieval.checks()["embeddings"]()
    await house.retrieval.checks()["milvus"]()


async def test_an_outage_is_waited_for_and_then_counted(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    away = house.settings.model_copy(
        update={"embedding_url": f"http://127.0.0.1:{free_port()}", "outage_patience_s": 1.2}
    )
    impatient = replace(house, settings=away)
    async with impatient.worker():
        job = await house.ingest("c", tide="The tide is high.")
    assert job.status is JobStatus.FAILED
    assert "embeddings" in (job.documents[0].error or "")
    assert "3 attempts" in (job.documents[0].error or "")


@pytest.mark.slow
async def test_the_index_is_found_again_after_milvus_was_restarted(tmp_path: Path) -> None:
    port = free_port()
    index = VectorIndex(f"http://127.0.0.1:{port}", 5.0, 100)
    try:
        with pytest.raises(DependencyUnavailable):
            await index.check()
        with milvus_server(tmp_path, port):
            await until(lambda: answers(index), 20)
            await index.ensure(Place("col_1"), 4)
            await index.ensure(Place("col_1"), 4)
        with pytest.raises(DependencyUnavailable):
            await index.check()
        with milvus_server(tmp_path, port):
            await until(lambda: answers(index), 20)
            assert await index.count(Place("col_1")) == 0
            await index.delete_revisions(Place("col_absent"), ["rev_1"])
            await index.drop(Place("col_1"))
            await index.drop(Place("col_1"))
    finally:
        await index.close()


@pytest.mark.slow
async def test_a_kill_between_a_collections_folder_and_its_schema_costs_nothing(tmp_path: Path) -> None:
    """Milvus Lite was killed as it made a collection, by the worker that now comes again."""
    port = free_port()
    index = VectorIndex(f"http://127.0.0.1:{port}", 5.0, 100)
    begun, tried = (tmp_path / "data" / "collections" / name for name in ("col_1", "col_2"))
    for folder in (begun, tried):
        folder.mkdir(parents=True)
    (tried / "schema.json.tmp").write_text("{")
    try:
        with milvus_server(tmp_path, port):
            await until(lambda: answers(index), 20)
            for name in ("col_1", "col_2"):
                await index.ensure(Place(name), 4)
                assert await index.count(Place(name)) == 0
        with milvus_server(tmp_path, port):  # what is whole stays
            await until(lambda: answers(index), 20)
            assert sorted(await index.names()) == ["col_1", "col_2"]
    finally:
        await index.close()


async def test_a_half_made_index_is_finished_and_many_makers_disturb_nobody(servers: Servers) -> None:
    index, name = VectorIndex(servers.milvus_uri, 5.0, 100), new_id("col")
    client = MilvusClient(uri=servers.milvus_uri, dedicated=True)
    try:
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=9)
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=4)
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
        client.create_collection(name, schema=schema)  # as a worker leaves it that is killed here
        assert client.list_indexes(name) == []
        for each in (name, new_id("col")):
            await asyncio.gather(*(index.ensure(Place(each), 4) for _ in range(5)))
            assert sorted(client.list_indexes(each)) == ["dense", "sparse"]
            assert await index.count(Place(each)) == 0
    finally:
        client.close()
        await index.close()


async def answers(index: VectorIndex) -> bool | None:
    try:
        await index.check()
    except DependencyError:
        return None
    return True
