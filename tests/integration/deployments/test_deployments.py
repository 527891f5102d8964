"""/v1/admin/deployments: what it shows, what it refuses, and what of it outlives a file and a start."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.load.mock import MODEL
from tests.support.gateway import Gateway, Upstream
from tests.support.network import free_port

FIRST = f"{MODEL}-1"


def entry(port: int, **more: Any) -> dict[str, Any]:
    return {
        "model_name": "second",
        "litellm_params": {
            "model": f"hosted_vllm/{MODEL}",
            "api_base": f"http://127.0.0.1:{port}/v1",
            "input_cost_per_token": 0.00000015,
            **more,
        },
    }


def until(is_so: Callable[[], bool], what: str) -> None:
    by_s = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < by_s, what
        time.sleep(0.05)


def ask(admin: httpx.Client, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
    return admin.post("/v1/chat/completions", json=body)


def everywhere(admin: httpx.Client, model: str, status: int) -> Callable[[], bool]:
    """Whether both workers answer so, as far as twelve requests on new connections can tell."""

    def asked() -> bool:
        answers = []
        for _ in range(12):
            with httpx.Client(base_url=admin.base_url, headers=admin.headers, timeout=30) as client:
                answers.append(ask(client, model).status_code)
        return set(answers) == {status}

    return asked


def test_a_deployment_of_the_file_is_shown_whole(admin: httpx.Client, upstream: Upstream) -> None:
    listed = admin.get("/v1/admin/deployments").raise_for_status().json()
    (shown,) = listed["data"]
    assert shown == admin.get(f"/v1/admin/deployments/{FIRST}").json()
    expected = {
        "id": FIRST, "object": "deployment", "state": "active", "source": "file", "model_group": MODEL, "model": MODEL,
        "lane": "native", "hosted": False, "api_base": f"http://127.0.0.1:{upstream.port}/v1", "breaker": "closed",
        "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07, "ejected": None,
    }  # fmt: skip
    assert expected.items() <= shown.items()
    assert listed["configuration"]["error"] is None


def test_series_of_deployments_that_were_taken_away_go(admin: httpx.Client, upstream: Upstream) -> None:
    names = [f"fleeting-{number}" for number in range(10)]
    for name in names:
        added = {**entry(upstream.port), "model_name": name, "model_info": {"id": name}}
        assert admin.post("/v1/admin/deployments", json=added).status_code == 201
    for name in names:
        until(everywhere(admin, name, 200), "both workers know it")
    told = admin.get("/metrics").text
    assert all(f'stoker_upstream_calls_total{{deployment="{name}"' in told for name in names)
    for name in names:
        assert admin.delete(f"/v1/admin/deployments/{name}").status_code == 200
    until(lambda: "fleeting-" not in admin.get("/metrics").text, "their series are told")
    assert f'stoker_upstream_running{{deployment="{FIRST}"}}' in admin.get("/metrics").text


def test_one_that_is_added_answers_in_every_worker_and_one_that_is_removed_does_not(
    admin: httpx.Client, upstream: Upstream
) -> None:
    added = admin.post("/v1/admin/deployments", json=entry(upstream.port))
    assert added.status_code == 201, added.text
    assert (added.json()["id"], added.json()["source"]) == ("second-1", "admin")
    assert added.json()["input_cost_per_token"] == 1.5e-07
    until(everywhere(admin, "second", 200), "both workers know it")
    again = admin.post("/v1/admin/deployments", json={**entry(upstream.port), "model_info": {"id": "second-1"}})
    assert again.status_code in (400, 409), again.text
    removed = admin.delete("/v1/admin/deployments/second-1")
    assert removed.json() == {"id": "second-1", "object": "deployment.deleted", "deleted": True}
    assert admin.get("/v1/admin/deployments/second-1").status_code == 404
    until(everywhere(admin, "second", 404), "neither worker knows it")


def test_metrics_tell_of_a_deployment_whose_breaker_is_open_until_it_is_removed(admin: httpx.Client) -> None:
    def told(line: str) -> Callable[[], bool]:
        return lambda: f"\n{line}\n" in admin.get("/metrics").text

    name = {"model_info": {"id": "dead"}}
    admin.post("/v1/admin/deployments", json={**entry(free_port()), "model_name": "dead", **name}).raise_for_status()
    until(everywhere(admin, "dead", 503), "nobody answers")
    until(told('stoker_deployment_breaker_open{deployment="dead"} 1.0'), "it is rested")
    assert told('stoker_part_breaker_open{part="sql"} 0.0')()
    admin.delete("/v1/admin/deployments/dead").raise_for_status()
    until(told('stoker_deployment_breaker_open{deployment="dead"} 0.0'), "it is not there any more")


def test_one_of_the_file_stays_removed_until_it_is_made_active(admin: httpx.Client, standing: Gateway) -> None:
    admin.delete(f"/v1/admin/deployments/{FIRST}").raise_for_status()
    assert admin.get(f"/v1/admin/deployments/{FIRST}").json()["state"] == "removed"
    file = standing.folder / "stoker.yaml"
    file.write_text(file.read_text() + "\n# read anew\n")
    admin.post("/v1/admin/deployments/reload").raise_for_status()
    until(everywhere(admin, MODEL, 404), "no worker has it")
    shown = admin.patch(f"/v1/admin/deployments/{FIRST}", json={"state": "active"})
    assert shown.json()["state"] == "active"
    until(everywhere(admin, MODEL, 200), "both have it again")


def test_a_draining_one_refuses_new_requests_and_says_why(admin: httpx.Client) -> None:
    shown = admin.patch(f"/v1/admin/deployments/{FIRST}", json={"state": "draining"})
    assert shown.json()["state"] == "draining"
    until(everywhere(admin, MODEL, 503), "no worker gives it calls")
    refused = ask(admin, MODEL)
    assert "drained" in refused.json()["error"]["message"]
    until(lambda: admin.get(f"/v1/admin/deployments/{FIRST}").json()["state"] == "drained", "it says so")
    admin.patch(f"/v1/admin/deployments/{FIRST}", json={"state": "active"}).raise_for_status()
    until(everywhere(admin, MODEL, 200), "both give it calls again")


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"api_key": "sk-1234567890"}, "api_key"),
        ({"api_key": "os.environ/SECOND_API_KEY"}, "STOKER_DEPLOYMENT_SECRETS"),
        ({"api_key": "os.environ/DATABASE_URL"}, "STOKER_DEPLOYMENT_SECRETS"),
        ({"api_base": "http://me:word@127.0.0.1:80/v1"}, "no user"),
        ({"api_base": "http://127.0.0.1:80/v1?key=1"}, "no query"),
        ({"api_base": "http://host:port/v1"}, "http://host:8000/v1"),
        ({"api_base": "http://"}, "http://host:8000/v1"),
        ({"api_base": "http://[::1"}, "http://host:8000/v1"),
        ({"api_base": "http://h:99999/v1"}, "http://host:8000/v1"),
        ({"api_base": "os.environ/FIRST_API_KEY"}, "api_base"),
        ({"extra_headers": {"authorization": "Bearer x"}}, "extra_headers"),
        ({"api_base": "127.0.0.1:80"}, "http://host:8000/v1"),
        ({"rpm": 5}, "rpm"),
    ],
)
def test_what_cannot_be_used_or_tells_a_secret_is_refused_whole(
    admin: httpx.Client, parameters: dict[str, Any], word: str
) -> None:
    refused = admin.post("/v1/admin/deployments", json=entry(free_port(), **parameters))
    assert refused.status_code == 400, refused.text
    error = refused.json()["error"]
    assert word in error["message"] + str(error["param"])
    assert "sk-planted" not in refused.text
    assert "sk-1234567890" not in refused.text
    assert [shown["id"] for shown in admin.get("/v1/admin/deployments").json()["data"]] == [FIRST]


def test_a_secret_is_kept_by_its_name_alone(admin: httpx.Client, standing: Gateway) -> None:
    admin.post("/v1/admin/deployments", json=entry(free_port(), api_key="os.environ/FIRST_API_KEY")).raise_for_status()
    audit = admin.get("/v1/admin/audit", params={"tenant": "*"}).json()
    assert audit["data"][0]["action"] == "deployment.add"
    assert "sk-planted" not in admin.get("/v1/admin/deployments").text + str(audit) + standing.log
    assert b"sk-planted" not in (standing.folder / "stoker.db").read_bytes()
    admin.delete("/v1/admin/deployments/second-1").raise_for_status()


def test_a_broken_file_changes_nothing_and_says_where_it_is_broken(admin: httpx.Client, standing: Gateway) -> None:
    file = standing.folder / "stoker.yaml"
    text = file.read_text()
    file.write_text(text + "router_settings:\n  num_retries: many\n")
    line = len(text.splitlines()) + 2
    refused = admin.post("/v1/admin/deployments/reload")
    assert refused.status_code == 400
    assert f"stoker.yaml:{line}" in refused.json()["error"]["message"]
    assert ask(admin, MODEL).status_code == 200
    assert f"stoker.yaml:{line}" in admin.get("/v1/admin/deployments").json()["configuration"]["error"]
    drained = admin.patch(f"/v1/admin/deployments/{FIRST}", json={"state": "draining"})
    assert drained.json()["state"] == "draining", "what administrators say goes on by the last good file"
    admin.patch(f"/v1/admin/deployments/{FIRST}", json={"state": "active"}).raise_for_status()
    file.write_text(text)
    admin.post("/v1/admin/deployments/reload").raise_for_status()
    assert admin.get("/v1/admin/deployments").json()["configuration"]["error"] is None
    until(everywhere(admin, MODEL, 200), "both workers answer")


def test_nobody_but_an_admin_may_look(admin: httpx.Client) -> None:
    made = admin.post("/v1/admin/keys", json={"name": "m", "role": "manager"}).raise_for_status().json()
    headers = {"authorization": f"Bearer {made['key']}"}
    assert admin.get("/v1/admin/deployments", headers=headers).status_code == 403
    assert admin.get("/v1/admin/deployments/none").status_code == 404
