"""Which files are ingested, under which names."""

from pathlib import Path

import pytest

from cli.errors import CliError
from cli.ingest import find_sources


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def test_folders_are_walked_hidden_ones_left_out_and_other_formats_named(tmp_path: Path) -> None:
    _touch(tmp_path / "a.md", tmp_path / "sub" / "b.PDF", tmp_path / "c.png", tmp_path / ".git" / "d.md")
    found, skipped = find_sources([tmp_path])
    assert [source.name for source in found] == ["a.md", "sub/b.PDF"]
    assert skipped == [tmp_path / "c.png"]


def test_two_files_of_one_name_do_not_become_versions_of_one_document(tmp_path: Path) -> None:
    first, second = tmp_path / "x" / "a.md", tmp_path / "y" / "a.md"
    _touch(first, second)
    assert len({source.name for source in find_sources([first, second])[0]}) == 2


def test_a_missing_path_and_an_empty_folder_name_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="does not exist"):
        find_sources([tmp_path / "gone"])
    with pytest.raises(CliError, match="nothing to ingest"):
        find_sources([tmp_path])
