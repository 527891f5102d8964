"""Answers from documents through the unmodified SDKs: what a chat shows of its sources is what the SDKs know."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conformance.conftest import Crew
from tests.integration.querywork.test_gateway import House, open_house
from tests.integration.retrieval.conftest import Servers, servers
from tests.support.conformance import Observed, measure

__all__ = ["servers"]

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

_LOCATION = {"anthropic-python": "CitationCharLocation", "anthropic-node": "char_location"}
ASKED = "What is the winter fare of the ferry in 2024?"


@pytest.fixture(scope="module")
def house(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(servers, tmp_path_factory.mktemp("sdks")) as one:
        one.server.script = lambda _name, _body: "The winter fare of the ferry is nine crowns."
        yield one


def order(house: House, **retrieval: Any) -> dict[str, Any]:
    of_2024 = {"type": "eq", "key": "year", "value": 2024}
    wanted = {"retrieval": {"collection": "fares", "filter": of_2024, **retrieval}}
    fields = {"max_tokens": 64, "extra_body": wanted}
    return {"url": house.gate.url, "key": house.gate.key, "model": "words", "text": ASKED, "fields": fields}


def content(house: House, citation: dict[str, Any]) -> str:
    path = f"/v1/collections/fares/documents/{citation['document_id']}/content"
    return house.client.get(path, params={"version": citation["document_version"]}).text


@pytest.mark.parametrize("name", ["openai-python", "openai-node"])
def test_openais_sdk_reads_an_answer_from_documents_whole_and_streamed(
    house: House, crew: Crew, figure: Callable[[str], None], name: str
) -> None:
    seen = crew(name).ask("cited", **order(house))
    assert "error" not in seen, seen["error"]
    assert "crowns" in seen["text"]
    assert seen["text"] == seen["streamed"].rstrip() == seen["final"].rstrip()
    (citation,) = seen["citations"]
    assert seen["streamed_citations"] == seen["citations"]
    assert content(house, citation)[citation["start"] : citation["end"]] == citation["quote"]
    ((kind, address),) = seen["addresses"]
    assert (kind, seen["final_addresses"]) == ("url_citation", seen["addresses"])
    assert house.client.get(address).text == content(house, citation)
    assert seen["usage"] == seen["streamed_usage"]
    if name == "openai-node":
        return
    observed = [
        Observed("retrieval in chat", "openai.types.chat.ChatCompletion", seen["dumped"]),
        *(Observed("its chunks", "openai.types.chat.ChatCompletionChunk", one) for one in seen["chunks"][:1]),
    ]
    measured = measure(observed)
    wrong = [one for one in measured.fields if one.verdict == "wrong"]
    assert not wrong, measured.lines()
    figure(f"retrieval in chat, openai {measured.version}: no field of {len(measured.fields)} is of a wrong type")


@pytest.mark.parametrize("name", ["anthropic-python", "anthropic-node"])
def test_anthropics_sdk_reads_an_answer_from_documents_whole_and_streamed(house: House, crew: Crew, name: str) -> None:
    seen = crew(name).ask("cited", **order(house))
    assert "error" not in seen, seen["error"]
    ((text, ((kind, citation),)),) = seen["blocks"]
    assert "crowns" in text
    assert seen["final_blocks"] == seen["blocks"]
    assert (kind, citation["document_index"]) == (_LOCATION[name], 0)
    span = slice(citation["start_char_index"], citation["end_char_index"])
    assert content(house, citation)[span] == citation["cited_text"]
    assert (seen["reason"], seen["final_usage"]) == ("end_turn", seen["usage"])
    assert seen["kinds"] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert all(kind.startswith("Raw") for kind in seen.get("classes", ()))


@pytest.mark.parametrize("name", ["openai-python", "openai-node", "anthropic-python", "anthropic-node"])
def test_what_is_wrong_is_an_error_of_the_sdk(house: House, crew: Crew, name: str) -> None:
    for wish, status in (({"collection": "nowhere"}, 404), ({"top_k": 0}, 400)):
        error = crew(name).ask("cited", **order(house, **wish))["error"]
        assert error["status"] == status
        assert error["class"] == ("NotFoundError" if status == 404 else "BadRequestError")
