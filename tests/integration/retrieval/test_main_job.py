"""Documents in, passages out, on real parts."""

from pathlib import Path

import pytest

from core.principal import Principal
from retrieval.errors import CollectionExists, CollectionNotFound, DocumentNotFound, JobNotFound
from retrieval.intake import NewFile
from retrieval.query import Mode, Query
from retrieval.search import SearchResult
from retrieval.status import JobStatus, Status
from tests.integration.retrieval.conftest import House

GUIDE = """# Harbour guide

The lighthouse was painted violet in 1931 by Maud Ferreira.

## Opening hours

The harbour office opens at 07:45 and closes at 16:30.

## Moorings

Visitors moor at pier K. The fee is 14 crowns a night, and STOKER_HARBOUR_FEE changes it.
"""


async def check_quotes(house: House, collection: str, result: SearchResult, who: Principal | None = None) -> None:
    for passage in result.passages:
        text = await house.retrieval.documents.content(
            who or house.principal, collection, passage.document_id, passage.document_version
        )
        assert text[passage.start : passage.end] == passage.text


async def test_a_fact_is_found_and_its_quote_verifies(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "port")
    async with house.worker():
        job = await house.ingest("port", guide=GUIDE, other="# Cooking\n\nBoil the rice for twelve minutes.")
    assert job.status is JobStatus.SUCCEEDED, job
    modes: tuple[Mode, ...] = ("hybrid", "dense", "lexical")
    for mode in modes:
        result = await house.retrieval.searcher.search(
            house.principal,
            Query("port", "When was the lighthouse painted violet?", top_k=3, mode=mode),
        )
        assert "1931 by Maud Ferreira" in result.passages[0].text
        assert result.passages[0].filename == "guide.md"
        assert result.collection_version == 2
        assert not result.degraded
        assert result.timings_ms["total"] > 0
        scores = [passage.score for passage in result.passages]
        assert scores == sorted(scores, reverse=True)
        await check_quotes(house, "port", result)


async def test_a_newer_upload_replaces_the_older_and_both_versions_can_be_read(house: House) -> None:
    collections, documents = house.retrieval.collections, house.retrieval.documents
    await collections.create(house.principal, "port")
    async with house.worker():
        first = await house.ingest("port", guide=GUIDE)
        second = await house.ingest("port", guide=GUIDE.replace("violet in 1931", "green in 1944"))
    assert first.documents[0].id == second.documents[0].id
    result = await house.retrieval.searcher.search(house.principal, Query("port", "lighthouse painted"))
    assert {passage.document_version for passage in result.passages} == {2}
    assert "green in 1944" in result.passages[0].text
    await check_quotes(house, "port", result)
    document_id = first.documents[0].id
    assert "violet" in await documents.content(house.principal, "port", document_id, 1)
    assert "green" in await documents.content(house.principal, "port", document_id)
    with pytest.raises(DocumentNotFound, match="version 3"):
        await documents.content(house.principal, "port", document_id, 3)
    collection = await collections.get(house.principal, "port")
    assert (collection.version, collection.documents) == (2, 1)
    assert collection.chunks == len(result.passages)


async def test_a_deleted_document_is_gone_at_once_and_leaves_no_statistics(house: House) -> None:
    retrieval = house.retrieval
    await retrieval.collections.create(house.principal, "port")
    async with house.worker():
        job = await house.ingest("port", guide=GUIDE)
    await retrieval.documents.delete(house.principal, "port", job.documents[0].id)
    result = await retrieval.searcher.search(house.principal, Query("port", "lighthouse"))
    assert result.passages == []
    collection = await retrieval.collections.get(house.principal, "port")
    assert (collection.chunks, collection.documents, collection.version) == (0, 0, 2)
    with pytest.raises(DocumentNotFound):
        await retrieval.documents.get(house.principal, "port", job.documents[0].id)
    with pytest.raises(DocumentNotFound):
        await retrieval.documents.delete(house.principal, "port", job.documents[0].id)


async def test_a_deleted_collections_name_is_free_again(house: House) -> None:
    collections = house.retrieval.collections
    old = await collections.create(house.principal, "port")
    with pytest.raises(CollectionExists):
        await collections.create(house.principal, "port")
    await collections.delete(house.principal, "port")
    with pytest.raises(CollectionNotFound):
        await collections.get(house.principal, "port")
    assert (await collections.create(house.principal, "port")).id != old.id
    await collections.create(house.principal, "quay", metadata={"owner": "harbour"})
    listed = await collections.list(house.principal)
    assert [collection.name for collection in listed] == ["port", "quay"]
    assert [found.name for found in await collections.list(house.principal, after=listed[0].id)] == ["quay"]


async def test_bad_files_fail_with_a_reason_and_can_be_deleted(house: House) -> None:
    retrieval = house.retrieval
    await retrieval.collections.create(house.principal, "port")
    files = [
        NewFile("empty.pdf", "application/pdf", b""),
        NewFile("corrupt.pdf", None, b"%PDF-1.7 this is no PDF"),
        NewFile("letter.txt", None, b"\x7fELF a program"),
        NewFile("good.txt", None, b"The good file is kept."),
    ]
    async with house.worker():
        job = await house.send("port", files)
    assert job.status is JobStatus.FAILED
    outcome = {document.filename: (document.status, document.error or "") for document in job.documents}
    assert outcome["good.txt"] == (Status.READY, "")
    for name, words in (("empty.pdf", "empty"), ("corrupt.pdf", "corrupt"), ("letter.txt", "executable")):
        status, error = outcome[name]
        assert status is Status.FAILED
        assert words in error.lower()
    for document in job.documents:
        await retrieval.documents.delete(house.principal, "port", document.id)
    assert await retrieval.documents.list(house.principal, "port") == []


async def test_another_tenant_sees_nothing(house: House) -> None:
    retrieval = house.retrieval
    await retrieval.collections.create(house.principal, "port")
    async with house.worker():
        job = await house.ingest("port", guide=GUIDE)
    stranger = await house.tenant()
    with pytest.raises(CollectionNotFound):
        await retrieval.searcher.search(stranger, Query("port", "lighthouse"))
    with pytest.raises(CollectionNotFound):
        await retrieval.documents.content(stranger, "port", job.documents[0].id)
    with pytest.raises(JobNotFound):
        await retrieval.jobs.get(stranger, job.id)
    waiting = await retrieval.intake.accept(house.principal, "port", [NewFile("late.md", None, b"Late.")])
    with pytest.raises(JobNotFound):
        await retrieval.jobs.cancel(stranger, waiting.job_id)
    assert (await retrieval.jobs.get(house.principal, waiting.job_id)).status is JobStatus.QUEUED
    with pytest.raises(CollectionNotFound):
        await retrieval.documents.delete(stranger, "port", job.documents[0].id)
    with pytest.raises(CollectionNotFound):
        await retrieval.collections.delete(stranger, "port")
    assert [one.version for one in await retrieval.documents.list(house.principal, "port")] == [1, 0]


async def test_filters_and_thresholds_narrow_a_search(house: House) -> None:
    retrieval = house.retrieval
    await retrieval.collections.create(house.principal, "port")
    files = [
        NewFile(f"{year}.md", None, f"Report of {year}: the lighthouse is fine.".encode(), {"year": year})
        for year in (1999, 2005, 2024)
    ]
    async with house.worker():
        await house.send("port", files)
    found = await retrieval.searcher.search(
        house.principal, Query("port", "lighthouse report", filter={"type": "gte", "key": "year", "value": 2005})
    )
    assert sorted(passage.metadata["year"] for passage in found.passages) == [2005, 2024]
    none = await retrieval.searcher.search(house.principal, Query("port", "lighthouse", score_threshold=0.9))
    assert none.passages == []


async def test_a_pdf_passage_carries_its_page(house: House, documents: Path) -> None:
    retrieval = house.retrieval
    await retrieval.collections.create(house.principal, "papers")
    data = (documents / "multi_page.pdf").read_bytes()
    async with house.worker():
        job = await house.send("papers", [NewFile("multi_page.pdf", None, data)])
    assert job.status is JobStatus.SUCCEEDED, job
    result = await retrieval.searcher.search(
        house.principal, Query("papers", "Who patented the typewriter in 1868?", top_k=1)
    )
    assert "Patented in 1868 by Christopher Latham Sholes" in " ".join(result.passages[0].text.split())
    assert result.passages[0].page == 1
    await check_quotes(house, "papers", result)
    assert (await retrieval.documents.get(house.principal, "papers", job.documents[0].id)).pages == 5
