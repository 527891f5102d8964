"""The form of POST /v1/files: what its fields may be."""

from io import BytesIO

import pytest
from starlette.datastructures import FormData, UploadFile

from api.errors import RequestInvalid
from api.files.forms import read_new_file


def form(**fields: str) -> FormData:
    """A form as OpenAI's SDKs send it; a field `expires_after_seconds` has their name for it."""
    named = {"purpose": "assistants"} | {name.replace("_seconds", "[seconds]"): said for name, said in fields.items()}
    return FormData([("file", UploadFile(BytesIO(b"A tide."), filename="a.txt")), *named.items()])


@pytest.mark.parametrize(
    "seconds", ["9" * 5_000, "0" * 5_000 + "60", "9" * 19, "٣٦٠٠", "²", "1e400", "NaN", "+60", " 60"]
)
async def test_a_lifetime_that_is_no_number_or_has_thousands_of_digits_is_refused(seconds: str) -> None:
    """Python reads no number of more than 4,300 digits, and takes digits of every script for some."""
    with pytest.raises(RequestInvalid) as refused:
        await read_new_file(form(expires_after_seconds=seconds), 100)
    assert refused.value.param == "expires_after"


async def test_a_lifetime_is_read() -> None:
    assert (await read_new_file(form(expires_after_seconds="3600"), 100)).expires_after_s == 3600
