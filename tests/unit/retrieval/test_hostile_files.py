"""Files made to harm: each is refused within its limit with a reason, and the next file is read as if nothing was."""

import time
from collections.abc import AsyncIterator, Callable

import pytest

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.parsers.bounds import Bounds
from retrieval.parsing import Parser, Plan
from tests.unit.retrieval.files import docx, pdf_bomb, zipped

DEADLINE_S = 20.0
MEMORY_BYTES = 2**29


@pytest.fixture
async def parser() -> AsyncIterator[Parser]:
    opened = Parser(DEADLINE_S, MEMORY_BYTES, max_characters=1_000_000)
    await opened.parse(b"warm", media.PLAIN)
    yield opened
    await opened.close()


def _zip_bomb() -> bytes:
    return docx(b"\n" * 2**20 for _ in range(300))  # a 2,000th of that as a file


def _entities() -> bytes:
    inner = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    return zipped({"word/document.xml": [f'<!DOCTYPE d [<!ENTITY e0 "ha">{inner}]><d>&e11;</d>'.encode()]})


HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a bomb of a DOCX": ("a.docx", _zip_bomb, "unpacks to more than"),
    "entities of entities": ("a.docx", _entities, "declares XML entities"),
    "a DOCX of nested tables": ("a.docx", lambda: docx("<w:tbl><w:tr><w:tc>" * 10_000), "levels deep"),
    "nested HTML": ("a.html", lambda: b"<div>" * 10_000 + b"deep" + b"</div>" * 10_000, "levels deep"),
    "nested JSON": ("a.json", lambda: b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "levels deep"),
    "one endless row": ("a.csv", lambda: b"a,b\n" + b"cell," * 2_000_000, "Split the file"),
    "one endless cell": ("a.csv", lambda: b'a,b\n"' + b"x" * 5_000_000, "not closed"),
    "a bomb of a PDF": ("a.pdf", lambda: pdf_bomb(600), "want of memory"),
    "a JSON of millions": ("a.json", lambda: b"[" + b'{"a":{}},' * 2_000_000 + b"1]", "more memory than the 512 MiB"),
}


SLOW = ("a bomb of a DOCX", "a bomb of a PDF", "a JSON of millions", "one endless row")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.heavy) if name in SLOW else name for name in HOSTILE]
)
async def test_a_hostile_file_is_refused_with_its_reason_and_the_next_one_read(parser: Parser, name: str) -> None:
    filename, make, words = HOSTILE[name]
    data = make()
    began_s = time.monotonic()
    with pytest.raises(DocumentRejected, match=words):
        await parser.parse(data, media.detect(filename, None, data), filename)
    assert time.monotonic() - began_s < DEADLINE_S
    assert (await parser.parse(b"# Next", media.MARKDOWN)).text == "# Next"


@pytest.mark.slow
async def test_a_file_that_takes_too_long_is_stopped_at_its_deadline_and_the_next_one_read(parser: Parser) -> None:
    slow = docx(b"<w:p><w:r><w:t>a</w:t></w:r></w:p>" * 10_000 for _ in range(600))
    assert len(slow) < 2**20
    parser._deadline_s = 1.0
    began_s = time.monotonic()
    with pytest.raises(DocumentRejected, match="longer than 1 s"):
        await parser.parse(slow, media.DOCX, plan=Plan(Bounds(unpacked_bytes=2**30)))
    assert time.monotonic() - began_s < 3
    parser._deadline_s = DEADLINE_S
    assert (await parser.parse(b"# Next", media.MARKDOWN)).text == "# Next"


async def test_what_is_unpacked_is_limited_by_its_plan(parser: Parser) -> None:
    data = docx("<w:p><w:r><w:t>" + "word " * 50_000 + "</w:t></w:r></w:p>")
    with pytest.raises(DocumentRejected, match="more than 100,000 bytes"):
        await parser.parse(data, media.DOCX, plan=Plan(Bounds(unpacked_bytes=100_000)))
    assert len((await parser.parse(data, media.DOCX)).text) == 249_999


async def test_a_ratio_that_no_document_has_is_a_bomb(parser: Parser) -> None:
    data = docx([b" " * 2**20] * 64)
    with pytest.raises(DocumentRejected, match="250 times its size"):
        await parser.parse(data, media.DOCX)
