"""Scans and pictures: read where text recognition is installed, refused with what to do where it is not."""

import io
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from cli.environments import OCR
from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.media import detect
from retrieval.parsers import parse
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.recognition import _text
from retrieval.parsing import Digest, Parser, Plan
from tests.unit.retrieval import samples
from tests.unit.retrieval.files import pdf

needs_ocr = pytest.mark.skipif(not OCR.is_current(), reason="text recognition is not installed: run `./stoker ocr`")


@pytest.fixture
async def parser() -> AsyncIterator[Parser]:
    opened = Parser(deadline_s=300, memory_bytes=2**31, max_characters=100_000)
    yield opened
    await opened.close()


async def read(parser: Parser, data: bytes, name: str) -> Digest:
    return await parser.parse(data, detect(name, None, data), name, Plan(ocr=str(OCR.python)))


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (samples.picture(), "a.png", "The file is a picture. Text recognition .* `./stoker ocr`"),
        (samples.picture(form="JPEG"), "a.jpeg", "The file is a picture"),
        (samples.scan(), "a.pdf", "seems to be scanned. Text recognition .* `./stoker ocr`"),
    ],
)
def test_without_text_recognition_the_reason_says_how_to_install_it(data: bytes, name: str, words: str) -> None:
    with pytest.raises(DocumentRejected, match=words):
        parse(data, detect(name, None, data), Bounds(), name)


@needs_ocr
@pytest.mark.slow
async def test_words_of_pictures_and_scans_are_found(parser: Parser, documents: Path) -> None:
    for form, name in (("PNG", "a.png"), ("JPEG", "b.txt"), ("WEBP", "c.webp"), ("TIFF", "d.tif")):
        digest = await read(parser, samples.picture(form=form), name)
        assert digest.text == "The violet lighthouse"
    scanned = await read(parser, samples.scan("Pier K costs 14 crowns"), "a.pdf")
    assert "14 crowns" in scanned.text
    assert scanned.pages == ((1, 0, len(scanned.text)),)
    real = await read(parser, (documents / "ocr_test.pdf").read_bytes(), "ocr_test.pdf")
    assert "Docling bundles PDF document conversion" in " ".join(real.text.split())


@needs_ocr
@pytest.mark.slow
async def test_each_picture_of_a_tiff_is_a_page_and_a_picture_without_words_says_so(parser: Parser) -> None:
    frames = [Image.open(io.BytesIO(samples.picture(text))) for text in ("First page", "Second page")]
    file = io.BytesIO()
    frames[0].save(file, "TIFF", save_all=True, append_images=frames[1:])
    digest = await read(parser, file.getvalue(), "a.tiff")
    assert [digest.text[start:end] for _, start, end in digest.pages] == ["First page", "Second page"]
    with pytest.raises(DocumentRejected, match="no words in the picture"):
        await read(parser, samples.picture(""), "a.png")


@needs_ocr
@pytest.mark.slow
async def test_broken_pictures_and_bombs_are_refused_and_the_next_one_is_read(parser: Parser) -> None:
    bomb = samples.saved(lambda file: Image.new("1", (40_000, 40_000)).save(file, "PNG"))
    for data, words in (
        (samples.picture()[:200], "damaged or was cut off"),
        (samples.picture(form="TIFF")[:60], "damaged or was cut off"),
        (bomb, "more than 100,000,000 pixels"),
    ):
        with pytest.raises(DocumentRejected, match=words):
            await read(parser, data, "a.png")
    assert (await read(parser, samples.picture("Still here"), "a.png")).text == "Still here"


@needs_ocr
@pytest.mark.slow
async def test_recognition_that_dies_costs_one_file(parser: Parser) -> None:
    await read(parser, samples.picture("Once"), "a.png")
    assert parser._child is not None
    children = _children(parser._child.pid)
    assert len(children) == 1
    os.kill(children[0], signal.SIGKILL)
    with pytest.raises(DocumentRejected, match="Text recognition failed"):
        await read(parser, samples.picture("Unlucky"), "a.png")
    assert (await read(parser, samples.picture("Twice"), "a.png")).text == "Twice"


@needs_ocr
@pytest.mark.slow
async def test_a_file_whose_pages_take_too_long_says_how_many_were_read(parser: Parser) -> None:
    await read(parser, samples.picture("Warm"), "a.png")
    parser._deadline_s = 0.5
    frames = [Image.open(io.BytesIO(samples.picture("Page of many words", size=(1600, 1200))))] * 40
    data = samples.saved(lambda file: frames[0].save(file, "TIFF", save_all=True, append_images=frames[1:]))
    with pytest.raises(DocumentRejected, match=r"took longer|page\(s\) in the 0.5 s"):
        await read(parser, data, "a.tiff")


async def test_a_pdf_with_a_text_layer_starts_no_recognition(parser: Parser) -> None:
    data = pdf([[(50, 700, "The violet lighthouse.")]])
    digest = await parser.parse(data, media.PDF, "a.pdf", Plan(ocr="/nowhere/python"))
    assert digest.text == "The violet lighthouse."


def test_recognised_lines_are_read_by_rows_and_columns() -> None:
    rows = [(100.0, 20.0 * n, 200.0, 20.0 * n + 15, f"b{n}", 0.9) for n in range(2)]
    rows += [(10.0, 20.0 * n + 1, 90.0, 20.0 * n + 15, f"a{n}", 0.9) for n in range(2)]
    assert _text([*rows, (10.0, 100.0, 90.0, 115.0, "below", 0.9), (0.0, 0.0, 1.0, 1.0, "noise", 0.1)]) == (
        "a0 b0\na1 b1\n\nbelow"
    )
