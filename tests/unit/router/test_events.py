"""What an event's data says."""

import pytest

from router.events import loads
from router.sse import SseScanner
from router.transcript import Said

_HALF = b'data: {"choices":[{"index":0,"delta":{"content":"a\\ud83d"},"finish_reason":null}]}\n\n'


def test_half_of_a_sign_is_read_and_what_is_no_json_is_not() -> None:
    assert loads(rb'{"a":"\ud83d"}') == {"a": "\ud83d"}
    assert loads(rb'{"a":"\uDE00b"}') == {"a": "\ude00b"}
    assert loads(rb'{"a":"\ud83d\ude00"}') == {"a": "😀"}
    for bad in (b"{", rb'{"a":"\ud83d"', rb'"\u12"', b"[" * 100_000 + rb'"\ud83d"' + b"]" * 100_000):
        with pytest.raises(ValueError, match=r".+"):
            loads(bad)


def test_a_stream_that_begins_with_half_of_a_sign_passes_and_is_not_gone_on_with() -> None:
    scanner = SseScanner(keep_usage_chunk=True, keep=True)
    assert scanner.feed(_HALF) == _HALF
    assert scanner.malformed is None
    assert scanner.started
    said = Said.read([_HALF])
    assert not said.plain
