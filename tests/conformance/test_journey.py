"""OpenAI's unmodified SDKs go the whole way in one run: store, files, search, answers with sources, talk, batch."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.conftest import Crew
from tests.integration.retrieval.conftest import Servers, servers
from tests.support.answering import Desk, desk
from tests.support.openai_server import OpenAiServer, openai_server_in_thread

__all__ = ["servers"]

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

QUESTION = "When does the ferry to Wellhaven leave?"
FURTHER = "From which quay does the ferry to Wellhaven leave?"
FILES = {
    "ferry.md": "# Ferry\n\nThe ferry to Wellhaven leaves at 07:45 every day. It leaves from the eastern quay.",
    "lighthouse.txt": "The lighthouse of Wellhaven was built in 1872 and is painted white.",
}
SAID = {
    QUESTION: "It leaves at 07:45 every day. Elephants sing loudly at night.",
    FURTHER: "The ferry leaves from the eastern quay.",
}


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAiServer]:
    """A model that knows two answers; it is asked in the words of a user, behind the passages that it is shown."""
    with openai_server_in_thread() as one:
        one.script = lambda _, body: next(
            said for asked, said in SAID.items() if str(body["messages"][-1]["content"]).endswith(asked)
        )
        yield one


@pytest.fixture(scope="module")
def opened(servers: Servers, server: OpenAiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("journey")
    with desk(folder, servers.milvus_uri, servers.embedding_url, words=server.base_url) as one:
        yield one


def annotations(response: dict[str, Any]) -> list[dict[str, Any]]:
    (part,) = response["output"][-1]["content"]
    return list(part["annotations"])


@pytest.mark.parametrize("name", ["journey-python", pytest.param("journey-node", marks=pytest.mark.long)])
def test_a_client_goes_the_whole_way(crew: Crew, opened: Desk, server: OpenAiServer, name: str) -> None:
    asked = {"question": QUESTION, "further": FURTHER, "files": FILES, "model": "words"}
    store = f"harbour-{secrets.token_hex(3)}"
    seen = crew(name).ask("journey", url=opened.gate.url, key=opened.gate.key, name=store, **asked)
    assert "error" not in seen, seen["error"]
    ferry = seen["files"]["ferry.md"]
    assert seen["attached"] == ["completed", "completed"]
    assert seen["texts"] == {seen["files"][file]: text for file, text in FILES.items()}
    assert all(hits and all(hit in FILES[file] for hit in hits) for file, hits in seen["found"].items())

    search, _ = seen["response"]["output"]
    assert seen["output_text"] == SAID[QUESTION]
    assert search["queries"] == [QUESTION]
    assert {result["file_id"] for result in search["results"]} == set(seen["files"].values())
    sources = annotations(seen["response"])
    assert len(sources) == 1  # of the elephants no file speaks
    source = sources[0]
    assert (source["type"], source["file_id"], source["filename"]) == ("file_citation", ferry, "ferry.md")
    assert seen["texts"][ferry][source["start"] : source["end"]] == source["quote"]
    assert "07:45" in source["quote"]

    kinds = [event["type"] for event in seen["events"]]
    assert kinds[-1] == "response.completed"
    assert kinds.index("response.file_search_call.completed") < kinds.index("response.output_text.delta")
    said = [event["delta"] for event in seen["events"] if event["type"] == "response.output_text.delta"]
    assert "".join(said) == seen["output_text"]
    added = [
        event["annotation"] for event in seen["events"] if event["type"] == "response.output_text.annotation.added"
    ]
    assert added == [source] == annotations(seen["events"][-1]["response"])

    assert seen["said"] == [SAID[QUESTION], SAID[FURTHER]]
    told = [(item["role"], item["content"][0]["text"]) for item in seen["items"] if item["type"] == "message"]
    assert told == [
        (role, text) for pair in SAID.items() for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    further = [body for body in server.bodies if str(body["messages"][-1]["content"]).endswith(FURTHER)]
    assert [message["role"] for message in further[-2]["messages"]] == ["user", "assistant", "user"]

    assert seen["batch"]["status"] == "completed"
    answers = {line["custom_id"]: line["response"] for line in seen["batch"]["lines"]}
    assert {name: answer["status_code"] for name, answer in answers.items()} == {"0": 200, "1": 200}
    for at, question in enumerate(SAID):
        body = answers[str(at)]["body"]
        assert body["output"][-1]["content"][0]["text"] == SAID[question]
        assert [one["file_id"] for one in annotations(body)] == [ferry]
    assert seen["deleted"] == [True] * 4
