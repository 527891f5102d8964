"""Model requests by session, over real sockets and two workers: admitted and billed as those of its key."""

import httpx

from tests.integration.hot.conftest import await_lines, body, new_key
from tests.support.gateway import Gateway

CHAT = "/v1/chat/completions"


def test_a_page_chats_by_session_within_the_limits_of_its_key(client: httpx.Client, gate: Gateway) -> None:
    key = new_key(client, limits={"rpm": 2, "burst": 2})
    with httpx.Client(base_url=gate.url, timeout=30) as page:
        signed_in = page.post("/v1/session", json={"key": key["key"]})
        assert signed_in.status_code == 201, signed_in.text
        token = {"x-csrf-token": signed_in.json()["csrf_token"], "origin": gate.url}
        refused = page.post(CHAT, json=body())
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf_failed")
        answer = page.post(CHAT, json=body(), headers=token)
        assert answer.status_code == 200, answer.text
        (line,) = await_lines(gate, 1, key_id=key["id"])
        assert (line["tenant_id"], line["tokens_out"]) == ("default", 3)
        by_key = {"authorization": f"Bearer {key['key']}"}
        assert client.post(CHAT, json=body(), headers=by_key).status_code == 200
        assert page.post(CHAT, json=body(), headers=token).status_code == 429


def test_a_session_ends_on_every_worker_with_its_sign_out_and_with_its_key(client: httpx.Client, gate: Gateway) -> None:
    for how in ("sign-out", "revocation"):
        key = new_key(client)
        with httpx.Client(base_url=gate.url, timeout=30) as page:
            token = {"x-csrf-token": page.post("/v1/session", json={"key": key["key"]}).json()["csrf_token"]}
            stolen = {**token, "cookie": f"stoker_session={page.cookies['stoker_session']}"}
            for _ in range(6):  # each on a connection of its own: both workers know it
                assert httpx.post(f"{gate.url}{CHAT}", json=body(), headers=stolen).status_code == 200
            if how == "sign-out":
                assert page.delete("/v1/session", headers=token).status_code == 204
            else:
                assert client.delete(f"/v1/admin/keys/{key['id']}").status_code == 200
            for _ in range(6):
                answer = httpx.post(f"{gate.url}{CHAT}", json=body(), headers=stolen)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "session_ended")
