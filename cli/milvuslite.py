"""`python -m cli.milvuslite server …`: Milvus Lite's own command, with a fast searcher (`retrieval/lite`).

Before it serves, what a kill has left half made is removed: Milvus Lite makes a collection's folder and then writes the
schema into it. Killed in between, it knows of no such collection, and refuses to make it for ever, since the folder is
there.
"""

import argparse
import ctypes
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_UNFINISHED = {"schema.json.tmp"}
_M_ARENA_MAX = -8  # glibc's name for how many pools `malloc` may have


def remove_half_made(data_dir: Path) -> list[str]:
    """Remove folders of collections that hold nothing yet, no server being at them. Returns: their names."""
    roots = [data_dir / "collections", *data_dir.glob("databases/*/collections")]
    folders = [folder for root in roots if root.is_dir() for folder in root.iterdir() if folder.is_dir()]
    half_made = [folder for folder in folders if {file.name for file in folder.iterdir()} <= _UNFINISHED]
    for folder in half_made:
        shutil.rmtree(folder)
    return [folder.name for folder in half_made]


def main(arguments: Sequence[str]) -> int:
    """Tidy up, put the searcher in, then serve."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data-dir", type=Path)
    folder = parser.parse_known_args(arguments)[0].data_dir
    if folder is not None:
        for name in remove_half_made(folder):
            print(f"removed what was half made: {name}", flush=True)
    # A search is too short for several threads. Graphs are built in the background, and leave half of the cores alone.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))
    # Of what is freed, pools for each thread keep twice as much as is in use, and ever more.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with suppress(AttributeError):  # another C library has none
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    # After the look: they take seconds to import.
    from milvus_lite.cmdline import main as serve

    from retrieval.lite.install import install

    if reason := install():
        print(reason, flush=True)
    return int(serve(list(arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
