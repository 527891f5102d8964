"""Chunks: exact spans, nothing lost, nothing twice, none too long."""

from hypothesis import given
from hypothesis import strategies as st

from retrieval.chunking import Chunk, Limits, chunk, estimate_tokens
from retrieval.parsers.parsed import Parsed, normalise

SMALL = Limits(characters=60, tokens=20)
WORDS = st.sampled_from(
    ["# Head", "## Sub", "A sentence. ", "word ", "\n", "\n\n", "```\n", "漢字漢字。", "é́", "x" * 90, "- item\n", "\t"]
)
TEXTS = st.one_of(st.text(max_size=400), st.lists(WORDS, max_size=40).map("".join))


@given(TEXTS, st.booleans(), st.sampled_from([SMALL, Limits(), Limits(100, 32)]))
def test_every_chunk_is_its_span_and_together_they_cover_the_text(text: str, structured: bool, limits: Limits) -> None:
    parsed = Parsed(normalise(text), structured=structured)
    chunks = chunk(parsed, limits, "Title")
    position = 0
    for piece in chunks:
        assert piece.text == parsed.text[piece.start : piece.end]
        assert piece.text.strip() == piece.text != ""
        assert parsed.text[position : piece.start].strip() == ""
        assert len(piece.text) <= limits.characters
        assert estimate_tokens(piece.text) <= limits.tokens
        position = piece.end
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
    assert estimate_tokens(text) <= len(text)


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
