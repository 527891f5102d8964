"""A secret comes from its variable or from a file, and never silently from neither."""

from pathlib import Path

import pytest

from core.secretfile import SecretUnread, secret


def test_a_variable_is_read_as_it_stands() -> None:
    assert secret("KEY", {"KEY": " as it is "}) == " as it is "
    assert secret("KEY", {}) is None
    assert secret("KEY", {"KEY": "", "KEY_FILE": ""}) == ""


def test_a_file_is_read_without_the_line_that_an_editor_ends(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-ü \n")
    assert secret("KEY", {"KEY_FILE": str(tmp_path / "key")}) == "sk-ü"


def test_a_variable_and_a_file_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("new")
    with pytest.raises(SecretUnread, match="KEY and KEY_FILE are both set: unset one"):
        secret("KEY", {"KEY": "old", "KEY_FILE": str(tmp_path / "key")})


@pytest.mark.parametrize(
    "content", [b"", b"\n \n", b"\xff\xfe", b"a\0b", b"x" * 70_000], ids=["empty", "blank", "no text", "zero", "long"]
)
def test_a_file_that_holds_no_secret_is_refused_with_its_name_and_never_its_content(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SecretUnread, match=r"KEY_FILE: .*key (can't be read|holds no secret)") as caught:
        secret("KEY", {"KEY_FILE": str(tmp_path / "key")})
    assert "xxx" not in str(caught.value)
    assert "a\0b" not in str(caught.value)


@pytest.mark.parametrize("path", ["missing", "", ".", "a\0b"], ids=["missing", "folder with no name", "folder", "zero"])
def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(SecretUnread, match="name a file that this process may read"):
        secret("KEY", {"KEY_FILE": f"{tmp_path}/{path}"})
