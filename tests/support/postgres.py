"""A real PostgreSQL server from its wheel."""

import asyncio
import contextlib
import logging
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    server: Any

    def url(self, database: str = "postgres") -> str:
        """A database's address as SQLAlchemy takes it."""
        return str(self.server.get_uri(database=database)).replace("postgresql://", "postgresql+asyncpg://", 1)

    @property
    def socket(self) -> str:
        """The path of the socket on which it listens."""
        lines = (Path(self.server.pgdata) / "postmaster.pid").read_text().splitlines()
        return f"{lines[4]}/.s.PGSQL.{lines[3]}"

    def execute(self, *statements: str) -> None:
        """Run statements outside of a transaction."""

        async def run() -> None:
            connection = await asyncpg.connect(self.server.get_uri())
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of the server, as a host that hangs does."""
        stopped = self._processes()
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped:
                os.kill(process, signal.SIGCONT)

    @contextmanager
    def killed(self) -> Iterator[None]:
        """`kill -9` every process of the server; it is started again when the block ends."""
        os.kill(self._processes()[0], signal.SIGSTOP)  # or it might have another child meanwhile, which would live on
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):  # the others went when they saw the first one go
                os.kill(process, signal.SIGKILL)
        try:
            yield
        finally:
            self.server.ensure_postgres_running()

    def _processes(self) -> list[int]:
        postmaster = int((Path(self.server.pgdata) / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Start a server whose data a power cut may take.

    Its folder is not pytest's: another pytest that starts takes that one's rights away from the server's own user.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="stoker-postgres-") as folder:
        warnings.simplefilter("ignore")  # pgserver leaves its pipes to the garbage collector
        import pgserver

        logging.getLogger("pgserver").setLevel(logging.WARNING)  # it logs at exit, when nobody listens any more
        server = Postgres(pgserver.get_server(Path(folder) / "data", cleanup_mode="stop"))
        server.execute("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield server
        server.server.cleanup()
