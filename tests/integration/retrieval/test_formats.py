"""Files of every format on real parts: found and quoted exactly, or failed with a reason; hostile ones fail alone."""

import json
import unicodedata
from pathlib import Path

import pytest

from retrieval.intake import NewFile
from retrieval.query import Query
from retrieval.status import JobStatus, Status
from tests.integration.retrieval.conftest import House
from tests.unit.retrieval.files import docx


@pytest.mark.heavy  # parsers read them all in tests/unit/retrieval
async def test_real_files_are_found_and_quoted_or_failed_with_a_reason(house: House, documents: Path) -> None:
    entries = json.loads((documents / "expected.json").read_text())
    await house.retrieval.collections.create(house.principal, "real")
    async with house.worker():
        files = [NewFile(entry["file"], None, (documents / entry["file"]).read_bytes()) for entry in entries]
        job = await house.send("real", files)
    assert job.status is not JobStatus.SUCCEEDED  # some of them can't be read
    ended = {document.filename: document for document in job.documents}
    for entry in entries:
        document = ended[entry["file"]]
        if entry["expect"] != "text":
            assert document.status is Status.FAILED, document
            assert document.error, document
            continue
        assert document.status is Status.READY, document
        text = await house.retrieval.documents.content(house.principal, "real", document.id)
        squeezed = " ".join(unicodedata.normalize("NFKC", text).split())
        for phrase in entry["phrases"]:
            assert phrase in squeezed, entry["file"]
        result = await house.retrieval.searcher.search(house.principal, Query("real", entry["phrases"][0], top_k=20))
        assert entry["file"] in {passage.filename for passage in result.passages}
        for passage in result.passages:
            if passage.document_id == document.id:
                assert text[passage.start : passage.end] == passage.text


async def test_a_hostile_file_fails_alone(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "mixed")
    bomb = docx([b" " * 2**20] * 64)
    files = [
        NewFile("before.csv", None, b"Pier;Fee\nK;14 crowns\n"),
        NewFile("bomb.docx", None, bomb),
        NewFile("nested.json", None, b"[" * 10_000 + b"]" * 10_000),
        NewFile("after.txt", None, "The violet lighthouse.".encode("utf-16")),
    ]
    async with house.worker():
        job = await house.send("mixed", files)
    assert [document.status for document in job.documents] == [
        Status.READY,
        Status.FAILED,
        Status.FAILED,
        Status.READY,
    ]
    assert "times its size" in str(job.documents[1].error)
    assert "levels deep" in str(job.documents[2].error)
    result = await house.retrieval.searcher.search(house.principal, Query("mixed", "fee of pier K"))
    assert result.passages[0].text == "Pier: K\nFee: 14 crowns"
