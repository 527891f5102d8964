"""What reads the words of others, fed with what nobody wrote: it reads them or says why not, and takes no long time.

Files of every format are mutated in tests/unit/retrieval/test_mutated_files.py. `FUZZ_S` is how many seconds
each of these takes in the long run, `FUZZ_SEED` names it; a failure names the case by which it is seen again.
"""

import itertools
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from retrieval.errors import FilterInvalid
from retrieval.expression import build, parse_filter
from router.config import load
from router.errors import ConfigInvalid
from router.sse import MessagesScanner, SseScanner
from tests.support.process import ROOT
from tests.unit.retrieval.mutations import mutated
from tests.unit.retrieval.test_expression import outside_strings

SEED = int(os.environ.get("FUZZ_SEED", "1"))
LONG_S = float(os.environ.get("FUZZ_S", "300"))
FEW = 300
_PATIENCE_S = 5.0  # of one case, on a machine that others use
_WORDS: list[Any] = [
    *(
        "",
        "os.environ/NONE",
        "hosted_vllm/m",
        "openai/m",
        "http://127.0.0.1:1/v1",
        "http://[",
        "é漢\ud800",
        "*",
        "\x00",
    ),
    *(None, True, False, 0, -1, 10**30, 1.5, math.inf, math.nan, [], {}, [[]], {"a": 1}, "1e999", "0x10", "~"),
]
Fuzz = Callable[[random.Random, Path], str]


def configuration(chance: random.Random, folder: Path) -> str:
    """A configuration is read, or its file and line are named."""
    texts = [path.read_bytes() for path in (ROOT / "stoker.yaml", *sorted((ROOT / "deploy").rglob("stoker*.yaml")))]
    text = chance.choice(texts)
    if chance.random() < 0.5:
        text = mutated(text, chance.choice(texts), chance)
    else:
        text = yaml.safe_dump(_bent(yaml.safe_load(text), chance), allow_unicode=True).encode("utf-8", "surrogatepass")
    file = folder / "stoker.yaml"
    file.write_bytes(text)
    try:
        load(file)
    except ConfigInvalid:
        return "refused"
    return "read"


def filters(chance: random.Random, _folder: Path) -> str:
    """A filter compiles to literals in parentheses, or is refused: it never widens a search."""
    raw = {"type": "and", "filters": [_filter(chance, 0) for _ in range(chance.randint(1, 3))]}
    raw = raw if chance.random() < 0.3 else _bent(raw, chance)
    try:
        parsed = parse_filter(raw)
    except FilterInvalid:
        return "refused"
    left = outside_strings(build('t"1', "c", ["*"], parsed))
    assert left.startswith("(tenant_id == S and collection_id == S) and (array_contains_any(acl, [S]) and (")
    assert left.count("(") == left.count(")")
    assert '"' not in left
    return "read"


def streams(chance: random.Random, _folder: Path) -> str:
    """A stream's frames, usage and end are the same however its bytes are cut, and whatever they are."""
    make: Callable[[], SseScanner] = chance.choice([lambda: SseScanner(keep_usage_chunk=True), MessagesScanner])
    data = mutated(_stream(chance), _stream(chance), chance)[: 200 * 1024]
    whole = make()
    wanted = whole.feed(data)
    cut = make()
    at = sorted({chance.randrange(len(data) + 1) for _ in range(chance.randint(1, 30))} | {0, len(data)})
    got = b"".join(cut.feed(data[start:end]) for start, end in itertools.pairwise(at))
    assert got == wanted
    assert wanted in data
    told = [(one.usage, one.finish_reason, one.started, one.done, one.error, one.model) for one in (whole, cut)]
    assert told[0] == told[1]
    assert (whole.malformed is None) == (cut.malformed is None)
    return "malformed" if whole.malformed else "ended" if whole.done else "open"


def _filter(chance: random.Random, depth: int) -> Any:
    if depth < 4 and chance.random() < 0.4:
        inner = [_filter(chance, depth + 1) for _ in range(chance.randint(1, 3))]
        return {"type": chance.choice(["and", "or"]), "filters": inner}
    kind = chance.choice(["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"])
    value: Any = chance.choice(['" or "" == "', "\\", "x", 1, 0.5, True])
    return {
        "type": kind,
        "key": chance.choice(["lang", 'k"] == "v', "a\nb"]),
        "value": [value] if "in" in kind else value,
    }


def _stream(chance: random.Random) -> bytes:
    newline = chance.choice([b"\n", b"\r\n"])
    said = ['{"usage"', "[DONE]", "data: x\n\n", "é😀", '"finish_reason":"stop"', "word", '"token_ids":[1,2]']
    frames: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": chance.choice(said)}}]} for _ in range(chance.randint(0, 9))
    ]
    frames.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "model": "m"})
    frames.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(frames)}})
    events = [b"data: " + orjson.dumps(frame) + newline * 2 for frame in frames]
    if chance.random() < 0.5:
        events.insert(chance.randrange(len(events)), b"event: message_delta" + newline + events.pop(0))
    return b"".join([*events, b"data: [DONE]" + newline * 2])


def _bent(value: Any, chance: random.Random) -> Any:
    """A tree with one to three of its places taken by something else, taken away or nested."""
    for _ in range(chance.randint(1, 3)):
        value = _bent_once(value, chance)
    return value


def _bent_once(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        match chance.randrange(6):
            case 0:
                return {name: one for name, one in value.items() if name != key}
            case 1:
                return {**value, str(chance.choice(_WORDS)): value[key]}
            case _:
                return {**value, key: _bent_once(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], _bent_once(value[at], chance), *value[at + chance.choice((0, 1, 1)) :]]
    return [value] * chance.choice((0, 1, 40)) if chance.random() < 0.1 else chance.choice(_WORDS)


@pytest.mark.parametrize(
    ("most", "seconds"),
    [pytest.param(FEW, math.inf, id="some"), pytest.param(math.inf, LONG_S, id="long", marks=pytest.mark.long)],
)
@pytest.mark.parametrize("fuzz", [configuration, filters, streams])
def test_whatever_comes_is_read_or_refused(
    fuzz: Fuzz, most: float, seconds: float, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    counts: Counter[str] = Counter()
    slowest_s, ends_s = 0.0, time.monotonic() + seconds
    for number in itertools.count():
        if number >= most or time.monotonic() > ends_s:
            break
        case, began_s = f"{SEED}:{fuzz.__name__}:{number}", time.process_time()
        try:
            counts[fuzz(random.Random(case), tmp_path)] += 1
        except Exception as error:
            pytest.fail(f"case {case}: {type(error).__name__}: {error}")
        slowest_s = max(slowest_s, time.process_time() - began_s)
        assert slowest_s < _PATIENCE_S, f"case {case} took {slowest_s:.1f} s"
    figure(f"seed {SEED}: {counts.total()} cases {dict(counts)}, the slowest took {slowest_s * 1e3:.0f} ms")
    assert counts["read"] + counts["ended"] > counts.total() * 0.03, "nearly nothing is read"
