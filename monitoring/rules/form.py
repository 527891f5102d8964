"""Rules as Prometheus has them, and their files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

RUNBOOK = "docs/runbook.md"  # in the repository


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that is computed again and again. `about` says what it is, with its unit."""

    record: str
    expr: str
    about: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person should know of.

    Attributes:
        expr: has a value where it is so.
        holds_for: for how long it must be so, such as `5m`.
        severity: `critical` wakes somebody, `warning` waits for the day.
        summary: one line; may hold Prometheus's templates.
    """

    name: str
    expr: str
    holds_for: str
    severity: str
    summary: str

    @property
    def anchor(self) -> str:
        """Of its section in docs/runbook.md."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after another, each upon what those before it have just recorded."""

    name: str
    rules: Sequence[Recording | Alert]


def as_yaml(groups: Sequence[Group], head: str) -> str:
    """A file of rules."""
    return f"# {head}\n" + dump(rules_of(groups))


def rules_of(groups: Sequence[Group]) -> Mapping[str, Any]:
    """What such a file says, and a PrometheusRule of the operator."""
    return {"groups": [{"name": group.name, "rules": [_form(rule) for rule in group.rules]} for group in groups]}


def dump(body: Mapping[str, Any] | Sequence[Any]) -> str:
    """YAML, always in the same form."""
    return yaml.safe_dump(body, sort_keys=False, width=120, allow_unicode=True)


def _form(rule: Recording | Alert) -> dict[str, Any]:
    if isinstance(rule, Recording):
        form: dict[str, Any] = {"record": rule.record, "expr": rule.expr}
        return form | ({"labels": dict(rule.labels)} if rule.labels else {})
    return {
        "alert": rule.name,
        "expr": rule.expr,
        "for": rule.holds_for,
        "labels": {"severity": rule.severity},
        "annotations": {"summary": rule.summary, "runbook_url": f"{RUNBOOK}#{rule.anchor}"},
    }
