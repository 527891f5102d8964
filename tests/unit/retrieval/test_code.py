"""Source code: chunks follow functions and classes, and say which file and symbol they are of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import media
from retrieval.chunking import Limits, chunk
from retrieval.errors import DocumentRejected
from retrieval.media import detect
from retrieval.parsers import parse
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed
from tests.unit.retrieval import samples

LIMIT = Bounds()


def read(data: bytes, name: str) -> Parsed:
    return parse(data, detect(name, None, data), LIMIT, name)


def _symbols(parsed: Parsed) -> list[str]:
    """Names, with a dot before them for each level."""
    return [f"{'.' * (level - 1)}{name}" for _, level, name in parsed.outline]


def _stripped(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("a.py", samples.PYTHON.decode(), ["Pier", ".fee", "open_all"]),
        (
            "a.js",
            "// says\nexport function one() {}\nconst two = () => 1;\nclass Three { go() {} }\nrun();\n",
            ["one", "two", "Three"],
        ),
        ("a.ts", "interface I { a: string }\nexport class A { go(): void {} }\ntype T = string;\n", ["I", "A", "T"]),
        ("a.tsx", "export const Box = () => <div>x</div>;\n", ["Box"]),
        ("a.go", "package p\ntype T struct{}\nfunc (t *T) Run() {}\nfunc main() {}\n", ["T", "Run", "main"]),
        ("A.java", "class A {\n int x;\n A() {}\n @Override\n void go() {}\n}\n", ["A", ".A", ".go"]),
        ("a.c", "#include <x>\nstruct s { int a; };\nstatic int *f(int x) { return 0; }\n", ["s", "f"]),
        (
            "a.cpp",
            "namespace n {\nclass C {\n void go() {}\n};\nint C::run() { return 1; }\n}\n",
            ["n", ".C", "..go", ".C::run"],
        ),
        (
            "a.rs",
            "/// says\nstruct P;\nimpl P {\n fn go(&self) {}\n}\nmod m {\n fn t() {}\n}\n",
            ["P", "P", ".go", "m", ".t"],
        ),
        ("a.rb", "module M\n class C\n  def go\n  end\n end\nend\n", ["M", ".C", "..go"]),
        ("a.sh", "set -e\nhello() {\n echo 1\n}\nhello\n", ["hello"]),
        ("a.sql", "create table a.b (c int);\nCREATE OR REPLACE VIEW v AS SELECT 1;\n", ["a.b", "v"]),
        ("a.yaml", "# x\none:\n  two: 3\nfour:\n- 5\n", ["one", "four"]),
        ("a.toml", "[one]\nx = 1\n[[two.three]]\n", ["one", "two.three"]),
        ("a.kt", "class A {\n    fun go() {}\n}\n", ["A", ".go"]),
    ],
)
def test_definitions_of_a_language_are_found(name: str, source: str, expected: list[str]) -> None:
    assert [symbol for symbol in _symbols(read(source.encode(), name)) if symbol] == expected


def test_a_chunk_names_its_file_and_its_symbol() -> None:
    body = "".join(f"        total = total + {number}\n" for number in range(20))
    methods = f"    def fee(self):\n{body}\n    @cached\n    def rent(self):\n{body}"
    source = f"import os\n\n\nclass Pier:\n{methods}\n\nprint(os)\n"
    parsed = read(source.encode(), "app/piers.py")
    pieces = chunk(parsed, Limits(500, 200), parsed.name("app/piers.py"))
    assert all(parsed.text[each.start : each.end] == each.text for each in pieces)
    rent = next(each for each in pieces if "def rent" in each.text)
    assert rent.text.startswith("@cached")
    assert rent.context == "app/piers.py > Pier > rent"
    lines = source.split("\n")
    assert all(line in {each.strip() for each in lines} for piece in pieces for line in _stripped(piece.text))
    assert pieces[-1].context == "app/piers.py"
    assert pieces[-1].text == "print(os)"


def test_a_comment_in_code_is_no_heading() -> None:
    parsed = read(b"# Setup\nx = 1\n\n\ndef go():\n    return x\n", "a.py")
    assert chunk(parsed, Limits(20, 20), "a.py")[0].context == "a.py"


@given(st.binary(max_size=300), st.sampled_from(sorted(media.CODE)))
def test_broken_code_keeps_its_text_and_its_marks_begin_lines(data: bytes, kind: str) -> None:
    source = b"class A {\n def x():\n" + data.replace(b"\x00", b"").replace(b"\xff", b"\n")
    try:
        parsed = parse(source, kind, LIMIT, "a")
    except DocumentRejected:  # control characters
        return
    for place, level, _ in parsed.outline:
        assert place == 0 or parsed.text[place - 1] == "\n"
        assert level >= 1
    places = [place for place, _, _ in parsed.outline]
    assert places == sorted(set(places))
    pieces = chunk(parsed, Limits(50, 50))
    assert "".join("".join(each.text.split()) for each in pieces) == "".join(parsed.text.split())


def test_a_video_that_is_called_like_typescript_is_no_code() -> None:
    assert detect("film.ts", None, b"G\x40\x00\x10\x00\x00\xb0\x0d" * 20) == media.UNKNOWN
