"""/v1/files over the gateway: kept, listed, read, deleted, swept; and what is bad or another's stays out."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import Gateway, gateway
from tests.support.network import free_port

MAX_FILE_BYTES = 100_000


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with its keeper, which sweeps often; no index and no models."""
    settings = {
        "STOKER_MAX_FILE_BYTES": str(MAX_FILE_BYTES),
        "STOKER_MAX_BODY_BYTES": "200000",
        "STOKER_SWEEP_S": "0.2",
        "STOKER_ORPHANS_S": "0.3",
        "STOKER_ORPHAN_GRACE_S": "0",
    }
    with gateway(tmp_path_factory.mktemp("files"), free_port(), settings=settings) as one:
        yield one


@pytest.fixture(scope="module")
def admin(house: Gateway) -> Iterator[httpx.Client]:
    with caller(house, house.key) as one:
        yield one


def caller(house: Gateway, key: str) -> httpx.Client:
    return httpx.Client(base_url=house.url, headers={"authorization": f"Bearer {key}"}, timeout=30)


@pytest.fixture
def new_caller(house: Gateway, admin: httpx.Client) -> Iterator[Callable[..., httpx.Client]]:
    """Makes somebody of a tenant, which is made too unless it is there, with a user of these groups."""
    opened = ExitStack()

    def make(tenant: str | None = None, groups: list[str] | None = None, role: str = "member") -> httpx.Client:
        if tenant is None:
            made = admin.post("/v1/admin/tenants", json={"name": secrets.token_hex(6)})
            assert made.status_code == 201, made.text
            tenant = made.json()["id"]
        user = admin.post("/v1/admin/users", json={"name": "u", "tenant": tenant, "groups": groups or []})
        assert user.status_code == 201, user.text
        asked = {"name": "k", "tenant": tenant, "user": user.json()["id"], "role": role, "limits": {"rpm": None}}
        key = admin.post("/v1/admin/keys", json=asked)
        assert key.status_code == 201, key.text
        one = opened.enter_context(caller(house, key.json()["key"]))
        one.headers["x-tenant"] = tenant
        one.headers["x-user"] = user.json()["id"]
        return one

    with opened:
        yield make


def send(who: httpx.Client, data: bytes = b"text", name: str = "a.txt", **fields: Any) -> httpx.Response:
    return who.post("/v1/files", files={"file": (name, data)}, data={"purpose": "user_data", **fields})


def sent(who: httpx.Client, data: bytes = b"text", name: str = "a.txt", **fields: Any) -> dict[str, Any]:
    answer = send(who, data, name, **fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def await_(look: Callable[[], bool], limit_s: float = 20) -> None:
    end_s = time.monotonic() + limit_s
    while not look():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def object_of(house: Gateway, file_id: str) -> Path:
    (folder,) = [path for path in house.folder.rglob("files") if path.is_dir()]
    return folder / file_id


def test_a_file_is_kept_listed_read_and_deleted(admin: httpx.Client) -> None:
    data = secrets.token_bytes(50_000)
    file = sent(admin, data, "Größe & Maß.bin")
    assert (file["object"], file["bytes"], file["filename"]) == ("file", 50_000, "Größe & Maß.bin")
    assert (file["status"], file["expires_at"], file["purpose"]) == ("processed", None, "user_data")
    assert admin.get(f"/v1/files/{file['id']}").json() == file
    content = admin.get(f"/v1/files/{file['id']}/content")
    assert content.content == data
    assert content.headers["content-disposition"].startswith("attachment;")
    assert content.headers["x-content-type-options"] == "nosniff"
    assert file["id"] in [one["id"] for one in admin.get("/v1/files").json()["data"]]
    gone = admin.delete(f"/v1/files/{file['id']}")
    assert gone.json() == {"id": file["id"], "object": "file", "deleted": True}
    for path in ("", "/content"):
        assert admin.get(f"/v1/files/{file['id']}{path}").status_code == 404
    assert admin.delete(f"/v1/files/{file['id']}").status_code == 404
    assert file["id"] not in [one["id"] for one in admin.get("/v1/files").json()["data"]]


def test_a_list_is_paged_in_both_orders_and_by_purpose(new_caller: Callable[..., httpx.Client]) -> None:
    who = new_caller()
    made = [sent(who, name=f"{n}.txt", purpose="batch" if n % 2 else "evals")["id"] for n in range(5)]
    newest = [one["id"] for one in who.get("/v1/files").json()["data"]]
    oldest = [one["id"] for one in who.get("/v1/files", params={"order": "asc"}).json()["data"]]
    assert set(newest) == set(made)
    assert newest == oldest[::-1]
    first = who.get("/v1/files", params={"limit": 2}).json()
    assert (first["has_more"], first["last_id"]) == (True, newest[1])
    rest = who.get("/v1/files", params={"limit": 3, "after": first["last_id"]}).json()
    assert (rest["has_more"], [one["id"] for one in rest["data"]]) == (False, newest[2:])
    batches = who.get("/v1/files", params={"purpose": "batch"}).json()["data"]
    assert {one["id"] for one in batches} == {made[1], made[3]}


def test_a_file_for_a_batch_lasts_thirty_days_and_any_other_as_long_as_is_said(admin: httpx.Client) -> None:
    batch = sent(admin, purpose="batch")
    assert batch["expires_at"] - batch["created_at"] == 30 * 86_400
    said = sent(admin, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    assert said["expires_at"] - said["created_at"] == 3600
    as_json = sent(admin, expires_after=json.dumps({"anchor": "created_at", "seconds": 60}))
    assert as_json["expires_at"] - as_json["created_at"] == 60


def test_bytes_of_deleted_and_expired_files_and_of_none_are_swept(house: Gateway, admin: httpx.Client) -> None:
    kept, deleted = sent(admin), sent(admin)
    expiring = sent(admin, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "1"})
    orphan = object_of(house, kept["id"][:-1] + ("0" if kept["id"][-1] != "0" else "1"))
    orphan.write_bytes(b"a gateway died here")
    foreign = object_of(house, "README")
    foreign.write_bytes(b"not ours")
    assert object_of(house, expiring["id"]).exists()
    admin.delete(f"/v1/files/{deleted['id']}")
    await_(lambda: not object_of(house, deleted["id"]).exists())
    await_(lambda: not object_of(house, expiring["id"]).exists())
    await_(lambda: not orphan.exists())
    assert admin.get(f"/v1/files/{expiring['id']}").status_code == 404
    assert admin.get(f"/v1/files/{kept['id']}/content").content == b"text"
    assert foreign.exists()


def test_an_expired_file_is_gone_before_anybody_sweeps(new_caller: Callable[..., httpx.Client]) -> None:
    who = new_caller()
    file = sent(who, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "2"})
    assert who.get(f"/v1/files/{file['id']}").status_code == 200
    await_(lambda: time.time() > file["expires_at"] + 1)
    assert who.get(f"/v1/files/{file['id']}").status_code == 404
    assert who.get("/v1/files").json()["data"] == []


def test_nobody_sees_a_file_of_another_tenant(new_caller: Callable[..., httpx.Client]) -> None:
    owner, stranger = new_caller(), new_caller(role="manager")
    file = sent(owner)
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        answer = stranger.request(method, f"/v1/files/{file['id']}{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")
    assert stranger.get("/v1/files").json()["data"] == []
    assert owner.get(f"/v1/files/{file['id']}/content").content == b"text"


def test_an_access_list_hides_a_file_from_the_rest_of_the_tenant(new_caller: Callable[..., httpx.Client]) -> None:
    ann = new_caller(groups=["sales"])
    bob = new_caller(tenant=ann.headers["x-tenant"])
    manager = new_caller(tenant=ann.headers["x-tenant"], role="manager")
    file = sent(ann, acl=json.dumps({"groups": ["sales"]}))
    common = sent(bob)
    assert [one["id"] for one in bob.get("/v1/files").json()["data"]] == [common["id"]]
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert bob.request(method, f"/v1/files/{file['id']}{path}").status_code == 404
    for who in (ann, manager):
        assert who.get(f"/v1/files/{file['id']}").json()["acl"] == {"users": [], "groups": ["sales"]}
        assert {one["id"] for one in who.get("/v1/files").json()["data"]} == {file["id"], common["id"]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "world-domination"}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"acl": "everyone"}, "acl"),
        ({"acl": '{"users": "ann"}'}, "acl"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after"),
        ({"expires_after[seconds]": "soon"}, "expires_after"),
        ({"expires_after[seconds]": "0"}, "expires_after"),
        ({"expires_after[seconds]": "-5"}, "expires_after"),
        ({"expires_after": "[]"}, "expires_after"),
        ({"chunking": "{}"}, "chunking"),
    ],
)
def test_what_is_bad_is_refused_and_the_field_named(admin: httpx.Client, fields: dict[str, str], param: str) -> None:
    answer = send(admin, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_a_file_needs_a_name_that_can_be_kept(admin: httpx.Client) -> None:
    for name in ("x" * 600, "///"):
        answer = send(admin, name=name)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "filename")
    endless = send(admin, name="x" * 10_000)  # the form's reader gives up on it
    assert endless.status_code == 400
    assert "at most 500 characters" in endless.json()["error"]["message"]
    assert sent(admin, name="../../etc/passwd")["filename"] == "../../etc/passwd"  # a name is no path here


def test_a_form_without_one_file_and_purpose_is_refused(admin: httpx.Client) -> None:
    none = admin.post("/v1/files", data={"purpose": "batch"}, files={"other": ("a", b"x")})
    two = admin.post("/v1/files", files=[("file", ("a", b"x")), ("file", ("b", b"y"))], data={"purpose": "batch"})
    twice = admin.post("/v1/files", files=[("file", ("a", b"x"))], data={"purpose": ["batch", "evals"]})
    unsaid = admin.post("/v1/files", files={"file": ("a", b"x")})
    as_json = admin.post("/v1/files", json={"file": "text", "purpose": "batch"})
    assert [one.status_code for one in (none, two, twice, unsaid, as_json)] == [400] * 5


def test_a_form_that_was_cut_keeps_nothing(new_caller: Callable[..., httpx.Client]) -> None:
    who = new_caller()
    whole = who.build_request("POST", "/v1/files", files={"file": ("a.txt", b"x" * 1000)}, data={"purpose": "batch"})
    cut = whole.read()[:-12]
    answer = who.post("/v1/files", content=cut, headers={"content-type": whole.headers["content-type"]})
    assert answer.status_code == 400
    assert who.get("/v1/files").json()["data"] == []


def test_a_file_is_as_large_as_an_upload_may_be(admin: httpx.Client) -> None:
    assert sent(admin, b"x" * MAX_FILE_BYTES)["bytes"] == MAX_FILE_BYTES
    for size in (MAX_FILE_BYTES + 1, 300_000):
        assert send(admin, b"x" * size).status_code == 413


@pytest.mark.parametrize("file_id", ["none", "file_", "file_" + "0" * 25, "col_" + "0" * 26, "'; --", "%F0%9F%9A%A2"])
def test_an_odd_id_is_no_file(admin: httpx.Client, file_id: str) -> None:
    for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
        answer = admin.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found"), path
    assert admin.get("/v1/files", params={"after": file_id}).status_code == 400
