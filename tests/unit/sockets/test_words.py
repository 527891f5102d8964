"""What may be said over a socket."""

import orjson
import pytest

from api.errors import RequestInvalid
from api.sockets.words import Ask, Auth, Cancel, read_word


def word(**said: object) -> object:
    return read_word(orjson.dumps(said).decode())


def test_each_word_is_read() -> None:
    assert word(type="auth", key="sk-1") == Auth("sk-1")
    assert word(type="query", id="a.1", query="When?") == Ask("a.1", {"query": "When?"})
    assert word(type="query", query="When?") == Ask(None, {"query": "When?"})
    assert word(type="cancel", id="a.1") == Cancel("a.1")
    assert word(type="cancel") == Cancel(None)


@pytest.mark.parametrize(
    "said",
    [
        *("", "sk-secret", "[]", "7", "null", '{"type": "sk-secret"}', '{"type": ["query"]}', '{"type": "auth"}'),
        *('{"type": "auth", "key": ["sk-secret"]}', '{"type": "auth", "key": ""}'),
        *('{"type": "query", "id": 7}', '{"type": "query", "id": ""}', '{"type": "cancel", "id": "a b"}'),
    ],
)
def test_anything_else_is_refused_and_not_repeated(said: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        read_word(said)
    assert "sk-secret" not in str(refused.value)


def test_a_question_is_read_as_v1_query_reads_it() -> None:
    asked = Ask(None, {"query": "When?", "collection": "demo", "mode": "dense", "rerank": True}).request()
    assert (asked.query, asked.mode, asked.rerank) == ("When?", "dense", True)
    whole = {"query": "When?", "collection": "demo"}
    for body, param in (({"query": "When?"}, "collection"), ({**whole, "top_k": 0}, "top_k")):
        with pytest.raises(RequestInvalid) as refused:
            Ask(None, body).request()
        assert refused.value.param == param
