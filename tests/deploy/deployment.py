"""What compose deploys, as one thing: its file, images, settings, configurations and the Dockerfiles of a folder."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.dockerfile import Stage, read

API, VLLM, EMBEDDING = ("gateway", "worker", "keeper", "migrate"), ("vllm", "vllm-cpu"), ("embedding", "embedding-cpu")
OWN = (*API, *VLLM, *EMBEDDING)
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}")


@dataclass(frozen=True)
class Deployment:
    """Files of a checkout; read once, where they are asked for."""

    root: Path

    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")

    @cached_property
    def images(self) -> dict[str, str]:
        return _variables(self.text("deploy/images.env"))

    @cached_property
    def example(self) -> dict[str, str]:
        """What .env begins as."""
        return _variables(self.text("deploy/compose/env.example"))

    @cached_property
    def compose(self) -> dict[str, Any]:
        """With anchors merged, and variables as they stand."""
        found: dict[str, Any] = loaded(self.text("docker-compose.gpu.yml"))
        return found

    @cached_property
    def services(self) -> dict[str, dict[str, Any]]:
        return dict(self.compose["services"])

    @cached_property
    def dev(self) -> dict[str, Any]:
        found: dict[str, Any] = loaded(self.text("docker-compose.dev.yml"))
        return found

    @cached_property
    def prometheus(self) -> dict[str, Any]:
        found: dict[str, Any] = loaded(self.text("deploy/monitoring/prometheus.yml"))
        return found

    @cached_property
    def workflows(self) -> dict[str, dict[str, Any]]:
        folder = self.root / ".github" / "workflows"
        return {path.name: loaded(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yml"))}

    def dockerfile(self, name: str) -> list[Stage]:
        return read(self.root / name)

    def settled(self, text: object) -> str:
        """A text of the compose file with variables as images.env and env.example set them."""
        known = {**self.images, **self.example}

        def value(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            return known.get(match[1]) or (match[3] if match[2] == "-" else "")

        return _VARIABLE.sub(value, str(text))

    def environment(self, service: str) -> dict[str, str]:
        """What a service is given."""
        return {name: self.settled(value) for name, value in self.services[service].get("environment", {}).items()}

    def networks(self, service: str) -> dict[str, list[str]]:
        """Network to the names under which the service is found there."""
        given = self.services[service].get("networks", [])
        named = given if isinstance(given, dict) else dict.fromkeys(given)
        return {network: [service, *((more or {}).get("aliases") or [])] for network, more in named.items()}

    def found(self, name: str, network: str) -> list[str]:
        """Services that answer to a name in a network."""
        return [service for service in self.services if name in self.networks(service).get(network, [])]

    def secrets(self, service: str) -> dict[str, str]:
        """Secret to the path at which the service has it."""
        given = [
            {"source": one, "target": one} if isinstance(one, str) else one
            for one in self.services[service].get("secrets", [])
        ]
        return {one["source"]: str(Path("/run/secrets") / one["target"]) for one in given}

    def binds(self, service: str) -> list[tuple[str, str]]:
        """Mounts: source and the rest."""
        return [
            (source, rest)
            for source, _, rest in map(_parted, map(self.settled, self.services[service].get("volumes", [])))
        ]


def seconds(duration: object) -> float:
    """Of a duration as compose and Caddy write it."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", str(duration)))


def loaded(text: str) -> Any:
    return yaml.load(text, yaml.CSafeLoader)  # the C one: rules are asked of many copies


def _parted(text: str) -> tuple[str, str, str]:
    return text.partition(":")


def _variables(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
