"""What is said of documents counts, or is refused."""

from typing import Any

import pytest

from api.errors import RequestInvalid
from api.ingest_form import read_ingest
from core.principal import Principal, Role


@pytest.mark.parametrize(
    ("name", "value"), [("acl", {"users": ["ann"]}), ("metadata", {"year": 3}), ("expires_after", {"seconds": 60})]
)
async def test_what_is_said_beside_a_list_of_documents_is_refused_and_not_left_out(name: str, value: object) -> None:
    """Left out, a document would have more readers, or a longer life, than its sender thinks."""
    origins: Any = None
    body = {"collection": "c", "documents": [{"content": "The tide."}], name: value}
    with pytest.raises(RequestInvalid, match=f"{name} does not go with documents") as refused:
        await read_ingest(body, Principal("t", "key_1", Role.MANAGER), origins)
    assert refused.value.param == name
