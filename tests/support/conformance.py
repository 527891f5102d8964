"""How much of the official SDK's types an answer fulfils, field by field, by the package that is installed.

A field counts as fulfilled where it is present, of the right type, and not null; a field that has no state to tell in
an observation (no error has happened, nothing expires) may be null there, and whoever observes says so.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.process import ROOT
from tests.support.sdk import python_with_sdks

_JUDGE = ROOT / "tests" / "conformance" / "clients" / "judge.py"


@dataclass(frozen=True)
class Observed:
    """An answer.

    Attributes:
        route: such as `GET /v1/files/{id}`.
        type: of the SDK, such as `openai.types.FileObject`.
        stateless: paths of fields that have nothing to tell here, such as `last_error`.
    """

    route: str
    type: str
    value: Any
    stateless: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Judged:
    """One field of one answer; `verdict` is ok, null, missing or wrong."""

    route: str
    type: str
    path: str
    verdict: str


@dataclass(frozen=True)
class Measured:
    """What came of it.

    Attributes:
        version: of the package.
    """

    version: str
    fields: Sequence[Judged] = field(default_factory=list)

    @property
    def lacking(self) -> list[Judged]:
        return [one for one in self.fields if one.verdict != "ok"]

    @property
    def share(self) -> float:
        """Of fields that are fulfilled, 0 to 1."""
        return 1 - len(self.lacking) / len(self.fields)

    def lines(self) -> list[str]:
        """For people: each route and type with its share, then what is lacking, then the whole."""
        every = Counter((one.route, one.type) for one in self.fields)
        good = Counter((one.route, one.type) for one in self.fields if one.verdict == "ok")
        told = [f"{route} as {kind}: {good[route, kind]} of {count}" for (route, kind), count in sorted(every.items())]
        told += [f"{one.route} as {one.type}: {one.path} is {one.verdict}" for one in self.lacking]
        whole = len(self.fields) - len(self.lacking)
        return [*told, f"openai {self.version}: {whole} of {len(self.fields)} fields, {self.share:.1%}"]


def measure(observed: Iterable[Observed]) -> Measured:
    """Hold answers against the types of the installed SDK. Raises: AssertionError: it has no such type."""
    everything = list(observed)
    asked = json.dumps([{"type": one.type, "value": one.value} for one in everything])
    ran = subprocess.run(
        [str(python_with_sdks()), str(_JUDGE)], input=asked, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    judged = [
        Judged(one.route, one.type, path, "ok" if verdict == "null" and path in one.stateless else verdict)
        for one, fields in zip(everything, said["fields"], strict=True)
        for path, verdict in fields
    ]
    return Measured(said["version"], judged)
