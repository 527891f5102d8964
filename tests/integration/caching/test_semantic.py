"""Answers to questions in other words: of the same asker's documents only, and now and then held against new ones."""

from collections.abc import Callable

import httpx
import pytest
from redis import Redis

from api.caching.name import prefix
from tests.integration.caching.conftest import QUESTION, House, Tenant, ask
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

_SAME = ["when does the pier  open", "Please, when does the pier open?", "When does the pier open, please?"]
_OTHER = ["When does the pier close?", "Why does the pier open?", "When did the pier open?", "When does pier 2 open?"]


def _first(tenant: Tenant, caller: httpx.Client, query: str = QUESTION) -> dict[str, object]:
    """Ask for the first time, and wait until others may be told: a question is remembered behind its answer."""
    with Redis.from_url(tenant.house.gate.redis_url) as redis:

        def remembered() -> int:
            return sum(1 for _ in redis.scan_iter(f"{prefix(tenant.id)}asked:*", count=1000))

        before = remembered()
        answer = ask(caller, query)
        assert answer["cache"] == "miss"
        until(lambda: remembered() == before + 1, "the question is remembered")
    return answer


def _told(caller: httpx.Client, query: str, **fields: object) -> str:
    return str(ask(caller, query, **fields)["cache"])


def test_a_question_in_other_words_is_answered_without_a_model(house: House) -> None:
    tenant = house.tenant()
    tenant.keep("a", "The pier opens at 06:15. It has two berths.")
    caller = tenant.caller()
    first = _first(tenant, caller)
    before = len(house.server.bodies)
    for query in _SAME:
        found = ask(caller, query)
        assert (found["cache"], found["answer"]) == ("semantic", first["answer"]), query
        assert found["citations"] == first["citations"]
        assert found["usage"]["total_tokens"] == 0
    assert len(house.server.bodies) == before
    assert [_told(caller, query) for query in _OTHER] == ["miss"] * len(_OTHER)


def test_only_who_reads_the_same_documents_as_they_were_is_told(house: House) -> None:
    tenant, stranger = house.tenant(), house.tenant()
    for one in (tenant, stranger):
        one.keep("a", "The pier opens at 06:15. It has two berths.")
    caller, query = tenant.caller(), _SAME[1]
    _first(tenant, caller)
    assert _told(stranger.caller(), query) == "miss"
    assert _told(tenant.caller("staff"), query) == "miss"
    assert _told(caller, query, use_cache="exact") == "miss"
    tenant.keep("a", "The pier opens at 07:45. It has two berths.")
    found = _first(tenant, caller, _SAME[2])
    assert "07:45" in str(found["answer"])
    assert _told(caller, _SAME[0]) == "semantic"
    tenant.manager.delete("/v1/admin/cache").raise_for_status()
    assert _told(caller, "Hello, when does the pier open?") == "miss"


def test_a_parameter_that_differs_is_another_question(house: House) -> None:
    tenant = house.tenant()
    tenant.keep("a", "The pier opens at 06:15. It has two berths.")
    caller = tenant.caller()
    _first(tenant, caller)
    for fields in (
        {"top_k": 3},
        {"temperature": 0.5},
        {"grounding": "mark"},
        {"filter": {"type": "ne", "key": "a", "value": 1}},
    ):
        assert _told(caller, _SAME[0], **fields) == "miss", fields
    chat = {"model": "words", "messages": [{"role": "user", "content": _SAME[0]}], "retrieval": {"collection": "piers"}}
    for wish, outcome in (("exact", "miss"), ("semantic", "semantic")):
        asked = {**chat, "cache": wish, "messages": [{"role": "user", "content": f"{_SAME[0]} {'!' * len(wish)}"}]}
        answer = caller.post("/v1/chat/completions", json={**asked, "max_tokens": 60, "temperature": 0})
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-cache"] in (outcome, "miss")


def test_checks_end_what_is_not_to_be_trusted(checking: House, figure: Callable[[str], None]) -> None:
    """Every hit is checked here: a new answer is told, and where it stands elsewhere, hits of other words end."""
    tenant = checking.tenant()
    tenant.keep("a", "The pier opens at 06:15. It has two berths.")
    caller = tenant.caller()
    _first(tenant, caller)
    before = len(checking.server.bodies)
    assert _told(caller, _SAME[0]) == "miss"
    assert len(checking.server.bodies) == before + 1
    told = 'stoker_semantic_cache_checks_total{outcome="same"} 1.0'
    until(lambda: told in checking.admin.get("/metrics").text, "the other worker's count is told, too")
    figure("a checked hit was answered anew and found to be the same")
