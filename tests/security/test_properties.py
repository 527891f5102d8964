"""No body sets what its route does not take: every model of a request refuses fields that it does not know."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from api.app import create_app
from api.settings import ApiSettings
from router.litellm_form import ModelEntry
from tests.support.gate import Gate

# Kept as they are, by intention: LiteLLM's own form, whose unknown keys are told of (`router/config.py`).
LENIENT = {"ModelEntry", "LitellmParams", "LitellmModelInfo"}
# What rows hold and no caller writes.
HELD = "id tenant_id owner creator sha256 prefix generation created_at changed_at revoked_at disabled_at version"


def models() -> dict[str, type[BaseModel]]:
    """Every model that a body is read into, and those within it, by name."""
    found: dict[str, type[BaseModel]] = {}
    for context in iter_route_contexts(create_app(ApiSettings()).routes):
        route = getattr(context, "route", context)
        field = getattr(route, "body_field", None) if isinstance(route, APIRoute) else None
        if field is not None:
            for one in _within(field.field_info.annotation):
                found[one.__name__] = one
    return found


def _within(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _within(field.annotation)
    for one in get_args(annotation):
        yield from _within(one)


def test_every_model_of_a_request_refuses_what_it_does_not_know() -> None:
    found = models()
    assert len(found) > 30
    assert {name for name, one in found.items() if one.model_config.get("extra") != "forbid"} == LENIENT
    assert ModelEntry.__name__ in found


def test_no_model_of_a_request_takes_what_a_row_alone_holds() -> None:
    named = {(name, field) for name, one in models().items() for field in one.model_fields if field in HELD.split()}
    assert named == {("LitellmModelInfo", "id"), ("EvalQuery", "id")}  # names that callers give to what is theirs


@pytest.mark.parametrize("extra", ["tenant_id", "id", "owner", "is_admin", "__class__", "generation"])
async def test_a_field_too_many_is_refused_and_changes_nothing(worker: Gate, extra: str) -> None:
    manager = (await worker.key("manager"))["key"]
    user = await worker.made("/v1/admin/users", name="ann")
    key = await worker.key("member", user=user["id"])
    before = [(await worker.call("GET", f"/v1/admin/{what}")).json() for what in ("keys", "users", "teams", "tenants")]
    for method, path, body in (
        ("POST", "/v1/admin/keys", {"name": "x"}),
        ("PATCH", f"/v1/admin/keys/{key['id']}", {"name": "x"}),
        ("POST", "/v1/admin/users", {"name": "x"}),
        ("PATCH", f"/v1/admin/users/{user['id']}", {"name": "x"}),
        ("POST", "/v1/admin/teams", {"name": "x"}),
        ("PUT", f"/v1/admin/limits/key/{key['id']}", {"rpm": 5}),
        ("POST", "/v1/conversations", {"title": "x"}),
        ("POST", "/v1/session", {"key": "sk-stoker-x"}),
    ):
        sent = {**body, extra: "tenant_other"}
        shown = {} if path == "/v1/session" else {"x-api-key": manager}
        answer = await worker.client.request(method, path, json=sent, headers=shown)
        assert answer.status_code == 400, (method, path, answer.text)
    after = [(await worker.call("GET", f"/v1/admin/{what}")).json() for what in ("keys", "users", "teams", "tenants")]
    assert after == before
