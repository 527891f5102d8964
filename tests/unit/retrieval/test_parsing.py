"""The parsing process: a hang or a crash costs one file and nothing else."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from retrieval.chunking import Limits, Strategy
from retrieval.errors import DocumentRejected
from retrieval.parsing import Parser, Plan


@pytest.fixture
async def parser() -> AsyncIterator[Parser]:
    opened = Parser(deadline_s=20, memory_bytes=2**30, max_characters=1000)
    yield opened
    await opened.close()


async def test_a_file_is_parsed_in_another_process(parser: Parser) -> None:
    digest = await parser.parse(b"# One\r\n\nText.", "text/markdown", "a.md")
    assert (digest.text, digest.title, digest.pages) == ("# One\n\nText.", "One", ())
    assert [(each.text, each.context) for each in digest.chunks] == [("# One\n\nText.", "One > One")]
    with pytest.raises(DocumentRejected, match="empty"):
        await parser.parse(b"", "text/plain")
    with pytest.raises(DocumentRejected, match="limit is 1,000"):
        await parser.parse(b"x" * 1001, "text/plain")


async def test_a_plan_says_how_the_file_is_cut(parser: Parser) -> None:
    text = b"# One\n\n" + b"word " * 100
    plan = Plan(limits=Limits(100, 32, overlap=20, strategy=Strategy.FIXED))
    digest = await parser.parse(text, "text/markdown", "notes/my_file.md", plan)
    assert all(len(each.text) <= 100 and each.text == digest.text[each.start : each.end] for each in digest.chunks)
    assert digest.chunks[1].start < digest.chunks[0].end
    assert {each.context for each in digest.chunks} == {"One"}
    untitled = await parser.parse(b"word", "text/plain", "notes/my_file.txt")
    assert untitled.chunks[0].context == "my file"


async def test_a_tokenizer_that_is_none_is_no_fault_of_the_file(parser: Parser) -> None:
    with pytest.raises(RuntimeError, match="tokenizer"):
        await parser.parse(b"x", "text/plain", plan=Plan(tokenizer="/dev/null"))
    assert (await parser.parse(b"next", "text/plain")).text == "next"


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
    unlucky = asyncio.create_task(parser.parse(b"unlucky", "text/plain"))
    while parser._child is None:  # noqa: ASYNC110  # a process that starts sets no event of ours
        await asyncio.sleep(0.001)
    parser._child.kill()
    with pytest.raises(DocumentRejected, match="crashed"):
        await unlucky
    assert (await parser.parse(b"next", "text/plain")).text == "next"


async def test_a_parser_that_ended_between_two_files_costs_none(parser: Parser) -> None:
    await parser.parse(b"warm", "text/plain")
    assert parser._child is not None
    parser._child.kill()
    await parser._child.wait()
    assert (await parser.parse(b"lucky", "text/plain")).text == "lucky"


async def test_who_gives_up_waiting_leaves_no_half_an_answer(parser: Parser) -> None:
    await parser.parse(b"warm", "text/plain")
    assert parser._child is not None
    os.kill(parser._child.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(parser.parse(b"cancelled", "text/plain"))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await parser.parse(b"next", "text/plain")).text == "next"
