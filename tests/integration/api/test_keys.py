"""Keys over HTTP: made, shown once, listed, rotated, revoked."""

import json
import stat

import httpx
import pytest

from tests.support.stack import Stack


def models(stack: Stack, key: str | None, header: str = "authorization") -> httpx.Response:
    headers = {} if key is None else {header: f"Bearer {key}" if header == "authorization" else key}
    return httpx.get(f"{stack.url}/v1/models", headers=headers)


def make_key(stack: Stack, **fields: object) -> dict[str, str]:
    answer = stack.client.post("/v1/admin/keys", json={"name": "colleague", **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_the_first_admin_key_is_readable_by_its_owner_only(plain_stack: Stack) -> None:
    file = plain_stack.data_dir / "admin.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert models(plain_stack, plain_stack.admin_key).status_code == 200


def test_a_key_works_in_either_header(plain_stack: Stack) -> None:
    key = make_key(plain_stack)["key"]
    assert models(plain_stack, key).status_code == 200
    assert models(plain_stack, key, "x-api-key").status_code == 200


@pytest.mark.parametrize("key", [None, "sk-stoker-wrong", "x" * 5000, "sk-stoker-' OR 1=1 --"])
def test_a_wrong_key_is_401_in_openais_envelope(plain_stack: Stack, key: str | None) -> None:
    answer = models(plain_stack, key)
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"]


def test_the_list_shows_everything_but_the_key(plain_stack: Stack) -> None:
    made = make_key(plain_stack, name="listed")
    listed = plain_stack.client.get("/v1/admin/keys").json()["data"]
    found = next(key for key in listed if key["id"] == made["id"])
    assert found["prefix"] == made["key"][:16]
    assert made["key"] not in plain_stack.client.get("/v1/admin/keys").text


def test_the_database_holds_no_key_in_clear(plain_stack: Stack) -> None:
    made = make_key(plain_stack, name="hashed")
    stored = b"".join(file.read_bytes() for file in plain_stack.data_dir.glob("stoker.db*"))
    assert made["id"].encode() in stored
    assert made["key"].encode() not in stored


def test_a_revoked_key_fails_on_its_next_request(plain_stack: Stack) -> None:
    made = make_key(plain_stack)
    assert models(plain_stack, made["key"]).status_code == 200
    plain_stack.client.delete(f"/v1/admin/keys/{made['id']}").raise_for_status()
    assert [models(plain_stack, made["key"]).status_code for _ in range(10)] == [401] * 10  # on either worker


def test_rotation_gives_a_new_key_and_ends_the_old_one(plain_stack: Stack) -> None:
    made = make_key(plain_stack)
    rotated = plain_stack.client.post(f"/v1/admin/keys/{made['id']}/rotate").json()
    assert rotated["name"] == made["name"]
    assert models(plain_stack, made["key"]).status_code == 401
    assert models(plain_stack, rotated["key"]).status_code == 200
    assert plain_stack.client.post(f"/v1/admin/keys/{made['id']}/rotate").status_code == 404


def test_a_key_of_one_second_expires(plain_stack: Stack) -> None:
    import time

    made = make_key(plain_stack, expires_in_s=1)
    time.sleep(1.1)
    assert models(plain_stack, made["key"]).status_code == 401


@pytest.mark.parametrize("path", ["/v1/admin/keys", "/status"])
def test_a_member_reaches_no_admin_route(plain_stack: Stack, path: str) -> None:
    key = make_key(plain_stack)["key"]
    answer = httpx.get(plain_stack.url + path, headers={"x-api-key": key})
    assert answer.status_code == 403
    assert "role admin" in answer.json()["error"]["message"]


def test_scopes_and_limits_of_the_command_line_hold(plain_stack: Stack) -> None:
    flags = ("--scope", "models", "--rpm", "5", "--usd-per-day", "0.000000001", "--expires-in", "1h", "--json")
    made = json.loads(plain_stack.cli("keys", "create", "narrow", *flags).stdout)
    assert (made["scopes"], made["limits"]["rpm"], made["limits"]["usd_per_day"]) == (["models"], 5, "0.000000001")
    assert models(plain_stack, made["key"]).status_code == 200
    refused = httpx.get(f"{plain_stack.url}/v1/collections", headers={"x-api-key": made["key"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_not_allowed")


def test_both_keys_work_while_a_rotation_overlaps(plain_stack: Stack) -> None:
    made = make_key(plain_stack)
    rotated = json.loads(plain_stack.cli("keys", "rotate", made["id"], "--overlap", "1h", "--json").stdout)
    assert [models(plain_stack, key["key"]).status_code for key in (made, rotated)] == [200, 200]


def test_a_change_holds_on_every_worker_with_the_next_request(plain_stack: Stack) -> None:
    made = make_key(plain_stack)
    assert {models(plain_stack, made["key"]).status_code for _ in range(10)} == {200}
    plain_stack.client.patch(f"/v1/admin/keys/{made['id']}", json={"scopes": ["chat"]}).raise_for_status()
    assert [models(plain_stack, made["key"]).status_code for _ in range(10)] == [403] * 10
