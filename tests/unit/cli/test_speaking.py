"""What the command line prints of texts that others wrote, and how it ends when nobody listens."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import orjson
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from cli import main
from cli.client import Client, Event, split_lines
from cli.console import out
from cli.ingest import Outcome, shown_progress
from cli.manifest import read_manifest
from cli.warm import read_questions
from cli.watch import watch
from tests.support.process import ROOT

SIGNS = "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven"  # at which `str.splitlines` cuts


@pytest.mark.parametrize("name", ["a[/red].pdf", "report [final].pdf", "[dim]b", "c[/]", "10:100:1.csv"])
def test_a_name_is_printed_as_it_is_whatever_brackets_and_colons_it_holds(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rich took `[/red]` for markup and failed with a traceback, and left out what stands in other brackets."""
    with pytest.raises(typer.Exit):
        main._tell("demo", [Outcome(name, "failed", f"{name} is empty")], as_json=False)
    said = capsys.readouterr().err.strip()
    assert said == f"{name}: {name} is empty"
    with shown_progress() as bars:
        task = bars.add_task(name, total=1.0, status="queued")
        assert str(bars.columns[0](bars.tasks[task])) == name  # type: ignore[operator]


def test_no_text_reaches_the_terminal_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """An answer or a file's name could set the terminal's title, or what its clipboard holds."""
    for markup in (True, False):
        out.print("a\x1b]52;c;cm0gLXJm\x07b\x9b2J[1] c\nd", markup=markup)
    said = capsys.readouterr().out
    assert not [sign for sign in said if (ord(sign) < 32 and sign != "\n") or 0x7F <= ord(sign) < 0xA0]
    assert said.count("]52;c;cm0gLXJm") == 2


def test_only_line_breaks_end_a_line_of_a_stream() -> None:
    """httpx cuts lines as `str.splitlines` does, and JSON keeps such signs as they are."""
    told = orjson.dumps({"text": SIGNS})

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, content=told + b"\r\n" + told)
        return httpx.Response(200, content=b"event: token\r\ndata: " + told + b"\r\n\r\nevent: done\rdata: 1\r\r")

    with Client("http://gate", "k", httpx.MockTransport(answer)) as client:
        events = list(client.stream("/v1/query", {}))
        lines = list(client.lines("/v1/export"))
    assert events == [Event("token", {"text": SIGNS}), Event("done", 1)]
    assert [orjson.loads(line) for line in lines] == [{"text": SIGNS}] * 2


@given(st.lists(st.text("ab\r\n\u2028", max_size=4), max_size=8))
def test_lines_are_the_same_however_a_text_is_cut(parts: list[str]) -> None:
    whole = "".join(parts)
    lines = whole.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert list(split_lines(parts)) == (lines if lines[-1] else lines[:-1])


def test_only_line_breaks_end_a_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    said = "why\u2028so?"
    file.write_text(f'{{"text": "{said}", "path": "a.md"}}\n', newline="")
    assert read_questions(file) == [said]
    (tmp_path / "a.md").write_text("a")
    file.write_text(f'{{"path": "a.md", "title": "{said}"}}\r\n', newline="")
    assert len(read_manifest(file).files) == 1


@pytest.mark.parametrize("words", [("completion", "bash"), ("down", "--json", "--data-dir", "/nowhere")])
def test_it_ends_with_141_where_nobody_reads_its_output(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=120, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_ctrl_c_in_the_first_moment_shows_no_traceback() -> None:
    """Its modules take a second to be read; who presses Ctrl-C meanwhile saw where Python was."""
    shown = (
        "import sys; sys.stderr.write('x'); sys.stderr.flush(); import runpy; runpy.run_module('cli', alter_sys=True)"
    )
    begun = subprocess.Popen(
        [sys.executable, "-c", shown, "keys", "--help"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert begun.stderr is not None
    begun.stderr.read(1)
    time.sleep(0.25)
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=120)
    assert b"Traceback" not in said
    assert begun.returncode in (-signal.SIGINT, 130)


def test_a_watched_folder_is_told_of_in_lines_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` was taken and did nothing here: the lines were those for people."""
    job = {"job_id": "job_1", "document_ids": ["doc_1"], "status": "succeeded", "documents": [{"error": None}]}

    def answer(request: httpx.Request) -> httpx.Response:
        if b"bad.md" in request.content:
            return httpx.Response(400, json={"error": {"message": "it is empty", "code": None}})
        return httpx.Response(200, json=job)

    looks = iter(range(3))

    def rest(_: float) -> None:
        if next(looks) == 2:
            raise KeyboardInterrupt

    folder = tmp_path / "watched"
    folder.mkdir()
    for name in ("a [b].md", "bad.md"):
        (folder / name).write_text("text")
    with Client("http://gate", "k", httpx.MockTransport(answer)) as client:
        watch(client, "demo", folder, tmp_path, rest=rest, as_json=True)
    said = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said == [
        {"filename": "a [b].md", "status": "succeeded", "error": None},
        {"filename": "bad.md", "status": "refused", "error": "it is empty"},
    ]
