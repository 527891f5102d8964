"""`./stoker keys`: what is sent for which flags."""

import json
import time
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from cli import keys
from cli.client import Client
from cli.errors import CliError

NOW = time.time()
KEPT: list[dict[str, Any]] = [
    {
        "id": "key_9",
        "name": "laptop",
        "revoked_at": None,
        "expires_at": None,
        "limits": {"rpm": 60, "tpm": None, "strict": False},
    },
    {"id": "key_8", "name": "laptop", "revoked_at": 5, "expires_at": None, "limits": None},
    {"id": "key_7", "name": "laptop", "revoked_at": None, "expires_at": int(NOW) - 5, "limits": None},
    {"id": "key_6", "name": "laptop 2", "revoked_at": None, "expires_at": int(NOW) + 900, "limits": None},
    {"id": "key_5", "name": "twin", "revoked_at": None, "expires_at": None, "limits": None},
    {
        "id": "key_4",
        "name": "twin",
        "revoked_at": None,
        "expires_at": None,
        "limits": {"usd_per_month": "12.50", "strict": True},
    },
]
MADE = {"id": "key_1", "role": "member", "key": "sk-stoker-x", "name": "n"}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    """Method, path with query, and body of every request."""
    found: list[tuple[str, str, Any]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        found.append((request.method, request.url.raw_path.decode(), json.loads(request.content or b"null")))
        kept = [{**one, "prefix": "sk", "role": "member", "created_at": 1} for one in KEPT]
        named = [one for one in kept if request.url.params.get("name", "") in one["name"]]
        return httpx.Response(200, json=MADE if request.method != "GET" else {"data": named, "has_more": False})

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


def test_a_key_is_ended_and_replaced_by_its_name_where_one_standing_key_has_it(sent: list[Any]) -> None:
    result = CliRunner().invoke(keys.app, ["revoke", "laptop"])
    assert (result.exit_code, result.stdout) == (0, "revoked laptop (key_9)\n")
    run("rotate", "laptop 2")
    run("revoke", "key_5")
    assert [path for method, path, _ in sent if method != "GET"] == [
        "/v1/admin/keys/key_9",
        "/v1/admin/keys/key_6/rotate",
        "/v1/admin/keys/key_5",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("twin", "2 standing keys are called twin: key_5, key_4"),
        ("lap", "no standing key is called lap"),
        ("../x", "no standing key is called ../x"),
    ],
)
@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_a_name_that_is_not_one_keys_leads_to_the_ids(sent: list[Any], name: str, said: str, command: str) -> None:
    failure = CliRunner().invoke(keys.app, [command, name]).exception
    assert isinstance(failure, CliError)
    assert (failure.message, failure.remedy) == (said, "give the id, from `./stoker keys list`")
    assert [method for method, *_ in sent] == ["GET"]


def test_the_list_shows_limits(sent: list[Any]) -> None:
    lines = CliRunner().invoke(keys.app, ["list"]).stdout.splitlines()
    assert "60 rpm " in lines[1]
    assert "None" not in lines[1] + lines[2]
    assert "strict" not in lines[1]
    assert "12.50 usd_per_month, strict" in lines[6]


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_a_new_key_is_all_that_a_shell_catches(sent: list[Any], command: str) -> None:
    """`KEY=$(./stoker keys create NAME)` caught a second line, which made it no key."""
    result = CliRunner().invoke(keys.app, [command, "laptop 2"])
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
