"""What nobody expected is an answer all the same."""

import httpx
import pytest

from api.app import create_app
from api.settings import ApiSettings


@pytest.mark.parametrize(("origin", "readable"), [("https://allowed.example", True), ("https://other.example", False)])
async def test_an_unexpected_error_is_a_500_with_an_id_that_an_allowed_page_may_read(
    origin: str, readable: bool
) -> None:
    app = create_app(ApiSettings(cors_origins=["https://allowed.example"]))

    async def broken() -> None:
        raise KeyError("the secret of a row")

    app.add_api_route("/broken", broken)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stoker") as client:
        answer = await client.get("/broken", headers={"origin": origin})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"].startswith("req_")
    assert ("access-control-allow-origin" in answer.headers) is readable
