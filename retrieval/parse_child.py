"""The parsing process: `python -m retrieval.parse_child MEMORY_BYTES`, started by `retrieval.parsing`.

Reads a JSON line {"media_type", "filename", "bytes", "deadline_s", "bounds", "limits", "tokenizer", "ocr"} and then
that many bytes from standard input; answers with a line that holds a number, and then that many bytes of JSON:
{"rejected": REASON}, {"broken": ERROR}, or {"text", "pages", "form", "contexts", "chunks"} with chunks as
[start, end, page, index of the context]. A line with "parsed" in the place of "media_type" comes with a text that was
read before, to be cut anew. Ends with its input, or after a file that took much memory.
"""

import json
import os
import resource
import signal
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from retrieval.chunking import Limits, Strategy, chunk
from retrieval.errors import DocumentRejected
from retrieval.meter import TokenStarts, tokenizer_starts
from retrieval.parsers import parse
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed
from retrieval.parsers.recognition import Recogniser

_KEPT_MEMORY = 4  # a process that took more than this part of its limit ends, and gives its memory back


def main() -> None:
    """Serve files until standard input ends."""
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is the worker's to handle
    # What a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while header := sys.stdin.buffer.readline():
        payload = _serve(json.loads(header), sys.stdin.buffer, memory_bytes)
        answers.write(b"%d\n" % len(payload))
        answers.write(payload)
        answers.flush()
        if _peak_bytes() > memory_bytes // _KEPT_MEMORY:
            return


def _peak_bytes() -> int:
    """The most memory that this process has had; `getrusage` would count what its parent had before it was started."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _serve(header: dict[str, Any], source: BinaryIO, memory_bytes: int) -> bytes:
    # The alarm ends this process even when the worker that would kill it is gone.
    signal.alarm(int(header["deadline_s"]) + 5)
    try:
        return _answer(header, source.read(header["bytes"]))
    except DocumentRejected as rejection:
        return _rejected(rejection.reason)
    except MemoryError:
        return _rejected(f"The file needs more memory than the {memory_bytes >> 20} MiB one file may have: split it.")
    except RecursionError:
        return _rejected("The file is nested too deeply: simplify it.")
    except Exception as error:  # a defect of a parser costs this file, with its traceback in the log
        traceback.print_exc()
        return _rejected(f"The parser failed on this file ({type(error).__name__}): repair or re-export it.")
    finally:
        signal.alarm(0)


def _answer(header: dict[str, Any], data: bytes) -> bytes:
    try:
        token_starts = _tokenizer(header["tokenizer"])
    except ValueError as error:
        return orjson.dumps({"broken": str(error)})
    known = header.get("parsed")
    if known is None:
        recogniser = _recogniser(header["ocr"])
        if recogniser is not None:
            recogniser.begin(header["deadline_s"])
        parsed = parse(data, header["media_type"], Bounds(**header["bounds"]), header["filename"], recogniser)
    else:
        spans = {name: tuple(tuple(each) for each in known.get(name, ())) for name in ("pages", "outline")}
        parsed = Parsed(data.decode(), **{**known, **spans})
    limits = Limits(**{**header["limits"], "strategy": Strategy(header["limits"]["strategy"])})
    contexts: dict[str, int] = {}
    chunks = [
        (each.start, each.end, each.page, contexts.setdefault(each.context, len(contexts)))
        for each in chunk(parsed, limits, parsed.name(header["filename"]), token_starts)
    ]
    return orjson.dumps(
        {
            "text": parsed.text,
            "pages": parsed.pages,
            "form": {
                "title": parsed.title,
                "structured": parsed.structured,
                "records": parsed.records,
                **({"outline": parsed.outline} if parsed.outline else {}),
            },
            "contexts": list(contexts),
            "chunks": chunks,
        }
    )


def _rejected(reason: str) -> bytes:
    return orjson.dumps({"rejected": reason})


@lru_cache(maxsize=1)
def _tokenizer(file: str | None) -> TokenStarts | None:
    return tokenizer_starts(Path(file)) if file else None


@lru_cache(maxsize=1)
def _recogniser(python: str | None) -> Recogniser | None:
    return Recogniser(python) if python else None


if __name__ == "__main__":
    main()
