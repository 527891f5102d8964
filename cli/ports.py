"""Ports: which are free, and who holds one that is not."""

import fcntl
import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cli.errors import CliError
from cli.process import command_of

_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that listens on a port."""

    pid: int
    command: str


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what uvicorn does: TIME_WAIT is no holder
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def next_free(preferred: int, taken: set[int]) -> int:
    """The first free port from `preferred` on that is not in `taken` nor reserved by another stack; adds it there.

    It stays reserved while a process holds one of the descriptors of `reserved`.

    Raises: CliError: 500 ports in a row are held.
    """
    for port in range(preferred, min(preferred + 500, 65536)):
        if port not in taken and is_free(port) and _reserve(port):
            taken.add(port)
            return port
    raise CliError(f"no free port from {preferred} to {preferred + 499}", "end what holds them (`ss -ltnp` lists them)")


_reserved: list[int] = []


def reserved() -> tuple[int, ...]:
    """Descriptors of the locks on the ports that `next_free` has given; whoever inherits them keeps the ports."""
    return tuple(_reserved)


def _reserve(port: int) -> bool:
    """Lock the port against other stacks of this user, which choose ports long before they listen on them."""
    folder = Path(tempfile.gettempdir()) / f"stoker-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    _reserved.append(descriptor)
    return True


def holder(port: int) -> Holder | None:
    """Who listens on the port; None when nobody does, or when it is another user's process."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not inodes:
        return None
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if inodes.intersection(_open_files(pid)):
            return Holder(pid, command_of(pid))
    return None


def require_free(port: int, host: str) -> None:
    """Raises: CliError: the port is held; it names the holder and the flag."""
    if is_free(port, host):
        return
    found = holder(port)
    who = f"process {found.pid} ({found.command})" if found else "a process of another user"
    remedy = f"end it, or choose another port: ./stoker up --port {port + 1}"
    raise CliError(f"port {port} is held by {who}", remedy)


def _listening_inodes(port: int) -> list[str]:
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.append(fields[9])
    return found


def _open_files(pid: int) -> list[str]:
    """What the process's descriptors point to; empty when it is gone or another user's."""
    found = []
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed meanwhile
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found
