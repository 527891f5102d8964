"""OpenAI's objects out of rows, and requests out of OpenAI's form: pure."""

from collections.abc import Sequence
from typing import Any

import pytest

from api.errors import ApiError
from api.vectorstores import requests, shown
from api.vectorstores.store import Counted, StoreFile, VectorStore
from api.vectorstores.turning import Turn
from core.ids import is_id, new_id
from retrieval import cutting
from retrieval.cutting import OVERLAP, SIZE
from retrieval.errors import InputInvalid
from retrieval.jobs import Job, JobDocument
from retrieval.life import DAY_S, Life
from retrieval.settings import RetrievalSettings
from retrieval.status import Fault, JobStatus, Status

SETTINGS = RetrievalSettings()


def job(*statuses: Status) -> Job:
    documents = [JobDocument(f"doc_{n}", "f", status, 0.0, None) for n, status in enumerate(statuses)]
    return Job("job_1", "col_1", JobStatus.RUNNING, 1.0, documents)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([Status.READY, Status.EMBEDDING], "in_progress"),
        ([Status.FAILED, Status.QUEUED], "in_progress"),
        ([Status.READY, Status.READY], "completed"),
        ([Status.READY, Status.FAILED], "completed"),
        ([Status.FAILED, Status.FAILED], "failed"),
        ([Status.READY, Status.CANCELLED], "cancelled"),
        ([Status.CANCELLED, Status.QUEUED], "in_progress"),
    ],
)
def test_a_batch_is_what_its_files_are(statuses: Sequence[Status], expected: str) -> None:
    told = shown.batch(job(*statuses))
    assert told["status"] == expected
    counts = told["file_counts"]
    assert counts.pop("total") == sum(counts.values()) == len(statuses)


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_openais_word_and_an_error_only_where_it_failed(status: Status) -> None:
    one = StoreFile("file_1", "doc_1", "col_1", status, "an old reason", Fault.INVALID, 7, {}, {}, 1.0)
    told = shown.file(one)
    assert told["status"] in shown.WORDS
    failed = {"code": "invalid_file", "message": "an old reason"}
    assert told["last_error"] == (failed if status is Status.FAILED else None)


def store(life: Life, *, over: bool = False, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    counted = Counted({Status.READY: 2, Status.QUEUED: 1}, 500, 90.0)
    return shown.store(VectorStore("col_1", "n", "", metadata or {}, 10.0, life, over, counted))


def test_a_store_tells_when_it_was_used_and_when_it_ends() -> None:
    stays = store(Life())
    assert (stays["last_active_at"], stays["expires_at"], stays["expires_after"]) == (90, None, None)
    lasts = store(Life(3, used_at=1000.0))
    assert (lasts["last_active_at"], lasts["expires_at"]) == (1000, 1000 + 3 * 86_400)
    assert lasts["expires_after"] == {"anchor": "last_active_at", "days": 3}
    assert (lasts["status"], store(Life(3, 1.0), over=True)["status"]) == ("in_progress", "expired")


def test_metadata_of_a_collection_becomes_text() -> None:
    assert store(Life(), metadata={"a": "b", "n": 1, "t": True})["metadata"] == {"a": "b", "n": "1", "t": "true"}


def test_a_life_is_over_at_its_second_and_its_uses_are_noted_once_a_minute() -> None:
    life = Life(2, used_at=100.0)
    assert not life.is_over(100.0 + 2 * DAY_S - 0.5)
    assert life.is_over(100.0 + 2 * DAY_S)
    assert [life.is_to_be_noted(at_s) for at_s in (100.0, 159.0, 160.0)] == [False, False, True]
    assert not Life().is_over(1e12)
    assert not Life().is_to_be_noted(1e12)
    assert Life(2, used_at=100.0, ended_at=50.0).is_over(60.0)  # once over, no use revives it


def test_a_documents_own_cutting_stays_within_the_embedders_window() -> None:
    for size, overlap in ((100, 0), (100, 50), (800, 400), (4096, 2048)):
        own = cutting.check_own({SIZE: size, OVERLAP: overlap})
        assert own is not None
        limits = cutting.limits(SETTINGS, own)
        assert limits.tokens == min(size, SETTINGS.chunk_tokens)
        assert limits.overlap <= limits.characters // 2
        assert cutting.as_static(SETTINGS, own) == own
    assert cutting.as_static(SETTINGS, {}) == {SIZE: SETTINGS.chunk_tokens, OVERLAP: SETTINGS.chunk_overlap // 4}
    assert cutting.limits(SETTINGS, {"characters": 300, "tokens": 50, "overlap": 400}).overlap == 150


@pytest.mark.parametrize(
    "own",
    [
        {}, [], "auto", {SIZE: 100}, {SIZE: 99, OVERLAP: 0}, {SIZE: 4097, OVERLAP: 0}, {SIZE: 100, OVERLAP: 51},
        {SIZE: 100, OVERLAP: -1}, {SIZE: 100.0, OVERLAP: 0}, {SIZE: True, OVERLAP: 0}, {SIZE: 100, OVERLAP: 0, "x": 1},
    ],
)  # fmt: skip
def test_what_is_no_cutting_is_refused(own: object) -> None:
    with pytest.raises(InputInvalid):
        cutting.check_own(own)


def test_a_ranker_decides_who_reads_question_and_passage_together() -> None:
    def way(**options: Any) -> dict[str, Any]:
        asked = requests.StoreSearch(query=["a", "b"], ranking_options=requests.RankingOptions(**options))
        query = asked.as_query("col_1")
        assert (query.text, query.wordings, query.top_k) == ("a", ("b",), 11)
        return query.way

    assert way() == {}
    assert way(ranker="none") == {"rerank": False}
    assert way(ranker="default-2024-11-15") == {"rerank": True}


def test_a_batch_names_its_files_once_and_in_one_way() -> None:
    same = requests.NewBatch(file_ids=["file_1", "file_2"], attributes={"a": 1}).attachments()
    assert [(one.file_id, one.attributes, one.chunking) for one in same] == [
        ("file_1", {"a": 1}, None),
        ("file_2", {"a": 1}, None),
    ]
    each = requests.NewBatch(files=[requests.NewStoreFile(file_id="file_1", attributes={"b": 2})], attributes={"a": 1})
    assert [one.attributes for one in each.attachments()] == [
        {"b": 2}
    ]  # as with OpenAI, what is said for all is not theirs
    for bad in ({}, {"file_ids": ["a"], "files": [{"file_id": "a"}]}, {"file_ids": ["a", "a"]}):
        with pytest.raises(ApiError):
            requests.NewBatch.model_validate(bad).attachments()


def test_a_page_that_was_found_from_its_end_is_turned_round() -> None:
    assert Turn(2).page([3, 2, 1]).items == [3, 2]
    assert Turn(2, before="x").page([4, 5, 6]).items == [5, 4]
    assert Turn(2, before="x", after="y").page([4, 5, 6]).items == [4, 5]
    assert not Turn(3).page([3, 2, 1]).has_more


def test_an_id_is_what_we_could_have_made() -> None:
    assert is_id(new_id("file"), "file")
    for other in (
        new_id("doc"),
        new_id("file")[:-1],
        new_id("file") + "0",
        "file_" + "U" * 26,
        "file_" + "\0" * 26,
        "",
    ):
        assert not is_id(other, "file")
