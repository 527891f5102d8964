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
    try:
        data, lines = _loaded(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigInvalid(f"{path.name}:{line}: this is no YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigInvalid(f"{path.name}: this is no YAML: {error}") from error
    except RecursionError as error:
        raise ConfigInvalid(f"{path.name}: it holds itself, or is nested too deeply") from error
    except (ValueError, OverflowError) as error:  # such as a date of the 31st of February
        raise ConfigInvalid(f"{path.name}: a value is none: {error}") from error
    if not isinstance(data, dict):
        raise ConfigInvalid(f"{path.name}:1: the file must hold a mapping, such as `model_list:`")
    return Document(path.name, data, lines)


def _loaded(text: str) -> tuple[Any, dict[Place, int]]:
    """What the text holds, and the line of each place in it."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        return loader.construct_document(node), dict(_lines(node, ()))
    finally:
        loader.dispose()


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
