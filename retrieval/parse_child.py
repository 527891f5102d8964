"""The parsing process: `python -m retrieval.parse_child MEMORY_BYTES`, started by `retrieval.parsing`.

Reads a JSON line {"media_type", "bytes", "max_characters", "deadline_s"} and then that many bytes from standard
input; answers with one JSON line on standard output: {"rejected": REASON} or the parsed text. Ends with its input.
"""

import dataclasses
import json
import resource
import signal
import sys
from typing import Any, BinaryIO

from retrieval.errors import DocumentRejected
from retrieval.parsers import parse


def main() -> None:
    """Serve files until standard input ends."""
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is the worker's to handle
    while header := sys.stdin.buffer.readline():
        answer = _answer(json.loads(header), sys.stdin.buffer)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _answer(header: dict[str, Any], source: BinaryIO) -> dict[str, Any]:
    # The alarm ends this process even when the worker that would kill it is gone.
    signal.alarm(int(header["deadline_s"]) + 5)
    try:
        data = source.read(header["bytes"])
        return dataclasses.asdict(parse(data, header["media_type"], header["max_characters"]))
    except DocumentRejected as rejection:
        return {"rejected": rejection.reason}
    except MemoryError:
        return {"rejected": "The file needs more memory than one file may have: split it."}
    except RecursionError:
        return {"rejected": "The file is nested too deeply: simplify it."}
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    main()
