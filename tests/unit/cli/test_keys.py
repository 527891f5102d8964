"""`./stoker keys`: what is sent for which flags."""

import json
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from cli import keys
from cli.client import Client

MADE = {"id": "key_1", "role": "member", "key": "sk-stoker-x", "name": "n"}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    """Method, path with query, and body of every request."""
    found: list[tuple[str, str, Any]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        found.append((request.method, request.url.raw_path.decode(), json.loads(request.content or b"null")))
        return httpx.Response(200, json=MADE if request.method != "GET" else {"data": [], "has_more": False})

    def client(_: object) -> Client:
        return Client("http://stoker.test", "k", httpx.MockTransport(handle))

    monkeypatch.setattr(keys, "open_client", client)
    return found


def run(*words: str) -> None:
    result = CliRunner().invoke(keys.app, list(words))
    assert result.exit_code == 0, result.output


def test_a_plain_key_sends_its_name_alone(sent: list[Any]) -> None:
    run("create", "laptop")
    assert sent == [("POST", "/v1/admin/keys", {"name": "laptop"})]


def test_every_flag_is_sent_and_money_stays_text(sent: list[Any]) -> None:
    run(
        "create", "app", "--role", "reader", "--tenant", "acme", "--rpm", "5", "--tpm", "6", "--parallel", "7",
        "--usd-per-day", "0.000000001", "--usd-per-month", "123456789.123456789", "--local-only",
        "--scope", "chat", "--scope", "models", "--expires-in", "30d",
    )  # fmt: skip
    limits = {
        "rpm": 5,
        "tpm": 6,
        "parallel": 7,
        "usd_per_day": "0.000000001",
        "usd_per_month": "123456789.123456789",
    }
    assert sent[0][2] == {
        "name": "app",
        "role": "reader",
        "tenant": "acme",
        "limits": limits,
        "local_only": True,
        "scopes": ["chat", "models"],
        "expires_in_s": 30 * 86_400,
    }


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_a_new_key_is_all_that_a_shell_catches(sent: list[Any], command: str) -> None:
    """`KEY=$(./stoker keys create NAME)` caught a second line, which made it no key."""
    result = CliRunner().invoke(keys.app, [command, "laptop"])
    assert result.stdout == "sk-stoker-x\n"
    assert "id key_1, role member; the key is shown this once" in result.stderr


@pytest.mark.parametrize(("flags", "overlap_s"), [((), 0), (("--overlap", "12h"), 43_200), (("--overlap", "90"), 90)])
def test_rotate_sends_the_overlap(sent: list[Any], flags: tuple[str, ...], overlap_s: int) -> None:
    run("rotate", "key_1", *flags)
    assert sent == [("POST", "/v1/admin/keys/key_1/rotate", {"overlap_s": overlap_s})]


def test_list_asks_for_a_tenant(sent: list[Any]) -> None:
    run("list", "--tenant", "acme")
    assert sent[0][1] == "/v1/admin/keys?tenant=acme&limit=100"


@pytest.mark.parametrize("text", ["", "x", "1y", "-1", "1.5h", "10000000000"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        keys.seconds(text)
