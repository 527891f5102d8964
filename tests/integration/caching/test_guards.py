"""Guards and answers from documents: what a guard refuses is neither quoted, nor told from before, nor asked again."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.integration.caching.conftest import QUESTION, House, ask
from tests.integration.hot.conftest import events

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

_OTHER_WORDS = "When does the pier open"  # the same question


@pytest.fixture
def guard(house: House) -> Iterator[Callable[[], None]]:
    """Puts a guard before `words` that refuses a time, in both workers; and takes it away again."""
    file = house.gate.folder / "stoker.yaml"
    before = file.read_text()

    def put() -> None:
        options = "options: {refused: '06:15', broken: berths}"
        file.write_text(f"{before}stoker:\n  guards:\n    words: [{{use: 'tests.support.guards:Judges', {options}}}]\n")
        until(lambda client: said(client).status_code == 400)

    def said(client: httpx.Client) -> httpx.Response:
        body = {"model": "words", "messages": [{"role": "user", "content": "06:15"}], "max_tokens": 5}
        return client.post("/v1/chat/completions", json=body)

    def until(is_so: Callable[[httpx.Client], bool]) -> None:
        by_s, in_turn = time.monotonic() + 60, 0
        while in_turn < 10:  # new connections, which meet one worker or the other
            with httpx.Client(base_url=house.gate.url, headers={"x-api-key": house.gate.key}, timeout=60) as client:
                in_turn = in_turn + 1 if is_so(client) else 0
            assert time.monotonic() < by_s
            time.sleep(0.05)

    yield put
    file.write_text(before)
    until(lambda client: said(client).status_code == 200)


def test_an_answer_that_a_guard_refuses_is_not_told_in_any_other_way(house: House, guard: Callable[[], None]) -> None:
    tenant = house.tenant()
    tenant.keep("a", "The pier opens at 06:15. It has two berths.")
    caller = tenant.caller("staff")
    ask(caller)
    assert ask(caller)["cache"] == "exact"
    guard()
    for fields in ({}, {"use_cache": True}, {"query": _OTHER_WORDS, "use_cache": True}, {"use_cache": False}):
        asked = house.server.requests
        body = {"query": QUESTION, "collection": "piers", "max_tokens": 60, **fields}
        answer = caller.post("/v1/query", json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["code"] == "guard_refused"
        assert house.server.requests == asked + 1
        streamed = caller.post("/v1/query", json={**body, "stream": True}).text
        assert events(streamed)[-1]["error"]["code"] == "guard_refused"
        assert "06:15" not in streamed.partition("event: error")[0].partition("event: token")[2]
