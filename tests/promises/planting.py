"""A copy of the repository in which defects are planted, one after the other, and what the tests say to each."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from tests.promises.book import Defect

LIMIT_S = 240.0  # of one run of pytest
_BASE_LIMIT_S = 900.0
_END_S = 20.0  # from SIGINT to SIGKILL: fixtures end their servers
_HIDDEN = {".ci", ".github", ".dockerignore"}  # of files whose names begin with a dot, those that tests read
_MARKED = "not vllm and not heavy and not long"
_ASSERTIONS = ("assert ", "AssertionError", "Failed: ", "ExceptionGroup: Hypothesis")


class Verdict(StrEnum):
    """What became of a planted defect: only red is good."""

    RED = "red"
    GREEN = "STILL GREEN"
    BROKEN = "BROKEN"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one defect, the first line of what the failing test said, and how long it took."""

    verdict: Verdict
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Case:
    """One test of a run; `failure` holds what it said, `trouble` why it did not come to a verdict."""

    name: str
    failure: str | None
    trouble: str | None


class Field:
    """A copy in a temporary folder; `open_field` makes one. Not for two threads.

    Args:
        python: the interpreter that runs the tests.
        environment: more variables for them.
    """

    def __init__(self, root: Path, python: Path, environment: Mapping[str, str]) -> None:
        self._root = root
        self._python = python
        self._environment = environment
        # Bytecode is told from its source by size and whole seconds: no two versions of a file may share these.
        self._next_second = int(time.time())

    def plant(self, defect: Defect) -> Outcome:
        """Plant one defect, run its tests, take it out again."""
        started_s = time.monotonic()
        with self._planted(defect):
            cases, complaint = self._run(defect.tests, LIMIT_S, "-x")
        verdict, reason = _judge(defect, cases, complaint)
        return Outcome(verdict, reason, time.monotonic() - started_s)

    def check(self, tests: Sequence[str]) -> list[str]:
        """Run tests where nothing is planted. Returns: what is wrong with them; nothing, if all is well."""
        cases, complaint = self._run(tests, _BASE_LIMIT_S)
        wrong = [f"{case.name}: {case.failure or case.trouble}" for case in cases if case.failure or case.trouble]
        ran = {case.name.partition("[")[0] for case in cases} | {case.name for case in cases}
        missing = [test for test in tests if test not in ran]
        return [*wrong, *(f"{test}: did not run: {complaint}" for test in missing)]

    @contextmanager
    def _planted(self, defect: Defect) -> Iterator[None]:
        files = {edit.file: self._root / edit.file for edit in defect.edits}
        before = {name: path.read_text() for name, path in files.items()}
        after = dict(before)
        for edit in defect.edits:
            after[edit.file] = edit.of(after[edit.file])
        self._write(after)
        try:
            yield
        finally:
            self._write(before)

    def _write(self, texts: Mapping[str, str]) -> None:
        self._next_second += 1
        for name, text in texts.items():
            path = self._root / name
            path.write_text(text)
            os.utime(path, (self._next_second, self._next_second))

    def _run(self, tests: Sequence[str], limit_s: float, *flags: str) -> tuple[list[_Case], str]:
        """Run tests. Returns: what became of each, and the run's last words where it says nothing of any."""
        report = self._root / "report.xml"
        report.unlink(missing_ok=True)
        command = [str(self._python), "-m", "pytest", *flags, "-q", "-p", "no:cacheprovider"]
        command += [f"--junitxml={report}", "-o", "junit_family=xunit1"]  # the family that takes measured figures
        command += ["--hypothesis-profile=fast", "--hypothesis-seed=0", "-m", _MARKED, *tests]
        environment = {**os.environ, **self._environment, "PYTHONPATH": str(self._root)}
        process = subprocess.Popen(
            command,
            cwd=self._root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",  # a test may print what is no text
            start_new_session=True,
        )
        said, too_long = _said(process, limit_s)
        if too_long:
            return [], f"it took longer than {limit_s:.0f} s"
        cases = [_case(one) for one in ElementTree.parse(report).iter("testcase")] if report.exists() else []
        return cases, " / ".join(said.strip().splitlines()[-3:])


def _left_out(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__" or (name.startswith(".") and name not in _HIDDEN)]


@contextmanager
def open_field(root: Path, python: Path, environment: Mapping[str, str]) -> Iterator[Field]:
    """Copy the repository as it stands in its folder; environments, models and data are shared with the original."""
    with TemporaryDirectory(prefix="stoker-promises-") as folder:
        copy = Path(folder) / root.name
        shutil.copytree(root, copy, ignore=_left_out)
        (copy / ".stoker").symlink_to(root / ".stoker")
        if (root.parent / "shared").is_dir():
            (Path(folder) / "shared").symlink_to(root.parent / "shared")
        yield Field(copy, python, environment)


def _said(process: "subprocess.Popen[str]", limit_s: float) -> tuple[str, bool]:
    """Wait for a run. Returns: its output, and whether it had to be ended."""
    try:
        return process.communicate(timeout=limit_s)[0], False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=_END_S)[0], True
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return "", True


def _case(element: ElementTree.Element) -> _Case:
    name = f"{element.get('classname', '').replace('.', '/')}.py::{element.get('name', '')}"
    found = {kind: element.find(kind) for kind in ("failure", "error", "skipped")}
    words = {kind: one.get("message") or kind for kind, one in found.items() if one is not None}
    return _Case(name, words.get("failure"), words.get("error") or words.get("skipped"))


def _judge(defect: Defect, cases: Sequence[_Case], complaint: str) -> tuple[Verdict, str]:
    failures = [case.failure for case in cases if case.failure is not None]
    troubles = [case.trouble for case in cases if case.trouble is not None]
    if failures:
        reason = failures[0]
        shown = reason.startswith(_ASSERTIONS) or (defect.shown_by is not None and defect.shown_by in reason)
        return Verdict.RED if shown else Verdict.BROKEN, _first_line(reason)
    if troubles or not cases:
        return Verdict.BROKEN, _first_line(troubles[0] if troubles else complaint)
    return Verdict.GREEN, "every test passes all the same"


def _first_line(text: str) -> str:
    lines = text.strip().splitlines() or [""]
    return lines[0][:200]
