"""Parsers: normal form, pages, and refusals that say what to do."""

import contextlib
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.media import detect
from retrieval.parsers import parse
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise
from tests.unit.retrieval.files import docx, zipped

LIMIT = Bounds(characters=1_000_000)


@given(st.text())
def test_the_normal_form_is_reached_at_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not any(char in once for char in "\x00\r\x0b\x0c\x85\u2028\u2029\ufeff")
    once.encode()


def test_the_normal_form_hides_nothing() -> None:
    hidden = "".join(chr(0xE0000 + ord(char)) for char in "obey me")
    assert normalise(f"The gate{hidden} opens\u200b at\u00ad 07:45.") == "The gate opens at 07:45."


@given(st.binary(max_size=300), st.sampled_from(sorted(media.SUPPORTED)))
def test_any_bytes_give_text_or_a_reason(data: bytes, media_type: str) -> None:
    with contextlib.suppress(DocumentRejected):
        parsed = parse(data, media_type, LIMIT)
        assert parsed.text == normalise(parsed.text)
        assert parsed.text.strip()


WIDE = ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", *WIDE])
def test_text_is_read_in_its_encoding(encoding: str) -> None:
    assert parse("Größe\r\nzwei".encode(encoding), media.PLAIN, LIMIT).text == "Größe\nzwei"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "El niño comió mañana en España, ¿verdad? Ångström åt blåbär på öarna."),
        ("cp1250", "Zażółć gęślą jaźń. Wszyscy ludzie rodzą się wolni i równi pod względem swej godności."),
        ("cp1251", "Все люди рождаются свободными и равными в своем достоинстве и правах."),
        ("koi8_r", "Все люди рождаются свободными и равными в своем достоинстве и правах."),
        ("cp1253", "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα."),
        ("shift_jis", "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"),
        ("gb18030", "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。"),
        ("big5", "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心,並應以兄弟關係的精神相對待。"),
        ("cp949", "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다."),
    ],
)
def test_legacy_encodings_are_told_by_their_text(encoding: str, text: str) -> None:
    assert parse(text.encode(encoding), media.PLAIN, LIMIT).text == text


@pytest.mark.parametrize("meta", ["<meta charset=utf-16>", '<meta http-equiv=x content="text/html; charset=UTF-16LE">'])
def test_a_page_that_can_be_read_as_ascii_is_in_no_wide_encoding_whatever_it_says(meta: str) -> None:
    assert parse(f"<html><head>{meta}</head><p>Größe</p></html>".encode(), media.HTML, LIMIT).text == "Größe"


@pytest.mark.parametrize("spoil", [lambda data: data + b"\xc3", lambda data: data[:101] + b"\xff" + data[101:]])
def test_one_byte_that_is_wrong_does_not_spoil_all_letters_of_a_text(spoil: Callable[[bytes], bytes]) -> None:
    text = "Der Prüfstand für die Größe der Häfen. " * 20
    assert parse(spoil(text.encode()), media.PLAIN, LIMIT).text.count("Prüfstand für die Größe") >= 19


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"xl/workbook.bin": [b""]}, "binary Excel .* save it as XLSX"),
        ({"META-INF/container.xml": [b"<container/>"]}, "e-book is damaged"),
        ({"notes/a.txt": [b"x"]}, "ZIP archive.* unpack it"),
    ],
)
@pytest.mark.parametrize("filename", ["a.txt", "a.docx", "a.zip", "a.pdf"])
def test_a_zip_file_is_named_by_what_is_in_it(parts: dict[str, list[bytes]], words: str, filename: str) -> None:
    data = zipped(parts)
    with pytest.raises(DocumentRejected, match=words):
        parse(data, detect(filename, None, data), LIMIT, filename)


@given(st.binary(max_size=400), st.sampled_from(["a.txt", "a.md", "a.csv", "a.json", "a", "a.docx", "a.pdf"]))
def test_a_wrong_name_never_makes_garbage(data: bytes, filename: str) -> None:
    with contextlib.suppress(DocumentRejected):
        text = parse(b"\x00\x01\x02\xfe" + data, detect(filename, None, data), LIMIT, filename).text
        assert "\x00" not in text
        assert sum(not char.isprintable() and char not in "\n\t" for char in text) <= 0.02 * len(text)


@pytest.mark.parametrize(
    ("data", "media_type", "words"),
    [
        (b"", media.PLAIN, "empty"),
        (b" \n ", media.MARKDOWN, "no text"),
        (b"\x00\x01\x02\x00\x03", media.PLAIN, "is no text"),
        (b"\xff\xfea", media.PLAIN, "utf-16"),
        (b"%PDF-1.4 nonsense", media.PDF, "corrupt"),
        (b"PK\x03\x04", media.EPUB, "cut off"),
        (b"PK\x03\x04", media.DOCX, "cut off"),
        (b"x" * 11, media.PLAIN, "Split the file"),
        (b"<html><nav>Menu</nav></html>", media.HTML, "no text"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(data: bytes, media_type: str, words: str) -> None:
    with pytest.raises(DocumentRejected, match=words):
        parse(data, media_type, Bounds(characters=10))


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
        ("a.csv", "text/csv", b"a,b", media.CSV),
        ("page.txt", None, b"<!-- saved -->\n<HTML><body>", media.HTML),
        ("rows.txt", None, b'[{"a": 1}]', media.JSON),
        ("rows", "application/x-ndjson", b'{"a": 1}\n{"a": 2}', media.JSON_LINES),
        ("list.txt", None, b"[1] J. Smith: On ducks", media.PLAIN),
        ("a.md", None, b'{"a": 1}', media.MARKDOWN),
        ("page.txt", None, "<html>".encode("utf-16"), media.HTML),
        ("wide.txt", None, "no mark".encode("utf-16-le"), media.PLAIN),
        ("photo.txt", None, b"\xff\xd8\xff\xe0 no zeros", "image/jpeg"),
        ("letter.docx", None, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
        ("letter.txt", None, docx("x"), media.DOCX),
        ("letter.pdf", None, docx("x"), media.DOCX),
        ("a.txt", None, b"\x01\x02\x00\x00\x7f\x03\x00", media.UNKNOWN),
        ("a.docx", None, b"PK\x03\x04\x00", media.DOCX),
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


def test_html_tables_code_and_hidden_text() -> None:
    page = b"""<body><table><tr><td><p>Teal</p><p>bird</p><td>300<br>g</table>
    <pre><code>x <span>=</span> 1\n# no heading</code></pre><div style="display: none">secret</div>
    <table><tr><td><h2>Left</h2>text<td>right</table></body>"""
    text = parse(page, media.HTML, LIMIT).text
    assert text == "Teal bird | 300 g\n\n```\nx = 1\n# no heading\n```\n\n## Left\n\ntext\nright"


def test_deeply_nested_html_is_refused_at_once() -> None:
    with pytest.raises(DocumentRejected, match="500 levels"):
        parse(b"<div>" * 10_000 + b"deep" + b"</div>" * 10_000, media.HTML, LIMIT)


def test_real_documents_end_as_their_list_says(documents: Path) -> None:
    checked = 0
    for entry in json.loads((documents / "expected.json").read_text()):
        path = documents / entry["file"]
        data = path.read_bytes()
        outcome: Parsed | str
        try:
            outcome = parse(data, detect(path.name, None, data), LIMIT, path.name)
        except DocumentRejected as rejection:
            outcome = rejection.reason
        if entry["expect"] == "error":
            assert isinstance(outcome, str), path.name
        elif entry["expect"] == "text" or isinstance(outcome, Parsed):
            assert isinstance(outcome, Parsed), (path.name, outcome)
            squeezed = " ".join(unicodedata.normalize("NFKC", outcome.text).split())
            for phrase in entry["phrases"]:
                assert phrase in squeezed, (path.name, phrase)
        else:
            assert "no text layer" in outcome
            assert "./stoker ocr" in outcome
        checked += 1
    assert checked >= 16


def test_what_a_real_file_is_called_makes_no_difference(documents: Path) -> None:
    for name in ("multi_page.pdf", "word_tables.docx", "wiki_duck.html", "arbitrary-records.json"):
        data = (documents / name).read_bytes()
        right, wrong = (parse(data, detect(each, None, data), LIMIT, each).text for each in (name, "renamed.txt"))
        assert right == wrong


def test_rows_of_real_tables_stay_together(documents: Path) -> None:
    text = parse((documents / "word_tables.docx").read_bytes(), media.DOCX, LIMIT).text
    assert "# Test with tables" in text.split("\n")
    assert "Cell 1.0 | Merged Cell 1.1 1.2" in text.split("\n")
    assert text.count("Merged Cell 4.4 5.4") == 1
    rows = parse((documents / "csv-semicolon.csv").read_bytes(), media.CSV, LIMIT).text
    assert "\nCompany: Dominguez;Mcmillan and Donovan\n" in rows


def test_columns_of_a_real_pdf_are_not_interleaved(documents: Path) -> None:
    text = parse((documents / "multicolumn.pdf").read_bytes(), media.PDF, LIMIT).text
    words = " ".join(text.split())
    assert "consectetuer adipiscing elit. Ut purus elit, vestibulum ut, placerat ac, adipiscing vitae, felis." in words
    assert "iscing" not in words.replace("adipiscing", "").split()


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
