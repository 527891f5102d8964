"""`python -m tests.faults.chaos.dying_migration URL STATEMENT`: migrate, and die by SIGKILL before that statement.

Prints how many statements there were, where it lives to the end.
"""

import os
import signal
import sys

import sqlalchemy as sa

from storage.migrate import migrate


def main(url: str, last: int) -> None:
    begun = 0

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def count(*_: object) -> None:
        nonlocal begun
        begun += 1
        if begun == last:
            os.kill(os.getpid(), signal.SIGKILL)

    migrate(url)
    print(begun)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
