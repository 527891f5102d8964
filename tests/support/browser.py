"""Somebody who signs in to the console."""

from typing import Any

import httpx

from tests.support.gate import Gate

CHAT = "/v1/chat/completions"


class Browser:
    """Keeps cookies, and sends the token that the console's page learnt."""

    def __init__(self, gate: Gate, base_url: str = "http://gate") -> None:
        self.client = httpx.AsyncClient(transport=gate.client._transport, base_url=base_url)
        self.csrf = ""

    async def sign_in(self, key: str, **how: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/session", **(how or {"json": {"key": key}}))
        assert answer.status_code == 201, answer.text
        self.csrf = answer.json()["csrf_token"]
        return dict(answer.json())

    @property
    def cookie(self) -> str | None:
        return self.client.cookies.get("stoker_session")

    async def call(self, method: str, path: str, *, csrf: bool = True, **how: Any) -> httpx.Response:
        headers = {"x-csrf-token": self.csrf} if csrf and method not in ("GET", "HEAD") else {}
        return await self.client.request(method, path, headers={**headers, **how.pop("headers", {})}, **how)

    async def status(self) -> int:
        return (await self.call("GET", "/v1/models")).status_code


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of what must be an error."""
    assert answer.is_error, answer.status_code
    return answer.status_code, answer.json()["error"]["code"]
