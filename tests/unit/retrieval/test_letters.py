"""E-mails, books, RTF and XML: the best of their texts, in order, and what can't be read is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import media
from retrieval.chunking import Limits, chunk
from retrieval.errors import DocumentRejected
from retrieval.media import detect
from retrieval.parsers import parse
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise
from tests.unit.retrieval import samples

LIMIT = Bounds(characters=1_000_000)


def read(data: bytes, name: str, bounds: Bounds = LIMIT) -> Parsed:
    return parse(data, detect(name, None, data), bounds, name)


# ------------------------------------------------------------------------------------------------------------- e-mail


def test_an_email_has_subject_people_date_text_and_its_attachments_below_their_names() -> None:
    data = samples.letter(
        "# not a heading\nThe pier opens at seven.", minutes_docx=samples.word(), fees_csv=b"a;b\n1;2\n"
    )
    parsed = read(data, "a.eml")
    assert parsed.title == "Piers and fees"
    assert parsed.text.startswith(
        "# Piers and fees\n\nFrom: Ada <ada@harbour.example>\nTo: Bo <bo@harbour.example>\n"
        "Date: 2026-11-03 07:45:00+01:00\n\n # not a heading\nThe pier opens at seven."
    )
    assert "## Attachment: minutes.docx\n\n### Harbour\n\nThe harbour has piers.\n\nPier | Fee | Keeper" in parsed.text
    assert parsed.text.endswith("## Attachment: fees.csv\n\na: 1\nb: 2")
    contexts = [each.context for each in chunk(parsed, Limits(120, 60))]
    assert "Piers and fees > Attachment: minutes.docx > Harbour" in contexts


def test_html_is_read_where_there_is_no_plain_text() -> None:
    assert "The pier opens." in read(samples.letter(" ", html="<p>The <b>pier</b> opens.</p>"), "a.eml").text
    both = read(samples.letter("Plain words.", html="<p>Marked words.</p>"), "a.eml").text
    assert "Plain words." in both
    assert "Marked" not in both


def test_an_attachment_that_cannot_be_read_is_named_with_the_reason() -> None:
    text = read(samples.letter(song_mp3=b"\x00\x01\x02\xff", torn_docx=samples.word()[:500]), "a.eml").text
    assert "## Attachment: song.mp3\n\n(not read: The file is no text and of no known kind" in text
    assert "## Attachment: torn.docx\n\n(not read: The file is damaged or was cut off" in text
    assert "The pier opens at seven." in text


@pytest.mark.parametrize(
    "header",
    [
        'To: "',
        "To: \\@",
        "From: a@[",
        "Cc: =?utf-8?b?4piD?= <",
        "To: " + "(" * 300,
        "Message-ID: <@name ,",
        "Content-Type: text/plain; nameinline*0*",
        "Content-Disposition: inline; filename*0*",
    ],
)
def test_a_header_that_python_cannot_parse_costs_a_message_nothing(header: str) -> None:
    letter = f"Subject: Piers\n{header}\n\nThe pier opens at seven.\n".encode()
    assert "The pier opens at seven." in read(letter, "a.eml").text
    part = "\n--B\n"
    attached = f"{part}\nThe pier opens at seven.\n--B\n{header}\n\nOn Sundays at nine.\n--B--\n"
    text = read(f"Subject: Piers\nContent-Type: multipart/mixed; boundary=B\n{attached}".encode(), "a.eml").text
    assert "The pier opens at seven." in text
    assert "On Sundays at nine." in text


def test_what_cannot_be_parsed_of_a_header_is_kept_as_it_stands() -> None:
    text = read(b"Subject: Piers\nFrom: ada@[harbour\n\nThe pier opens.\n", "a.eml").text
    assert "From: ada@[harbour" in text


def test_parts_without_a_name_are_read_too_and_a_message_may_be_nothing_but_one() -> None:
    alone = b'Subject: Fees\nContent-Type: application/json; name="fees.json"\n\n{"pier": 14}\n'
    assert "## Attachment: fees.json\n\npier: 14" in read(alone, "a.eml").text
    table = b"Subject: Fees\nContent-Type: text/csv; name=t.csv\n\na,b\n1,2\n"
    assert "## Attachment: t.csv\n\na: 1" in read(table, "a.eml").text
    sent_on = b"Subject: Fwd\nContent-Type: message/rfc822\n\nSubject: Piers\n\nThe innermost words.\n"
    assert "The innermost words." in read(sent_on, "a.eml").text
    unnamed = (
        b"Subject: Fees\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\nSee below.\n--B\n"
        b'Content-Type: application/json\n\n{"pier": 14}\n--B\nContent-Type: image/png\n\nlogo\n--B--\n'
    )
    assert read(unnamed, "a.eml").text.endswith("See below.\n\n## Attachment: part\n\npier: 14")
    torn = b"Subject: Fees\nContent-Type: multipart/mixed\n\nThe words of no part.\n"
    assert "The words of no part." in read(torn, "a.eml").text


def test_an_attached_message_whose_boundary_is_no_ascii_costs_a_message_nothing() -> None:
    """It cannot be written as it stands, and the whole e-mail failed."""
    inner = (
        'Subject: Piers\nContent-Type: multipart/mixed; boundary="B\u00e4"\n\n'
        "--B\u00e4\n\nThe innermost words.\n--B\u00e4--\n"
    ).encode()
    for sent in (inner, inner.replace("\u00e4".encode(), b"\xff")):
        found = read(b"Subject: Fwd\nContent-Type: message/rfc822\n\n" + sent, "a.eml").text
        assert "## Attachment: message.eml\n\n### Piers" in found
        assert "The innermost words." in found or "(not read: " in found  # nobody can tell where its parts begin


def test_emails_in_emails_are_read_so_deep_and_no_deeper() -> None:
    text = read(samples.nested_letters(3), "a.eml").text
    assert "The innermost words." in text
    deep = read(samples.nested_letters(6), "a.eml").text
    assert "nested too deeply" in deep
    assert "Words of level 3." in deep
    assert "The innermost words." not in deep


def test_attachments_beyond_the_most_are_counted_and_their_text_is_bounded() -> None:
    parts = {f"n{number}_txt": b"word" for number in range(5)}
    text = read(samples.letter(**parts), "a.eml", Bounds(attachments=3)).text
    assert text.count("## Attachment:") == 3
    assert "(2 more attachments were not read)" in text
    long = {f"n{number}_txt": b"word " * 800 for number in range(3)}
    bounded = read(samples.letter(**long), "a.eml", Bounds(characters=10_000)).text
    assert bounded.count("(not read: The text has 3,999 characters") == 1
    assert bounded.count("word word") > 700


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"just words", "is no e-mail"),
        (b"", "empty"),
        (b"Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/encrypted; boundary=b\n\n--b--", "encrypted"),
    ],
)
def test_what_is_no_email_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(DocumentRejected, match=words):
        parse(data, media.EML, LIMIT, "a.eml")


def test_an_email_is_told_from_a_text_that_begins_with_names_and_colons() -> None:
    assert detect("message", None, samples.letter()) == media.EML
    assert detect("notes.txt", None, b"From: Ada\nTo: Bo\nDate: today\n\nHello") == media.PLAIN


# -------------------------------------------------------------------------------------------------------------- books


def test_chapters_come_in_the_order_of_reading() -> None:
    parsed = read(samples.book("<h1>Two</h1><p>b</p>", "<h1>One</h1><p>a&nbsp;c</p>"), "a.epub")
    assert parsed.title == "Piers"
    assert parsed.text == "# Two\n\nb\n\n# One\n\na c"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            samples.book("<p>x</p>", encryption='<e xmlns:n="u"><n:EncryptionMethod Algorithm="urn:aes"/></e>'),
            r"protected against copying \(DRM\)",
        ),
        (samples.book("<p>x</p>", package="<package/>"), "holds no text"),
        (
            samples.book(
                package='<package><manifest><item id="a" href="gone.xhtml" media-type="application/xhtml+xml"/>'
                '</manifest><spine><itemref idref="a"/></spine></package>'
            ),
            "chapter OPS/gone.xhtml is missing",
        ),
    ],
)
def test_a_book_that_cannot_be_read_says_why(data: bytes, words: str) -> None:
    with pytest.raises(DocumentRejected, match=words):
        read(data, "a.epub")


def test_disguised_fonts_are_no_protection() -> None:
    fonts = '<e><EncryptionMethod Algorithm="http://www.idpf.org/2008/embedding"/></e>'
    assert read(samples.book("<p>free</p>", encryption=fonts), "a.epub").text == "free"


@pytest.mark.parametrize("name", ["a%00.html", "a%0a%1b[31m.html", "a" * 5000])
def test_a_reason_that_quotes_a_file_is_one_line_that_every_database_takes(name: str) -> None:
    package = (
        f'<package><manifest><item id="i" href="{name}" media-type="text/html"/></manifest>'
        '<spine><itemref idref="i"/></spine></package>'
    )
    with pytest.raises(DocumentRejected) as rejected:
        read(samples.book("words", package=package), "a.epub")
    reason = rejected.value.reason
    assert reason.startswith("The e-book is damaged (its chapter")
    assert reason.isprintable()
    assert len(reason) <= 1000
    assert str(rejected.value) == reason


def test_a_declared_type_that_is_none_says_nothing() -> None:
    assert detect("words.x", "a/\x00\udcff", b"words") == media.UNKNOWN
    assert detect("words.x", "text/x-mine; charset=utf-8", b"words") == "text/x-mine"


# ---------------------------------------------------------------------------------------------------------------- RTF


def test_rtf_keeps_headings_letters_of_all_encodings_and_rows() -> None:
    assert read(samples.RTF, "a.rtf").text == (
        "# Harbour\n\nGröße of a pier €14, 😀 end.\n\nПирс\n\nPier | Fee\nNorth | 14\n\nLast."
    )


def test_what_was_deleted_while_changes_were_tracked_is_no_part_of_rtf() -> None:
    assert read(rb"{\rtf1 Fees are {\deleted nine }fourteen\deleted  nil\deleted0  pounds.\par}", "a.rtf").text == (
        "Fees are fourteen pounds."
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (samples.RTF[:-1], "cut off"),
        (b"{\\rtf1 " + b"{" * 10_000, "levels deep"),
        (b"not rtf", "is no RTF"),
        (b"{\\rtf1\\bin9999999999 x}", "cut off"),
        (b"{\\rtf1 {\\*\\unknown words}}", "holds no text"),
    ],
)
def test_broken_rtf_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(DocumentRejected, match=words):
        parse(data, media.RTF, LIMIT)


@given(st.text("abcé漢😀{}\\ ", max_size=60))
def test_any_text_comes_out_of_rtf_as_it_went_in(text: str) -> None:
    units = text.encode("utf-16-le")
    numbers = [int.from_bytes(units[place : place + 2], "little", signed=True) for place in range(0, len(units), 2)]
    data = b"{\\rtf1 x" + b"".join(b"\\u%d?" % number for number in numbers) + b"x}"
    assert read(data, "a.rtf").text == normalise(f"x{text}x").strip()


# ---------------------------------------------------------------------------------------------------------------- XML


def test_xml_is_lines_of_paths_with_prefixes_attributes_and_whole_sentences() -> None:
    parsed = read(samples.XML, "a.xml")
    assert parsed.records
    assert parsed.text == (
        "pier@id: n\npier.dc:title: North\npier.fee@currency: EUR\npier.fee: 14\n\n"
        "pier@id: s\npier.dc:title: South\npier.fee@currency: EUR\npier.fee: 22\npier.note: Closed all winter."
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'<!DOCTYPE d [<!ENTITY e "boom">]><d>&e;</d>', "declares XML entities"),
        (b'<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]><d>&e;</d>', "declares XML entities"),
        (b"<d>" * 600, "levels deep"),
        (b"<d><e></d>", "ends or breaks at line 1"),
        (b"<d/>", "no text"),
        (b'<?xml version="1.0" encoding="no-such"?><d>x</d>', "encoding that can't be read|ends or breaks"),
    ],
)
def test_unsafe_and_broken_xml_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(DocumentRejected, match=words):
        parse(data, media.XML, LIMIT)


def test_a_document_type_elsewhere_is_never_fetched_and_its_letters_are_those_of_html() -> None:
    data = b'<!DOCTYPE article SYSTEM "http://127.0.0.1:9/a.dtd"><article><p>caf&eacute; &mystery;bar</p></article>'
    assert read(data, "a.xml").text == "p: café bar"


def test_rows_of_xml_say_what_they_are_in_every_chunk() -> None:
    rows = "".join(f"<pier><name>Pier {n}</name><fee>{n}</fee></pier>" for n in range(50))
    parsed = read(f"<piers>{rows}</piers>".encode(), "piers.xml")
    pieces = chunk(parsed, Limits(150, 60), "piers")
    assert all(parsed.text[each.start : each.end] == each.text for each in pieces)
    assert all(any(f"pier.name: Pier {n}\npier.fee: {n}" in each.text for each in pieces) for n in range(50))
