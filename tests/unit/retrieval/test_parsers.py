"""Parsers: normal form, pages, and refusals that say what to do."""

import contextlib
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.media import detect
from retrieval.parsers import parse
from retrieval.parsers.parsed import Parsed, normalise

LIMIT = 1_000_000


@given(st.text())
def test_the_normal_form_is_reached_at_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not any(char in once for char in "\x00\r\x0b\x0c\x85\u2028\u2029\ufeff")
    once.encode()


@given(st.binary(max_size=300), st.sampled_from(sorted(media.SUPPORTED)))
def test_any_bytes_give_text_or_a_reason(data: bytes, media_type: str) -> None:
    with contextlib.suppress(DocumentRejected):
        parsed = parse(data, media_type, LIMIT)
        assert parsed.text == normalise(parsed.text)
        assert parsed.text.strip()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_is_read_in_its_encoding(encoding: str) -> None:
    assert parse("Größe\r\nzwei".encode(encoding), media.PLAIN, LIMIT).text == "Größe\nzwei"


@pytest.mark.parametrize(
    ("data", "media_type", "words"),
    [
        (b"", media.PLAIN, "empty"),
        (b" \n ", media.MARKDOWN, "no text"),
        (b"\x00\x01", media.PLAIN, "NUL"),
        (b"\xff\xfea", media.PLAIN, "utf-16"),
        (b"%PDF-1.4 nonsense", media.PDF, "corrupt"),
        (b"PK\x03\x04", "application/epub+zip", "can't be read yet"),
        (b"x" * 11, media.PLAIN, "Split the file"),
        (b"<html><nav>Menu</nav></html>", media.HTML, "no text"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(data: bytes, media_type: str, words: str) -> None:
    with pytest.raises(DocumentRejected, match=words):
        parse(data, media_type, 10)


@pytest.mark.parametrize(
    ("filename", "declared", "data", "expected"),
    [
        ("a.pdf", None, b"%PDF-1.7", media.PDF),
        ("renamed.txt", "text/plain", b"\n%PDF-1.7", media.PDF),
        ("a.MD", "application/octet-stream", b"# x", media.MARKDOWN),
        ("a.htm", None, b"<p>", media.HTML),
        ("notes", None, b"hello", media.PLAIN),
        ("notes", "text/markdown; charset=utf-8", b"hello", media.MARKDOWN),
        ("page", None, b"\xef\xbb\xbf <!DOCTYPE html><html>", media.HTML),
        ("a.csv", "text/csv", b"a,b", "text/csv"),
        ("a.txt", None, b"\x7fELF\x00\x00", media.UNKNOWN),
        ("a.docx", None, b"PK\x03\x04\x00", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.txt", None, "BOM".encode("utf-16"), media.PLAIN),
        ("a.xyz", None, b"hello", media.UNKNOWN),
        ("empty.pdf", None, b"", media.PDF),
    ],
)
def test_the_kind_of_file_is_found_by_content_then_name(
    filename: str, declared: str | None, data: bytes, expected: str
) -> None:
    assert detect(filename, declared, data) == expected


def test_html_keeps_the_article_and_drops_the_menu() -> None:
    page = b"""<html><head><title>Ducks</title><style>p {}</style></head><body>
    <header>Site</header><nav><ul><li>Move to sidebar</ul></nav><div class="sidebar">Donate</div>
    <main><h1>Duck</h1><p>A <b>duck</b> is\na bird.</p><!-- secret --><ul><li>Mallard<li>Teal</ul>
    <table><tr><th>Name<th>Weight<tr><td>Teal<td>300 g</table><pre>x = 1\n  y</pre></main>
    <footer>Imprint</footer><script>alert(1)</script></body></html>"""
    parsed = parse(page, media.HTML, LIMIT)
    assert parsed.title == "Ducks"
    assert "# Duck\n\nA duck is a bird." in parsed.text
    assert "- Mallard\n- Teal" in parsed.text
    assert "Name | Weight\nTeal | 300 g" in parsed.text
    assert "x = 1\n  y" in parsed.text
    for word in ("sidebar", "Donate", "Imprint", "alert", "secret", "Site"):
        assert word not in parsed.text


def test_deeply_nested_html_ends_in_text_or_a_reason() -> None:
    with contextlib.suppress(DocumentRejected, RecursionError):  # the parsing process turns the latter into a reason
        parse(b"<div>" * 10_000 + b"deep" + b"</div>" * 10_000, media.HTML, LIMIT)


SUPPORTED_FILES = {".pdf", ".md", ".html", ".txt"}


def test_real_documents_end_as_their_list_says(documents: Path) -> None:
    checked = 0
    for entry in json.loads((documents / "expected.json").read_text()):
        path = documents / entry["file"]
        data = path.read_bytes()
        outcome: Parsed | str
        try:
            outcome = parse(data, detect(path.name, None, data), LIMIT)
        except DocumentRejected as rejection:
            outcome = rejection.reason
        if path.suffix not in SUPPORTED_FILES or entry["expect"] == "error":
            assert isinstance(outcome, str), path.name
        elif entry["expect"] == "text" or isinstance(outcome, Parsed):
            assert isinstance(outcome, Parsed), (path.name, outcome)
            squeezed = " ".join(unicodedata.normalize("NFKC", outcome.text).split())
            for phrase in entry["phrases"]:
                assert phrase in squeezed, (path.name, phrase)
        else:
            assert "no text layer" in outcome
        checked += 1
    assert checked >= 10


def test_a_sentence_of_a_real_pdf_is_on_its_page(documents: Path) -> None:
    parsed = parse((documents / "multi_page.pdf").read_bytes(), media.PDF, LIMIT)
    page, start, end = parsed.pages[0]
    assert page == 1
    assert "Patented in 1868 by Christopher Latham Sholes" in " ".join(parsed.text[start:end].split())
    assert [number for number, _, _ in parsed.pages] == [1, 2, 3, 4, 5]


def test_a_real_web_page_is_not_dominated_by_its_menus(documents: Path) -> None:
    parsed = parse((documents / "wiki_duck.html").read_bytes(), media.HTML, LIMIT)
    assert "Move to sidebar" not in parsed.text
    assert "move to sidebar" not in parsed.text
    assert parsed.text.index("Duck is the common name") < 1000
