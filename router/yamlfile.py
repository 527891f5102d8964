"""Read YAML and keep the line of every value, so that a complaint can name it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from router.errors import ConfigInvalid

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration and where its values stand.

    Attributes:
        source: the file's name, or what stands for it.
        data: the top-level mapping.
    """

    source: str
    data: dict[str, Any]
    lines: dict[Place, int]

    def where(self, place: Place) -> str:
        """File and line of a value, or of the nearest thing around it that has one."""
        while place and place not in self.lines:
            place = place[:-1]
        line = self.lines.get(place)
        return self.source if line is None else f"{self.source}:{line}"


def read(path: Path) -> Document:
    """Read a file. Raises: ConfigInvalid: it can't be read, is no YAML, or holds no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path}: the file can't be read: {error}") from error
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        data = loader.construct_document(node) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigInvalid(f"{path.name}:{line}: this is no YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigInvalid(f"{path.name}: this is no YAML: {error}") from error
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise ConfigInvalid(f"{path.name}:1: the file must hold a mapping, such as `model_list:`")
    return Document(path.name, data, dict(_lines(node, ())) if node is not None else {})


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, str(key.value))
            yield from _lines(value, here)
            yield here, key.start_mark.line + 1  # the key's line, which for a block is above the value's
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*place, index))
