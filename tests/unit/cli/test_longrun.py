"""The long run goes on where it was, runs what the code has changed again, and tells what it measured."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cli.errors import CliError
from cli.longrun import BEGIN, END, Book, Code, Part, Step, code_of, go_on, long_tests, parts_of
from tests.support.process import ROOT

PAGE = f"# Hardening\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n"


class Runner:
    """Runs steps for real where they are pytest's, and only notes the others; `fails` names one that fails."""

    def __init__(self, fails: str = "") -> None:
        self.ran: list[str] = []
        self.fails = fails

    def __call__(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.name == self.fails:
                raise CliError(f"{step.name} failed", "mend it")
            self.ran.append(step.name)
            if "pytest" in step.command:
                subprocess.run(step.command, check=True, capture_output=True)


def parts(*names: str) -> list[Part]:
    return [Part(name, (Step(name, ("true",)),)) for name in names]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "hardening.md"
    file.write_text(PAGE)
    return file


def book(folder: Path, code: str = "c1") -> Book:
    return Book.open(folder / "state" / "long.json", Code(code, f"{code}-commit"))


def test_a_run_that_failed_is_gone_on_with_where_it_was(tmp_path: Path, page: Path) -> None:
    first, second = Runner(fails="b"), Runner()
    with pytest.raises(CliError, match="1 parts failed: b"):
        go_on(parts("a", "b", "c"), book(tmp_path), first, page, tmp_path)
    assert go_on(parts("a", "b", "c"), book(tmp_path), second, page, tmp_path) == []
    assert (first.ran, second.ran) == (["a", "c"], ["b"])
    assert "| b |" in page.read_text()


def test_other_code_has_passed_nothing(tmp_path: Path, page: Path) -> None:
    go_on(parts("a"), book(tmp_path), Runner(), page, tmp_path)
    again = Runner()
    go_on(parts("a"), book(tmp_path, "c2"), again, page, tmp_path)
    assert again.ran == ["a"]


def test_what_never_passed_comes_first_and_what_passed_on_other_code_stays_on_the_page(
    tmp_path: Path, page: Path
) -> None:
    go_on(parts("b", "c"), book(tmp_path), Runner(), page, tmp_path)
    again = Runner(fails="c")
    with pytest.raises(CliError, match="1 parts failed: c"):
        go_on(parts("a", "b", "c", "d"), book(tmp_path, "c2"), again, page, tmp_path)
    assert again.ran == ["a", "d", "b"]
    text = page.read_text()
    assert "4 parts, 0 tests" in text
    assert "3 of them on the newest code that was run, c2-commit" in text
    assert "| c | c1-commit |" in text
    assert "| b | c2-commit |" in text


def test_no_part_is_begun_after_the_minutes(tmp_path: Path, page: Path) -> None:
    runner = Runner()
    assert go_on(parts("a", "b"), book(tmp_path), runner, page, tmp_path, most_s=-1.0) == ["a", "b"]
    assert runner.ran == []


def test_figures_seeds_and_durations_stand_on_the_page_and_what_is_around_them_stays(
    tmp_path: Path, page: Path
) -> None:
    test = tmp_path / "test_one.py"
    test.write_text(
        "import pytest\n"
        "def test_it(record_property): record_property('figure', 'p99 <b>|12*3</b> `ms`\\nand more')\n"
        "def test_no(): pytest.skip()\n"
    )
    strict = (
        "-W",
        "error::pytest.PytestWarning",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        f"--rootdir={tmp_path}",
    )  # as the suite itself is run
    command = (sys.executable, "-m", "pytest", "-q", *strict, str(test))
    kept = book(tmp_path)
    go_on([Part("one", (Step("one", command),))], kept, Runner(), page, tmp_path)
    text = page.read_text()
    assert text.startswith("# Hardening\n\nBefore.\n")
    assert text.endswith(f"{END}\n\nAfter.\n")
    assert "old" not in text
    assert "- `test_it`: p99 \\<b>\\|12\\*3\\</b> 'ms' and more\n" in text
    passed = kept.passed["one"]
    assert passed.tests == 1
    assert f"| {passed.seed} |" in text
    assert book(tmp_path).passed == kept.passed


def test_a_page_without_a_place_is_refused(tmp_path: Path, page: Path) -> None:
    page.write_text("# Hardening\n")
    with pytest.raises(CliError, match="has no place"):
        go_on(parts("a"), book(tmp_path), Runner(), page, tmp_path)


def test_the_long_tests_of_this_suite_are_found(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(
        "import pytest\n@pytest.mark.long\ndef test_hours(): ...\ndef test_seconds(): ...\n"
    )
    found = long_tests((sys.executable, "-m", "pytest", "-m"), tmp_path)
    assert found == {"tests/test_a.py": ["tests/test_a.py::test_hours"]}


def test_every_long_test_and_every_promise_is_in_one_part() -> None:
    usual = [[Step("ruff", ("ruff",))], [Step("lane 1", ("x",)), Step("lane 2", ("y",))]]
    isolation = "tests/integration/tenants/test_isolation.py"
    tests = {
        "tests/faults/test_a.py": ["tests/faults/test_a.py::test_x"],
        isolation: [f"{isolation}::a", f"{isolation}::b"],
    }
    made = parts_of(usual, tests, ("py", "-m", "pytest", "-m"), 61, "py")
    assert len({one.name for one in made}) == len(made)
    assert [one.name for one in made] == [
        *("usual: ruff", "usual: lane 1", "faults/test_a"),
        *(f"{isolation[6:-3]} a", f"{isolation[6:-3]} b", "promises 1 to 30", "promises 31 to 60", "promises 61 to 61"),
    ]
    assert made[2].steps[0].command == ("py", "-m", "pytest", "-m", "long", "tests/faults/test_a.py")


def test_pages_are_no_code(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        named = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *named, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    for name in ("a.py", "README.md", "docs/x.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    git("add", ".")
    git("commit", "-m", "one")
    before = code_of(tmp_path)
    (tmp_path / "docs/x.md").write_text("2\n")
    assert code_of(tmp_path) == before
    (tmp_path / "a.py").write_text("2\n")
    changed = code_of(tmp_path)
    assert changed.digest != before.digest
    assert changed.commit == f"{before.commit}+"
    git("commit", "-am", "two")
    after = code_of(tmp_path)
    assert after.digest not in (before.digest, changed.digest, "")
    assert len(after.commit) == 8
