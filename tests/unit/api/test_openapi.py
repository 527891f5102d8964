"""What /openapi.json says of errors and of who may call."""

from typing import Any

import jsonschema
import pytest

from api.anthropic import envelope as in_anthropics_form
from api.app import create_app
from api.errors import RequestInvalid, describe
from api.roles import ROUTES
from api.settings import ApiSettings


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return dict(create_app(ApiSettings()).openapi())


def operations(description: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, one) for path, methods in description["paths"].items() for method, one in methods.items()]


def test_every_operation_says_its_refusals_in_the_form_that_they_have(description: dict[str, Any]) -> None:
    for method, path, one in operations(description):
        anthropic = "Anthropic" if path == "/v1/messages" else ""
        assert one["responses"]["4XX"] == {"$ref": f"#/components/responses/{anthropic}Refused"}, (method, path)
        assert one["responses"]["5XX"] == {"$ref": f"#/components/responses/{anthropic}Failed"}, (method, path)
        assert "422" not in one["responses"], "malformed requests are answered by 400"
    assert "HTTPValidationError" not in description["components"]["schemas"]
    said = description["components"]["responses"]["Refused"]["content"]["application/json"]["schema"]
    _, error, _ = describe(RequestInvalid("no", "field"))
    _hold(description, said, error)
    with pytest.raises(jsonschema.ValidationError):
        _hold(description, said, {"detail": []})
    said = description["components"]["responses"]["AnthropicRefused"]["content"]["application/json"]["schema"]
    _hold(description, said, in_anthropics_form(400, error["error"], "req_1"))


def test_every_operation_says_who_may_call_it(description: dict[str, Any]) -> None:
    public = {(method.lower(), path.replace(":path", "")) for (method, path), rule in ROUTES.items() if rule is None}
    for method, path, one in operations(description):
        if (method, path) in public:
            assert one["security"] == [], (method, path)
        else:
            assert "security" not in one, (method, path)
    ways = {name for way in description["security"] for name in way}
    assert ways == set(description["components"]["securitySchemes"])


def test_what_is_made_is_linked_to_what_takes_it(description: dict[str, Any]) -> None:
    there = {one["operationId"] for _, _, one in operations(description) if "operationId" in one}
    linked = {
        (name, *link["parameters"].items())
        for _, _, one in operations(description)
        for response in one["responses"].values()
        for name, link in response.get("links", {}).items()
    }
    assert {name for name, *_ in linked} <= there
    told = {parameter for _, parameter in linked}
    needed = {("name", "name"), ("job_id", "job_id"), ("key_id", "id"), ("store_id", "id")}
    assert {(name, f"$response.body#/{pointer}") for name, pointer in needed} <= told
    assert len(linked) > 60


def test_a_session_is_opened_without_a_body(description: dict[str, Any]) -> None:
    body = description["paths"]["/v1/session"]["post"]["requestBody"]
    assert not body.get("required")
    assert body["content"]["application/json"]["schema"]["required"] == []


def _hold(description: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    jsonschema.validate(value, {**schema, "components": description["components"]})
