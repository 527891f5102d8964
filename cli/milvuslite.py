"""`python -m cli.milvuslite server …`: Milvus Lite's own command, after a look at what a kill has left half made.

Milvus Lite makes a collection's folder and then writes the schema into it. Killed in between, it knows of no such
collection, and refuses to make it for ever, since the folder is there.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

_UNFINISHED = {"schema.json.tmp"}


def remove_half_made(data_dir: Path) -> list[str]:
    """Remove folders of collections that hold nothing yet, no server being at them. Returns: their names."""
    roots = [data_dir / "collections", *data_dir.glob("databases/*/collections")]
    folders = [folder for root in roots if root.is_dir() for folder in root.iterdir() if folder.is_dir()]
    half_made = [folder for folder in folders if {file.name for file in folder.iterdir()} <= _UNFINISHED]
    for folder in half_made:
        shutil.rmtree(folder)
    return [folder.name for folder in half_made]


def main(arguments: Sequence[str]) -> int:
    """Tidy up, then serve."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data-dir", type=Path)
    folder = parser.parse_known_args(arguments)[0].data_dir
    if folder is not None:
        for name in remove_half_made(folder):
            print(f"removed what was half made: {name}", flush=True)
    from milvus_lite.cmdline import main as serve  # after the look: it takes seconds to import

    return int(serve(list(arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
