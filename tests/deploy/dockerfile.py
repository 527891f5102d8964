"""A Dockerfile as stages of instructions: as much of the language as ours are written in."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands between one FROM and the next.

    Attributes:
        base: the image or stage that it begins with, variables replaced.
        arguments: ARG with their defaults, those before the first FROM included.
        steps: instruction and its text, in order.
    """

    base: str
    name: str
    arguments: dict[str, str]
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]

    def last(self, instruction: str) -> str:
        return self.all(instruction)[-1]

    def environment(self) -> dict[str, str]:
        """What ENV sets, each in words of those before, and the path that images have."""
        found = {"PATH": _PATH}
        for text in self.all("ENV"):
            for word in shlex.split(text):
                name, _, value = word.partition("=")
                found[name] = replaced(value, found)
        return found

    def copies(self) -> list[tuple[str | None, list[str], str]]:
        """Of each COPY: the stage that it copies from, sources, target."""
        found = []
        for text in self.all("COPY"):
            words = shlex.split(text)
            origin = next((word.partition("=")[2] for word in words if word.startswith("--from=")), None)
            *sources, target = [word for word in words if not word.startswith("--")]
            found.append((origin, sources, target))
        return found


def read(path: Path) -> list[Stage]:
    """All stages of a file."""
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for line in _lines(path.read_text(encoding="utf-8")):
        instruction, _, text = line.partition(" ")
        if instruction == "FROM":
            base, *name = re.split(r"\s+AS\s+", text.strip())
            stages.append(Stage(replaced(base, arguments), "".join(name), dict(arguments)))
            continue
        if instruction == "ARG":
            name_, _, value = text.partition("=")
            (stages[-1].arguments if stages else arguments)[name_] = value
        if stages:
            stages[-1].steps.append((instruction, text.strip()))
    return stages


def words(text: str) -> list[str]:
    """The exec form of ENTRYPOINT and CMD. Raises: ValueError: it is the shell's form."""
    found: list[str] = json.loads(text)
    return found


def replaced(text: str, values: Mapping[str, str]) -> str:
    """With variables replaced that are known; others stay."""
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], match[0]), text)


def _lines(text: str) -> list[str]:
    kept = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [line.strip() for line in re.sub(r"\\\n\s*", "", "\n".join(kept)).splitlines()]
