"""`./stoker test --long`: the whole suite in parts of less than 45 minutes, and a page of what each of them measured.

A part that has passed is not run again until the code changes, so an interrupted run is gone on with by the same
command, also on another machine: what passed last, and on which code, stands in docs/long-run.json. The page is a
section of docs/hardening.md.
"""

import hashlib
import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from cli.console import err, short_time
from cli.errors import CliError

PART_S = 45 * 60
BEGIN, END = "<!-- long run: written by ./stoker test --long -->", "<!-- end of the long run -->"
_PROMISES_AT_ONCE = 30
_APART = ("tests/integration/tenants/test_isolation.py",)  # each of whose tests takes half an hour
_NO_CODE = (":!docs", ":!*.md")


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the run."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Steps that run side by side; what a part measured is kept under its name."""

    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """A state of the code.

    Attributes:
        digest: of all files but pages, as they stand.
        commit: the last one, abbreviated; with a "+" where files differ from it.
    """

    digest: str
    commit: str


@dataclass(frozen=True, slots=True)
class Passed:
    """A part that has passed.

    Attributes:
        code, commit: as of `Code`.
        at: when it ended, in UTC.
        seed: of hypothesis; tests with seeds of their own name them in their figures.
        figures: test and text of each.
    """

    name: str
    code: str
    commit: str
    at: str
    seconds: float
    seed: int
    tests: int = 0
    figures: tuple[tuple[str, str], ...] = ()


@dataclass
class Book:
    """What has passed last, part by part."""

    file: Path
    code: Code
    passed: dict[str, Passed] = field(default_factory=dict)

    @classmethod
    def open(cls, file: Path, code: Code) -> "Book":
        """Read it."""
        book = cls(file, code)
        if file.exists():
            rows = [{**row, "figures": tuple(map(tuple, row["figures"]))} for row in json.loads(file.read_text())]
            book.passed = {row["name"]: Passed(**row) for row in rows}
        return book

    def add(self, passed: Passed) -> None:
        """Keep it in place of what its part was before; whole or not at all."""
        self.passed[passed.name] = passed
        written = self.file.with_suffix(".written")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        rows = sorted(map(asdict, self.passed.values()), key=lambda row: str(row["name"]))
        written.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.replace(self.file)

    def left(self, parts: Sequence[Part]) -> list[Part]:
        """Those that have not passed on this code: first what never has, then what passed longest ago."""
        waiting = [part for part in parts if part.name not in self.passed or not self.is_now(self.passed[part.name])]
        return sorted(waiting, key=lambda part: self.passed[part.name].at if part.name in self.passed else "")

    def is_now(self, passed: Passed) -> bool:
        """Whether it was this code."""
        return passed.code == self.code.digest


def go_on(
    parts: Sequence[Part],
    book: Book,
    run: Callable[[Sequence[Step]], None],
    page: Path,
    folder: Path,
    most_s: float | None = None,
) -> list[str]:
    """Run the parts that have not passed on this code, and write the page after each.

    Args:
        run: raises CliError where a step fails.
        folder: for reports of pytest.
        most_s: no part is begun after so many seconds.

    Returns: names of the parts that are left.

    Raises: CliError: parts failed; what is left was run all the same.
    """
    began_s = time.monotonic()
    failed: list[str] = []
    waiting = book.left(parts)
    for at, part in enumerate(waiting, 1):
        if most_s is not None and time.monotonic() - began_s > most_s:
            break
        seed = secrets.randbelow(10**6)
        reports = [folder / f"{step}.xml" for step in range(len(part.steps))]
        for report in reports:
            report.unlink(missing_ok=True)
        err.print(f"[bold]{part.name}[/bold] ({at} of {len(waiting)})")
        part_s = time.monotonic()
        try:
            run([_reporting(step, report, seed) for step, report in zip(part.steps, reports, strict=True)])
        except CliError as error:
            err.print(f"[red]{error}[/red] (seed {seed})")
            failed.append(part.name)
            continue
        took_s = time.monotonic() - part_s
        if took_s > PART_S:
            err.print(f"[yellow]{part.name} took {short_time(took_s)}: a part is to take less than 45 minutes[/yellow]")
        told = [_read(report) for report in reports if report.exists()]
        figures = tuple(figure for _, found in told for figure in found)
        ended = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        count = sum(count for count, _ in told)
        code = book.code
        book.add(Passed(part.name, code.digest, code.commit, ended, round(took_s, 1), seed, count, figures))
        write_page(page, book)
    if failed:
        raise CliError(f"{len(failed)} parts failed: {'; '.join(failed)}", "mend what stands above, then run it again")
    return [part.name for part in book.left(parts)]


def _reporting(step: Step, report: Path, seed: int) -> Step:
    """The same step; pytest tells what it measured, and takes its examples from a seed that is kept."""
    if "pytest" not in step.command:
        return step
    family = ("-o", "junit_family=xunit1")  # the other one has no place for figures
    return replace(step, command=(*step.command, f"--junitxml={report}", *family, f"--hypothesis-seed={seed}"))


def _read(report: Path) -> tuple[int, list[tuple[str, str]]]:
    """How many tests passed, and what they measured."""
    count = 0
    figures: list[tuple[str, str]] = []
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  # pytest has just written it
        if case.find("skipped") is None:
            count += 1
        told = [str(one.get("value")) for one in case.iter("property") if one.get("name") == "figure"]
        figures += [(str(case.get("name")), text) for text in told]
    return count, figures


def write_page(page: Path, book: Book) -> None:
    """Put what has passed between the page's markers. Raises: CliError: the page has none."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CliError(f"{page} has no place for the long run", f"put {BEGIN} and {END} into it, a line each")
    page.write_text(f"{before}{BEGIN}\n{told(book)}{END}{after}", encoding="utf-8")


def told(book: Book) -> str:
    """The section, as Markdown."""
    rows = sorted(book.passed.values(), key=lambda one: one.name)
    lines = [
        f"{len(rows)} parts, {sum(one.tests for one in rows)} tests, {short_time(sum(one.seconds for one in rows))} "
        f"together; {sum(book.is_now(one) for one in rows)} of them on the newest code that was run, "
        f"{book.code.commit}. Each row is the last time that its part passed.",
        "",
        "| part | commit | ended (UTC) | took | tests | seed |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {one.name} | {one.commit} | {one.at} | {short_time(one.seconds)} | {one.tests or ''} | {one.seed} |"
            for one in rows
        ),
        "",
    ]
    for one in rows:
        if one.figures:
            lines += [f"{one.name}:", "", *(f"- `{test}`: {_plain(text)}" for test, text in one.figures), ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A figure in one line that Markdown leaves alone."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "\\<").replace("*", "\\*").replace("`", "'")


def long_tests(pytest: Sequence[str], root: Path) -> dict[str, list[str]]:
    """The tests that take minutes, by their file. Raises: CliError: they can't be collected."""
    command = [*pytest, "long", "--collect-only", "-o", "addopts=-q", "--no-header"]  # a name in each line
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CliError(f"the long tests can't be collected: {done.stdout[-500:]}", "mend what pytest says")
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if "::" in line:
            found.setdefault(line.partition("::")[0], []).append(line)
    return found


def parts_of(
    usual: Sequence[Sequence[Step]],
    tests: Mapping[str, Sequence[str]],
    pytest: Sequence[str],
    promises: int,
    python: str,
) -> list[Part]:
    """All parts: the usual run, then what takes minutes, then the promises.

    Args:
        usual: its steps, those of one list side by side.
        pytest: the command, up to the marks that select.
        promises: how many there are.
    """
    made = [Part(f"usual: {steps[0].name}", tuple(steps)) for steps in usual]
    for file, names in tests.items():
        name = file.removeprefix("tests/").removesuffix(".py")
        if file in _APART:
            made += [Part(f"{name} {one.rpartition('::')[2]}", (Step(one, (*pytest, "long", one)),)) for one in names]
        else:
            made.append(Part(name, (Step(name, (*pytest, "long", file)),)))
    for first in range(1, promises + 1, _PROMISES_AT_ONCE):
        last = min(first + _PROMISES_AT_ONCE - 1, promises)
        command = (python, "-m", "tests.promises", f"{first}..{last}")
        made.append(Part(f"promises {first} to {last}", (Step("promises", command),)))
    return made


def code_of(root: Path) -> Code:
    """All code as it stands, pages apart; without git, nothing: then the run is always gone on with."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, check=False).stdout

    files, changed = git("ls-files", "-s", "--", ".", *_NO_CODE), git("diff", "HEAD", "--", ".", *_NO_CODE)
    commit = git("rev-parse", "--short=8", "HEAD").decode().strip()
    return Code(hashlib.sha256(files + changed).hexdigest()[:16], f"{commit}{'+' if changed else ''}")
