"""A keeper as far as the ledger sees it, to be killed: `python -m tests.integration.ledger.shipping FOLDER [insert]`.

With `insert` it kills itself between inserting lines and remembering how far it is. STOKER_DATABASE_URL names the
database.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from api.ledger import ship
from core.dependency import DependencyError
from storage.sql import Database


async def main(folder: Path) -> None:
    shipper = ship.Shipper(Database(os.environ["STOKER_DATABASE_URL"], 10.0), folder)
    while True:
        try:
            await shipper.ship()
        except DependencyError as error:
            print(error, flush=True)
        await asyncio.sleep(0.02)


def _die(path: Path, offset: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[2:] == ["insert"]:
        ship._remember = _die
    asyncio.run(main(Path(sys.argv[1])))
