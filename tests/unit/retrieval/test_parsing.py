"""The parsing process: a hang or a crash costs one file and nothing else."""

import os
import signal
from collections.abc import AsyncIterator

import pytest

from retrieval.errors import DocumentRejected
from retrieval.parsing import Parser


@pytest.fixture
async def parser() -> AsyncIterator[Parser]:
    opened = Parser(deadline_s=20, memory_bytes=2**30, max_characters=1000)
    yield opened
    await opened.close()


async def test_a_file_is_parsed_in_another_process(parser: Parser) -> None:
    parsed = await parser.parse(b"# One\r\n", "text/markdown")
    assert (parsed.text, parsed.title, parsed.structured) == ("# One", "One", True)
    with pytest.raises(DocumentRejected, match="empty"):
        await parser.parse(b"", "text/plain")


async def test_a_hanging_parser_is_killed_and_the_next_file_parsed(parser: Parser) -> None:
    await parser.parse(b"warm", "text/plain")
    assert parser._child is not None
    os.kill(parser._child.pid, signal.SIGSTOP)
    parser._deadline_s = 0.3
    with pytest.raises(DocumentRejected, match="longer than"):
        await parser.parse(b"slow", "text/plain")
    parser._deadline_s = 20
    assert (await parser.parse(b"next", "text/plain")).text == "next"


async def test_a_crashing_parser_costs_one_file(parser: Parser) -> None:
    await parser.parse(b"warm", "text/plain")
    assert parser._child is not None
    parser._child.kill()
    await parser._child.wait()
    with pytest.raises(DocumentRejected, match="crashed"):
        await parser.parse(b"unlucky", "text/plain")
    assert (await parser.parse(b"next", "text/plain")).text == "next"
