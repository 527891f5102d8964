"""Over the wire, at a running gateway: requests that say two things, never end, or hold more than they say."""

import gzip
import io
import json
import re
import socket
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from tests.security.conftest import BODY_DEADLINE_S, MAX_BODY_BYTES
from tests.security.furnished import Furnished
from tests.security.parts import caller
from tests.support.gateway import Gateway, Upstream

pytestmark = pytest.mark.slow
CHAT = {"model": "mock", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 3}


def sent(gateway: Gateway, *pieces: bytes, wait_s: float = 5.0, pause_s: float = 0.0) -> bytes:
    """All that comes back on one connection until it is closed, or nothing comes for a second."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=wait_s) as one:
        for piece in pieces:
            try:
                one.sendall(piece)
            except OSError:
                break
            time.sleep(pause_s)
        told = b""
        while True:
            try:
                part = one.recv(65_536)
            except TimeoutError:
                return told
            except OSError:
                return told
            if not part:
                return told
            told += part
            one.settimeout(1.0)


def statuses(told: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", told)]


def chat(gateway: Gateway, *headers: str, body: bytes = b"", path: str = "/v1/chat/completions") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {gateway.key}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        ["content-length: 5", "content-length: 40"],
        ["content-length: 5", "transfer-encoding: chunked"],
        ["transfer-encoding: chunked", "content-length: 5"],
        ["content-length: +5"],
        ["content-length: 5,5"],
        ["content-length: 0x5"],
        ["content-length: -1"],
        ["transfer-encoding: xchunked"],
        ["transfer-encoding: chunked, identity"],
        ["transfer-encoding: identity, chunked, identity"],
        ["transfer-encoding : chunked"],
        ["transfer-encoding: chunked", "transfer-encoding: identity"],
        ["x: y\nz: w"],
        ["content-length: 5\x00"],
    ],
    ids=str,
)
def test_a_request_that_says_two_things_of_its_length_is_refused_and_nothing_of_it_becomes_another(
    gateway: Gateway, headers: list[str], upstream: Upstream
) -> None:
    """As h11 before 0.16 and aiohttp's parser in Python read such requests (CVE-2025-43859; GHSA-8495-4g3g-x7pr)."""
    asked = len(upstream.log)
    for body in (b"0\r\n\r\n" + SMUGGLED, b"5\r\nabcde\r\n0\r\n\r\n" + SMUGGLED, b"abcde" + SMUGGLED):
        told = sent(gateway, chat(gateway, *headers, body=body))
        found = statuses(told)
        # Whatever is answered, it is no success, and where the length is not certain there is one answer and no more.
        assert found
        assert all(400 <= one < 500 for one in found), told[:300]
        assert len(found) == 1 or 404 not in found or _is_certain(headers), (headers, told[:600])
    assert len(upstream.log) == asked


def _is_certain(headers: Sequence[str]) -> bool:
    return headers in (["x: y\nz: w"],)


def test_a_body_in_pieces_that_break_the_rules_reaches_no_model(gateway: Gateway, upstream: Upstream) -> None:
    asked = len(upstream.log)
    body = json.dumps(CHAT).encode()
    for chunk in (
        b"%x;\r\nx\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
        b"%x\n" % len(body) + body + b"\n0\n\n",
        b"-%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
        b"0x%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
        b"%x\r\n" % (len(body) - 3) + body + b"\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFFF\r\n" + body,
    ):
        told = sent(gateway, chat(gateway, "transfer-encoding: chunked", body=chunk), wait_s=BODY_DEADLINE_S + 3)
        assert 200 not in statuses(told), (chunk[:40], told[:200])
    assert len(upstream.log) == asked


def test_pipelined_requests_are_answered_one_after_the_other_and_each_is_asked_who_it_is(gateway: Gateway) -> None:
    """aiohttp kept as many as came (CVE-2026-54273, GHSA-4fvr-rgm6-gqmc)."""
    one = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n\r\n".encode()
    other = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    assert statuses(sent(gateway, one + other + one + other)) == [200, 401, 200, 401]
    assert set(statuses(sent(gateway, one * 500))) <= {200, 429}


def test_cve_2025_48956_a_head_without_an_end_is_refused(gateway: Gateway) -> None:
    """vLLM read headers of any size (GHSA-rxc4-3w6r-4v47)."""
    for head in (b"x: " + b"a" * 10**6, b"".join(b"x%d: y\r\n" % number for number in range(60_000))):
        assert statuses(sent(gateway, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n", head))[:1] == [431]


def test_cve_2025_62727_a_header_of_a_thousand_ranges_costs_nothing(gateway: Gateway, admin: httpx.Client) -> None:
    """Starlette before 0.49.1 took the square of their number (GHSA-7f5h-v6xp-fcq8)."""
    ranges = "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 8000, 2))
    start_s = time.monotonic()
    for path in ("/", "/console/app.js", "/docs"):
        assert admin.get(path, headers={"range": ranges}).status_code == 200
    assert time.monotonic() - start_s < 5


def test_a_body_that_is_too_large_or_never_comes_is_let_go(gateway: Gateway) -> None:
    large = b"a" * (MAX_BODY_BYTES + 10_000)
    for path in ("/v1/chat/completions", "/v1/search", "/v1/conversations", "/v1/ingest", "/v1/files"):
        told = sent(gateway, chat(gateway, f"content-length: {len(large)}", path=path), large)
        assert statuses(told) == [413], path
        chunks = chat(gateway, "transfer-encoding: chunked", path=path), b"%x\r\n" % len(large), large, b"\r\n0\r\n\r\n"
        assert statuses(sent(gateway, *chunks))[:1] in ([413], [400]), path
    start_s = time.monotonic()
    slow = chat(gateway, "content-length: 1000")
    assert statuses(sent(gateway, slow, b"{", b'"', wait_s=BODY_DEADLINE_S + 8, pause_s=0.2)) == [408]
    assert time.monotonic() - start_s < BODY_DEADLINE_S + 8


def test_a_packed_body_is_not_unpacked(gateway: Gateway, admin: httpx.Client) -> None:
    """aiohttp unpacked bodies past their bound (CVE-2026-54278, GHSA-g3cq-j2xw-wf74)."""
    bomb = gzip.compress(json.dumps({**CHAT, "user": "a" * 50_000_000}).encode())
    assert len(bomb) < MAX_BODY_BYTES
    for path in ("/v1/chat/completions", "/v1/search", "/v1/ingest"):
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        answer = admin.post(path, content=bomb, headers=headers)
        assert answer.status_code in (400, 415), (path, answer.status_code)


def test_cve_2026_54283_a_form_of_pairs_is_not_read(admin: httpx.Client) -> None:
    """Starlette's bounds did not hold for urlencoded forms (GHSA-82w8-qh3p-5jfq), nor did python-multipart's speed with
    semicolons (CVE-2026-53539, GHSA-5rvq-cxj2-64vf)."""
    body = b";".join(b"a=b" for _ in range(40_000))
    headers = {"content-type": "application/x-www-form-urlencoded"}
    start_s = time.monotonic()
    for path in ("/v1/ingest", "/v1/files", "/v1/collections", "/v1/search"):
        assert admin.post(path, content=body, headers=headers).status_code in (400, 401, 415, 422), path
    assert time.monotonic() - start_s < 5


def _form(*parts: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return before + b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n" + after


FILE = b'content-disposition: form-data; name="file"; filename="a.txt"\r\n'
PURPOSE = b'content-disposition: form-data; name="purpose"\r\n\r\nassistants'


@pytest.mark.parametrize(
    ("form", "taken"),
    [
        (_form(PURPOSE, FILE + b"".join(b"x%d: y\r\n" % n for n in range(20_000)) + b"\r\nhi"), False),
        (_form(PURPOSE, FILE + b"x: " + b"y" * 150_000 + b"\r\n\r\nhi"), False),
        (_form(PURPOSE, FILE + b"\r\nhi", before=b"\r\n" * 60_000), None),
        (_form(PURPOSE, FILE + b"\r\nhi", after=b"a" * 150_000), None),
        (_form(PURPOSE, *[FILE + b"\r\nhi"] * 1500), False),
        (_form(PURPOSE, FILE + b"\r\nhi"), True),
    ],
    ids=["headers", "a header", "before", "after", "parts", "plain"],
)
def test_cve_2026_42561_and_40347_a_form_costs_what_it_weighs(
    admin: httpx.Client, form: bytes, taken: bool | None
) -> None:
    """python-multipart read headers, preambles and ends without a bound (GHSA-pp6c-gr5w-3c5g, GHSA-mj87-hwqh-73pj)."""
    start_s = time.monotonic()
    answer = admin.post("/v1/files", content=form, headers={"content-type": "multipart/form-data; boundary=b"})
    assert time.monotonic() - start_s < 5
    assert answer.status_code in (200, 400, 413), answer.text
    assert taken is None or (answer.status_code == 200) is taken, answer.text


NAMES = (
    *(
        "../../../../tmp/planted",
        "..\\..\\planted",
        "/etc/cron.d/planted",
        "a/../../planted",
        "C:\\planted",
        "planted\x00.txt",
    ),
    *("....//....//planted", "%2e%2e%2fplanted", "~/planted", "\u202eplanted.txt", "=cmd|' /C calc'!A0", "a" * 500),
)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_cve_2026_24486_and_7302_a_files_name_is_no_path(gateway: Gateway, ours: Furnished, name: str) -> None:
    """python-multipart (GHSA-wp53-j4wj-2cfg) and SGLang (GHSA-qwrp-wghp-94q2) wrote where the name says."""
    before = _files(gateway)
    with caller(gateway, ours.manager) as client:
        answer = client.post("/v1/files", files={"file": (name, b"planted")}, data={"purpose": "assistants"})
        form = {"collection": ours.ids["collection"]}
        other = client.post("/v1/ingest", files={"file": (name, b"planted")}, data=form)
    assert answer.status_code in (200, 400), answer.text
    assert other.status_code in (202, 400), other.text
    new = _files(gateway) - before
    assert not [one for one in new if "planted" in one or ".." in one], new


def _files(gateway: Gateway) -> set[str]:
    return {str(one.relative_to(gateway.folder.parent)) for one in gateway.folder.parent.rglob("*") if one.is_file()}


def test_cve_2025_65959_and_2026_26193_what_was_uploaded_is_never_shown_as_a_page(
    gateway: Gateway, ours: Furnished
) -> None:
    """Open WebUI ran scripts out of notes and answers (GHSA-8wvc-869r-xfqf, GHSA-vjm7-m4xh-7wrc)."""
    with caller(gateway, ours.manager) as client:
        for name, kind in (("a.html", "text/html"), ("a.svg", "image/svg+xml"), ("a.js", "text/javascript")):
            sent_file = {"file": (name, b"<script>alert(1)</script>", kind)}
            made = client.post("/v1/files", files=sent_file, data={"purpose": "assistants"}).raise_for_status().json()
            answer = client.get(f"/v1/files/{made['id']}/content")
            _is_inert(answer)
        document = f"/v1/collections/{ours.ids['collection']}/documents/{ours.ids['document']}"
        _is_inert(client.get(f"{document}/source"))
        page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


def _is_inert(answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in ("application/octet-stream", "text/plain"), kind
    assert answer.headers.get("x-content-type-options") == "nosniff"
    assert "attachment" in answer.headers.get("content-disposition", "")


def test_cve_2026_73555_no_refusal_tells_of_the_machine(gateway: Gateway, admin: httpx.Client) -> None:
    """vLLM's errors named paths and users of its host (GHSA-hwrm-c4cx-rf4j)."""
    bodies: list[Any] = [b"", b"{", b"[]", b"null", b'{"model": 1}', b'{"model": "mock", "messages": 7}', b"\xff\xfe"]
    bodies += [b"[" * 5000, b'{"model": "mock", "messages": [{"role": {}}]}', b'{"a": 1e999}', b'{"a": "\\ud800"}']
    paths = [path for path in admin.get("/openapi.json").json()["paths"] if "{" not in path]
    tried = 0
    for path in paths:
        for body in bodies:
            answer = admin.post(path, content=body, headers={"content-type": "application/json"})
            tried += 1
            for word in (
                str(gateway.folder),
                "site-packages",
                "Traceback",
                'File "',
                "/api/",
                "sqlalchemy",
                "pydantic_core",
            ):
                assert word not in answer.text, (path, body[:20], answer.text)
            assert answer.status_code < 500 or answer.status_code in (502, 503, 504), (path, body[:20], answer.text)
    assert tried > 400


def test_ssrf_by_a_picture_reaches_no_engine(admin: httpx.Client, upstream: Upstream) -> None:
    """CVE-2025-6242 (GHSA-3f6c-7fw2-ppm4), over every door to a model."""
    asked = len(upstream.log)
    picture = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data/"}}
    content = [{"type": "text", "text": "What is this?"}, picture]
    chat_ = {**CHAT, "messages": [{"role": "user", "content": content}]}
    source = {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}}
    message = {**CHAT, "messages": [{"role": "user", "content": [source]}]}
    part = {"type": "input_image", "image_url": "http://169.254.169.254/"}
    response = {"model": "mock", "input": [{"role": "user", "content": [part]}], "max_output_tokens": 3}
    streamed = {**chat_, "stream": True}
    doors: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", chat_),
        ("/v1/chat/completions", streamed),
        ("/v1/messages", message),
        ("/v1/responses", response),
    ]
    for path, body in doors:
        answer = admin.post(path, json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert "data: URL" in answer.text
    assert len(upstream.log) == asked


def test_a_spoofed_sender_changes_nothing(gateway: Gateway, admin: httpx.Client) -> None:
    """Neither who is asking, nor what is written of it, hangs on headers that a proxy would set."""
    names = ("x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-proto", "x-forwarded-host", "cf-connecting-ip")
    headers = dict.fromkeys(names, 'for=127.0.0.1;host="evil.example";proto=https')
    plain, spoofed = (admin.get("/v1/models", headers=one) for one in ({}, headers))
    assert plain.json() == spoofed.json()
    assert "evil.example" not in gateway.log
    assert admin.get("/v1/session/oidc/none", headers={"host": "evil.example"}).status_code == 404
    page = admin.get("/", headers={"host": "evil.example", "x-forwarded-host": "evil.example"})
    assert "evil.example" not in page.text
    assert not [one for one in page.headers.values() if "evil.example" in one]


INJECTED = (
    'a\r\n{"event":"request","status":200,"forged":1}',
    "a\nforged",
    "a\x1b[31mforged",
    "a\u2028forged",
    "\x00forged",
)


def test_no_line_of_the_log_is_written_by_a_caller(gateway: Gateway, admin: httpx.Client) -> None:
    for text in INJECTED:
        quoted = httpx.QueryParams({"after": text, "model": text})
        admin.get(f"/v1/feedback?{quoted}")
        admin.post("/v1/search", json={"query": text, "collection": text})
        admin.post("/v1/chat/completions", json={**CHAT, "model": text, "user": text})
        admin.request("GET", "/v1/collections/" + str(httpx.QueryParams({"a": text}))[2:])
        agent = "".join(sign for sign in text if sign.isascii() and sign.isprintable())
        admin.get("/v1/models", headers={"user-agent": agent})
    lines = gateway.log.splitlines()
    for line in lines:
        told = json.loads(line)
        assert "forged" not in told, line
    assert "\x1b" not in gateway.log


def test_no_cell_of_a_report_is_a_formula(admin: httpx.Client, ours: Furnished) -> None:
    """What a caller names stands in reports that somebody opens in a spreadsheet."""
    for sign in ("=", "+", "-", "@", "\t", "＝"):
        answer = admin.post("/v1/admin/tenants", json={"name": f"{sign}cmd|calc"})
        assert answer.status_code in (201, 400), answer.text
    for group in ("key", "user", "team", "tenant", "model", "day"):
        answer = admin.get("/v1/admin/usage", params={"group_by": group, "format": "csv"})
        cells = [cell.strip('"') for line in answer.text.splitlines()[1:] for cell in line.split(",")]
        if answer.status_code == 200:
            assert not [cell for cell in cells if cell[:1] in ("=", "+", "@", "\t") and cell], (group, cells)


SECRETS = ("sk-stoker-", "Bearer ", "requirepass", "password")


def test_no_secret_stands_in_logs_errors_and_status(gateway: Gateway, admin: httpx.Client, ours: Furnished) -> None:
    wrong = "sk-stoker-wrongwrongwrongwrongwrongwrong12"
    with caller(gateway, wrong) as stranger:
        refused = stranger.get("/v1/models").text
    told = [refused, admin.get("/status").text, admin.get("/metrics").text, admin.get("/v1/admin/audit").text]
    told += [admin.get("/v1/admin/deployments").text, admin.get("/health/ready").text, gateway.log]
    told.append((gateway.folder / "keeper.log").read_text())
    for secret in (gateway.key, ours.member, ours.manager, wrong):
        assert not [number for number, text in enumerate(told) if secret in text]
        assert not [number for number, text in enumerate(told) if secret[-20:] in text]


def test_a_bomb_of_a_document_ends_with_its_reason_while_the_gateway_goes_on(
    gateway: Gateway, ours: Furnished, figure: Callable[[str], None]
) -> None:
    """The worker reads it, in a process of its own (`tests/unit/retrieval/test_hostile_files.py`)."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"<a>" * 10_000_000)
    assert len(packed.getvalue()) < MAX_BODY_BYTES
    with caller(gateway, ours.manager) as client:
        start_s = time.monotonic()
        upload = {"file": ("bomb.docx", packed.getvalue())}
        answer = client.post("/v1/ingest", files=upload, data={"collection": ours.ids["collection"]})
        figure(f"{len(packed.getvalue()):,} bytes that are 30,000,000: {answer.status_code}")
    assert answer.status_code in (202, 400)
    assert time.monotonic() - start_s < 5
