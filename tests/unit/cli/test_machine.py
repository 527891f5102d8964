"""Ports, processes, state and log files on this very machine."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli import follow, ports
from cli.console import Steps
from cli.errors import CliError
from cli.logfiles import LogFiles, last_lines
from cli.process import ProcessId, descendants, kill_all, marked, session_of
from cli.settings import CliSettings
from cli.state import PartState, PartStatus, StackState, write_whole


def test_a_taken_port_names_its_holder_and_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(CliError) as caught:
            ports.require_free(port, "127.0.0.1")
        assert f"process {os.getpid()} (" in caught.value.message
        assert f"--port {port + 1}" in caught.value.remedy
        assert ports.next_free(port, set()) > port


def test_a_port_once_given_is_not_given_again() -> None:
    taken: set[int] = set()
    first = ports.next_free(31_000, taken)
    assert ports.next_free(31_000, taken) > first


def test_a_reused_pid_is_not_taken_for_the_old_process() -> None:
    own = ProcessId.of(os.getpid())
    assert own is not None
    assert own.is_alive()
    assert not ProcessId(own.pid, own.started - 1).is_alive()
    assert session_of(ProcessId(own.pid, own.started - 1)) == []


def test_what_carries_the_marker_is_found_and_killed_with_its_children() -> None:
    code = "import subprocess, sys; subprocess.run(['sleep', '1000'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "STOKER_X": "7"}, start_new_session=True
    ) as one:
        while len(marked("STOKER_X", "7")) < 2:
            pass
        found = marked("STOKER_X", "7")
        assert set(found) <= set(descendants(os.getpid()))
        leader = ProcessId.of(one.pid)
        assert leader is not None
        assert set(session_of(leader)) == set(found)
        assert kill_all(lambda: marked("STOKER_X", "7")) == 2


def test_the_state_survives_the_file_and_holds_modes_private(tmp_path: Path) -> None:
    state = StackState("run", "http://127.0.0.1:1", 1, 2, 3.0, "none", [PartStatus("a", PartState.READY, 4, 5, 6, 7)])
    state.save(tmp_path)
    assert StackState.load(tmp_path) == state
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600
    assert state.is_ready()
    assert state.processes() == []


def test_a_stack_is_ready_without_an_optional_part_that_keeps_failing(tmp_path: Path) -> None:
    settings = CliSettings(data_dir=tmp_path)
    failing = PartStatus("gpu", PartState.RESTARTING, restarts=9, failures=9, note="exited with code 1", optional=True)
    parts = [PartStatus("gateway", PartState.READY), failing]
    own = ProcessId.of(os.getpid())
    assert own is not None
    StackState("run", "u", own.pid, own.started, 0.0, "vllm", parts).save(settings.run_dir)
    state = StackState.load(settings.run_dir)
    assert state is not None
    assert state.is_ready()
    follow.until_ready(settings, "run", None, Steps(), {})
    failing.optional = False
    StackState("run", "u", own.pid, own.started, 0.0, "vllm", parts).save(settings.run_dir)
    with pytest.raises(CliError, match="gpu exited with code 1 9 times"):
        follow.until_ready(settings, "run", None, Steps(), {})


def test_processes_of_another_boot_are_nobody(tmp_path: Path) -> None:
    own = ProcessId.of(os.getpid())
    assert own is not None
    StackState("run", "u", own.pid, own.started, 0.0, "none", boot="another").save(tmp_path)
    state = StackState.load(tmp_path)
    assert state is not None
    assert state.processes() == []


def test_half_a_state_counts_as_none(tmp_path: Path) -> None:
    write_whole(tmp_path / "state.json", json.dumps({"run_id": "x"})[:-3])
    assert StackState.load(tmp_path) is None


def test_a_log_that_grew_too_long_is_cut_in_place_while_it_is_being_written(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path, limit_bytes=10)
    with logs.open("a") as file:
        file.write(b"0123456789ab\n")
        logs.shorten()
        file.write(b"new\n")
    assert logs.path("a").read_bytes() == b"new\n"
    assert (tmp_path / "a.log.1").read_bytes() == b"0123456789ab\n"
    assert last_lines(logs.path("a"), 5) == ["new"]
    assert last_lines(tmp_path / "none.log", 5) == []


def test_a_log_that_cannot_be_cut_now_is_cut_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first full disk ended the task that shortens, and logs grew for good."""
    logs = LogFiles(tmp_path, limit_bytes=10)
    for name in ("a", "b"):
        logs.path(name).write_bytes(b"0123456789ab\n")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        logs.shorten()
    assert logs.path("a").stat().st_size == 13
    logs.shorten()
    assert [logs.path(name).stat().st_size for name in ("a", "b")] == [0, 0]
