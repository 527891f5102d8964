"""`./stoker ingest --watch` and `--manifest` against a running stack."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.client import Client
from cli.errors import CliError
from cli.ingest import ensure_collection
from cli.manifest import ingest_manifest, read_manifest
from cli.watch import Memory, Watch
from tests.support.process import ROOT
from tests.support.site import OPENED_PORT, open_site
from tests.support.stack import Stack
from tests.support.waiting import until


@pytest.fixture
def client(plain_stack: Stack) -> Iterator[Client]:
    with Client(plain_stack.url, plain_stack.admin_key) as opened:
        yield opened


def names(client: Client, collection: str) -> dict[str, str]:
    return {one["filename"]: one["id"] for one in client.pages(f"/v1/collections/{collection}/documents")}


def put(path: Path, text: str, age_s: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age_s,) * 2)


def test_a_collection_follows_a_folder(client: Client, tmp_path: Path) -> None:
    name, folder, file = f"watched-{os.getpid()}", tmp_path / "in", tmp_path / "memory.json"
    ensure_collection(client, name)
    put(folder / "a.md", "# Alpha")
    put(folder / "sub" / "b.txt", "Beta")
    for left_out in ("c.tmp", ".hidden.md", "draft-x.md", "d.exe", ".git/e.md", "f.md~"):
        put(folder / left_out, "x")
    (folder / "link.md").symlink_to("/etc/hostname")
    watching = Watch(client, name, folder, Memory(file), ["draft-*"])
    assert watching.look().sent == (), "it may still be being written"
    assert watching.look().sent == ("a.md", "sub/b.txt")
    assert watching.look() == watching.look(), "nothing is left to do"
    first = names(client, name)
    assert sorted(first) == ["a.md", "sub/b.txt"]

    put(folder / "a.md", "# Alpha, changed", 60)
    assert watching.look().sent == ()
    put(folder / "a.md", "# Alpha, changed again", 30)
    assert watching.look().sent == (), "it changed between two looks"
    assert watching.look().sent == ("a.md",)
    assert names(client, name) == first
    document = client.get(f"/v1/collections/{name}/documents/{first['a.md']}")
    assert document["version"] == 2

    again = Watch(client, name, folder, Memory(file), ["draft-*"])
    os.utime(folder / "a.md")  # touched, and the same
    again.look()
    assert again.look() == again.look()
    assert client.get(f"/v1/collections/{name}/documents/{first['a.md']}")["version"] == 2, "it was not sent again"

    (folder / "sub" / "b.txt").rename(folder / "moved.txt")
    looks = [again.look() for _ in range(3)]
    assert [one for look in looks for one in look.sent] == ["moved.txt"]
    assert [one for look in looks for one in look.deleted] == ["sub/b.txt"]
    (folder / "a.md").unlink()
    assert [again.look().deleted for _ in range(2)] == [(), ("a.md",)]
    assert sorted(names(client, name)) == ["moved.txt"]

    folder.rename(tmp_path / "away")
    assert again.look().deleted == again.look().deleted == ()
    assert sorted(names(client, name)) == ["moved.txt"], "a folder that is gone deletes nothing"


def test_what_is_refused_is_told_once_and_does_not_stop_the_others(client: Client, tmp_path: Path) -> None:
    name = f"refused-{os.getpid()}"
    ensure_collection(client, name)
    put(tmp_path / "in" / "ok.md", "# Fine")
    (tmp_path / "in" / "bad.pdf").write_bytes(b"%PDF-1.4 broken")
    watching = Watch(client, name, tmp_path / "in", Memory(tmp_path / "memory.json"))
    watching.look()
    look = watching.look()
    assert (look.sent, look.refused) == (("ok.md",), ("bad.pdf",))
    assert watching.look().refused == ()


def test_ctrl_c_ends_a_watch_cleanly(plain_stack: Stack, client: Client, tmp_path: Path) -> None:
    name, folder = f"ended-{os.getpid()}", tmp_path / "in"
    put(folder / "a.md", "# Alpha")
    flags = ("ingest", "--collection", name, "--watch", str(folder), "--interval", "0.2")
    environment = {**os.environ, "STOKER_URL": plain_stack.url, "STOKER_API_KEY": plain_stack.admin_key}
    command = [sys.executable, "-m", "cli", *flags, "--data-dir", str(tmp_path / "data")]
    watching = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def arrived() -> bool:
        assert watching.poll() is None, watching.communicate()[0]
        try:
            return "a.md" in names(client, name)
        except CliError:
            return False

    until(arrived, "the file has arrived")
    second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert second.returncode != 0
    assert "watched" in second.stderr + second.stdout
    watching.send_signal(signal.SIGINT)
    told = watching.communicate(timeout=30)[0]
    assert watching.returncode == 0, told
    assert "Traceback" not in told


async def test_a_manifest_brings_files_and_addresses(client: Client, tmp_path: Path) -> None:
    name = f"manifest-{os.getpid()}"
    put(tmp_path / "docs" / "a.md", "# Alpha")
    put(tmp_path / "b.txt", "Beta")
    async with open_site(OPENED_PORT) as site:
        site.pages["/page"] = "A page about gamma rays."
        rows = [
            {"path": "docs/a.md", "metadata": {"n": 1}, "acl": {"groups": ["staff"]}},
            {"path": "b.txt", "title": "second.txt"},
            {"url": f"{site.url}/page", "metadata": {"n": 3}},
            {"url": f"{site.url}/gone", "title": "gone"},
            {"url": "http://169.254.169.254/latest", "title": "inside"},
        ]
        file = tmp_path / "manifest.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        outcomes = await asyncio.to_thread(ingest_manifest, client, name, read_manifest(file))
    told = {outcome.filename: (outcome.status, outcome.error or "") for outcome in outcomes}
    assert {name for name, (status, _) in told.items() if status == "ready"} == {
        "docs/a.md",
        "second.txt",
        f"{site.url}/page",
    }
    assert "answered 404" in told["gone"][1]
    assert "STOKER_FETCH_ALLOW" in told["inside"][1]
    found = {one["filename"]: one for one in client.pages(f"/v1/collections/{name}/documents")}
    assert found["docs/a.md"]["acl"] == {"users": [], "groups": ["staff"]}
    assert found[f"{site.url}/page"]["metadata"] == {"n": 3}


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", "{}", "", '{"path": "none.md"}', '{"path": "m.jsonl", "url": "x"}', '{"url": 3}'),
        *('{"url": "x", "y": 1}', '{"url": "x", "metadata": []}', '{"url": "x", "title": ""}'),
        '{"url": "x"}\n{"url": "x"}',
    ],
)
def test_a_manifest_with_a_fault_sends_nothing(tmp_path: Path, line: str) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text(line)
    with pytest.raises(CliError):
        read_manifest(file)


async def test_a_url_a_sitemap_and_a_batch_by_http(client: Client, plain_stack: Stack) -> None:
    name = f"web-{os.getpid()}"
    await asyncio.to_thread(ensure_collection, client, name)
    async with open_site(OPENED_PORT) as site:
        site.pages["/page"] = "A page about gamma rays."
        site.pages["/sitemap.xml"] = f"<urlset><url><loc>{site.url}/page</loc></url></urlset>"

        async def done(body: dict[str, object], path: str = "/v1/ingest") -> dict[str, object]:
            job_id = (await asyncio.to_thread(client.post, path, {"collection": name, **body}))["job_id"]
            while True:
                job = await asyncio.to_thread(client.get, f"/v1/jobs/{job_id}")
                if job["status"] in ("succeeded", "failed"):
                    return job
                await asyncio.sleep(0.1)

        assert (await done({"url": f"{site.url}/page"}))["status"] == "succeeded"
        job = await done({"sitemap": f"{site.url}/sitemap.xml"})
        assert job["status"] == "succeeded"
        assert dict(job["listing"])["found"] == 1  # type: ignore[call-overload]
        items = [{"url": f"{site.url}/page"}, {"title": "t", "content": "text"}]
        assert (await done({"items": items}, "/v1/ingest/batch"))["status"] == "succeeded"
        assert site.statuses("/page") == [200, 304, 304]
    for body, param in (
        ({"url": "http://10.0.0.1/"}, "url"),
        ({"url": f"{site.url}/x", "sitemap": f"{site.url}/y"}, "sitemap"),
        ({"sitemap": f"{site.url}/x", "limit": 0}, "limit"),
        ({"url": f"{site.url}/x", "limit": 1}, "limit"),
        ({"s3": {"bucket": "papers"}}, "s3"),
        ({"s3": "papers"}, "s3"),
        ({}, "documents"),
    ):
        answer = plain_stack.client.post("/v1/ingest", json={"collection": name, **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
