"""What callers send along: metadata, names, settings; and what a job's documents add up to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import InputInvalid
from retrieval.expression import parse_filter
from retrieval.settings import RetrievalSettings
from retrieval.status import JobStatus, Status, of_job
from retrieval.values import check_filename, check_metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": []},
        {"a": {}},
        {"a": None},
        {"": 1},
        {"a\x00": 1},
        {"a": "\x00"},
        {"a": float("inf")},
        {"a": 2**60},
        {"a": "x" * 3000},
    ],
)
def test_metadata_that_no_filter_could_name_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(InputInvalid, match="metadata"):
        check_metadata(metadata)


@given(
    st.dictionaries(
        st.text(max_size=20), st.text(max_size=20) | st.booleans() | st.integers() | st.floats(), max_size=4
    )
)
def test_whatever_is_taken_as_metadata_can_be_filtered_by(metadata: dict[str, Any]) -> None:
    try:
        taken = check_metadata(metadata)
    except InputInvalid:
        return
    for key, value in taken.items():
        parse_filter({"type": "eq", "key": key, "value": value})


@pytest.mark.parametrize(
    ("sent", "kept"), [("a.md", "a.md"), ("/docs\\tour.md", "docs/tour.md"), ("a\x00b\n.md", "ab.md")]
)
def test_a_filename_keeps_its_folders_and_loses_control_characters(sent: str, kept: str) -> None:
    assert check_filename(sent) == kept


@pytest.mark.parametrize("name", ["", "///", "x" * 501])
def test_a_filename_with_nothing_in_it_is_refused(name: str) -> None:
    with pytest.raises(InputInvalid):
        check_filename(name)


def test_a_readers_grace_must_outlive_the_longest_search() -> None:
    with pytest.raises(ValueError, match="reader_grace_s"):
        RetrievalSettings(reader_grace_s=10)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("documents", "job"),
    [
        ([Status.QUEUED, Status.QUEUED], JobStatus.QUEUED),
        ([Status.QUEUED, Status.READY], JobStatus.RUNNING),
        ([Status.EMBEDDING], JobStatus.RUNNING),
        ([Status.READY, Status.READY], JobStatus.SUCCEEDED),
        ([Status.READY, Status.FAILED, Status.CANCELLED], JobStatus.FAILED),
        ([Status.READY, Status.CANCELLED], JobStatus.CANCELLED),
    ],
)
def test_a_job_is_what_its_documents_add_up_to(documents: list[Status], job: JobStatus) -> None:
    assert of_job(documents) is job
