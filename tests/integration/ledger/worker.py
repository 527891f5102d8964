"""A gateway's worker for the ledger, to be killed: `python -m tests.integration.ledger.worker FOLDER SEED`.

It begins, counts, finishes and drops at random, and notes each act in FOLDER/../truth-SEED, before it (lower case) and
after it (upper case). What stands there is what its lines are judged by.
"""

import os
import random
import sys
from pathlib import Path

from api.ledger.ledger import Entry, Ledger
from core.clock import SystemClock
from tests.support.ledger import PRICE, a_line, finished

_AT_ONCE = 40


def main(folder: Path, seed: str) -> None:
    chance = random.Random(seed)
    truth = os.open(folder.parent / f"truth-{seed}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(act: str, name: str, *tokens: int) -> None:
        os.write(truth, f"{act} {name} {' '.join(map(str, tokens))}\n".encode())

    ledger = Ledger(folder, SystemClock(), rotate_bytes=20_000)
    under_way: list[tuple[str, Entry, int]] = []
    number = 0
    while True:
        if not under_way or (len(under_way) < _AT_ONCE and chance.random() < 0.3):
            name, number = f"{seed}-{number}", number + 1
            note("b", name)
            under_way.append((name, ledger.begin(a_line(name), PRICE), 0))
            note("B", name)
            continue
        name, entry, tokens = under_way.pop(chance.randrange(len(under_way)))
        act = chance.random()
        if act < 0.6:
            tokens += chance.randrange(1, 300)
            note("c", name, tokens, 2 * tokens)
            entry.count(tokens, 2 * tokens)
            note("C", name, tokens, 2 * tokens)
            under_way.append((name, entry, tokens))
        elif act < 0.9:
            tokens += chance.randrange(300)
            note("f", name, tokens, 2 * tokens)
            entry.finish(finished(a_line(name), tokens, 2 * tokens))
            note("F", name, tokens, 2 * tokens)
        else:
            note("d", name)
            entry.drop()
            note("D", name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
