"""The note of a restore that is under way, kept in the data folder that is being filled."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cli.errors import CliError
from cli.state import write_whole
from retrieval.index import Place

_FILE = "restore.json"


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of it.

    Attributes:
        backup: its id.
        folder: where the backup was.
        places: where rows of it may be by now.
        filled: names of the index's collections that have all of theirs.
    """

    backup: str
    folder: str
    places: list[Place]
    filled: list[str] = field(default_factory=list)

    def with_filled(self, name: str) -> "Note":
        return replace(self, filled=[*self.filled, name])

    def save(self, data_dir: Path) -> None:
        write_whole(data_dir / _FILE, json.dumps(asdict(self)))


def load(data_dir: Path) -> Note | None:
    """The note; None: no restore is under way. Raises: CliError: it can't be read."""
    try:
        told: dict[str, Any] = json.loads((data_dir / _FILE).read_text())
        return Note(**{**told, "places": [Place(**place) for place in told["places"]]})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CliError(f"{data_dir / _FILE} is damaged", "restore into another data folder") from error


def remove(data_dir: Path) -> None:
    (data_dir / _FILE).unlink(missing_ok=True)


def require_none(data_dir: Path) -> None:
    """Raises: CliError: a restore of this data folder was interrupted."""
    found = load(data_dir)
    if found is not None:
        remedy = f"run ./stoker restore {found.folder} again, which goes on, or ./stoker restore --undo"
        raise CliError(f"a restore into {data_dir} was interrupted", remedy)
