"""`python -m tests.security.audit [--osv-url URL] [LOCK...]`: known holes in what the lock files name.

It fails where there is one, where the database of holes can't be asked, and where a package was passed over: an audit
that did not look is none. `python -m tests.security.audit --bill LOCK FILE` writes what a lock file names (CycloneDX).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DELIVERED = ("api", "gateway", "edge", "inference-cpu", "inference-nvidia", "models", "ocr")
TOOLS = ROOT / ".stoker" / "envs" / "audit" / "bin"
# Advisories that are known and do not concern us, each with its reason; nothing else is passed over.
PASSED: Mapping[str, str] = {}
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


def pins(lock: Path) -> dict[str, str]:
    """The packages of a lock file, names normalised, with their versions."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in _PIN.findall(lock.read_text())}


def audit(lock: Path, *options: str) -> list[str]:
    """Ask about every package of a lock file. Returns: what is wrong; empty: nothing."""
    named = pins(lock)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        # A local part (`+cpu`) is of a build that no index of holes knows: the version is the same.
        file.write("".join(f"{name}=={version.partition('+')[0]}\n" for name, version in named.items()))
        file.flush()
        command = [str(TOOLS / "pip-audit"), "--strict", "--disable-pip", "--no-deps", "--progress-spinner=off"]
        ignored = [part for advisory in PASSED for part in ("--ignore-vuln", advisory)]
        process = subprocess.run(
            [*command, *ignored, "--format=json", "-r", file.name, *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    try:
        told: dict[str, Any] = json.loads(process.stdout)
    except ValueError:
        return [
            f"{lock.name}: nobody could be asked: {(process.stderr.strip().splitlines() or ['no answer'])[-1][:300]}"
        ]
    return _wrong(lock.name, named, told, process.returncode)


def _wrong(lock: str, named: Mapping[str, str], told: Mapping[str, Any], code: int) -> list[str]:
    asked = {one["name"].lower(): one for one in told["dependencies"] if "skip_reason" not in one}
    wrong = [f"{lock}: {name} was passed over" for name in named if name not in asked]
    for name, one in asked.items():
        wrong += [f"{lock}: {name} {one['version']} has {hole['id']}" for hole in one["vulns"]]
    return wrong if wrong or code == 0 else [f"{lock}: pip-audit ended with {code}"]


def bill(lock: Path, file: Path) -> None:
    """Write the bill of materials of a lock file: each package with its version and hashes; it needs no network."""
    command = [str(TOOLS / "cyclonedx-py"), "requirements", "--output-format", "JSON", "--output-reproducible"]
    subprocess.run([*command, "--output-file", str(file), str(lock)], check=True, capture_output=True, timeout=300)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--osv-url", help="ask this server, in OSV's form, in place of PyPI")
    parser.add_argument("--bill", nargs=2, metavar=("LOCK", "FILE"), type=Path)
    parser.add_argument("locks", nargs="*", help=f"names of lock files; unset: {', '.join(DELIVERED)}")
    asked = parser.parse_args(arguments)
    if asked.bill:
        bill(*asked.bill)
        return 0
    options = [] if asked.osv_url is None else ["--vulnerability-service=osv", f"--osv-url={asked.osv_url}"]
    wrong = [one for name in asked.locks or DELIVERED for one in audit(ROOT / "requirements" / f"{name}.txt", *options)]
    print("\n".join(wrong) or "no known hole")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
