"""What `./stoker status` says of deployments."""

import httpx
import pytest

from cli import status
from cli.client import Client
from cli.settings import CliSettings
from cli.status import _print_gateway, _state_of


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"state": "closed", "ejected": None, "draining": False}, "ok"),
        ({"state": "open", "ejected": None, "draining": False}, "[red]resting[/]"),
        ({"state": "half_open", "ejected": None, "draining": False}, "[red]on trial[/]"),
        ({"state": "closed", "ejected": "away", "draining": False}, "[red]away[/]"),
        ({"state": "closed", "ejected": "asleep", "draining": False}, "[red]asleep[/]"),
        ({"state": "closed", "ejected": "wedged", "draining": True}, "draining"),
    ],
)
def test_a_deployment_is_ok_or_says_what_keeps_calls_from_it(said: dict[str, object], shown: str) -> None:
    """A breaker that is "closed" reads as if the deployment were switched off."""
    assert _state_of(said) == shown


@pytest.mark.parametrize(("processes", "name"), [(("valkey", "gateway"), "valkey"), (("gateway",), "redis")])
def test_a_part_has_one_name(capsys: pytest.CaptureFixture[str], processes: tuple[str, ...], name: str) -> None:
    _print_gateway({"parts": {"sql": "ok", "redis": "redis did not answer within 1 s"}, "deployments": []}, processes)
    assert f"  {name}: {name} did not answer within 1 s\n" in capsys.readouterr().out


def test_a_key_that_may_not_look_learns_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> Client:
        return Client("http://stoker.test", "k", httpx.MockTransport(lambda _: httpx.Response(403, text="no")))

    monkeypatch.setattr(status, "open_client", refuse)
    told, problem = status._ask_gateway(CliSettings())
    assert told is None
    assert problem.splitlines()[1:] == ["  what to do: use a key with the role that this needs, such as the admin key"]


def test_words_of_the_routers_making_are_left_to_json(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"name": "x-local", "model_group": "x", "lane": "native", "state": "closed", "ejected": None}
    _print_gateway({"parts": {}, "deployments": [{**one, "draining": False}]}, ())
    assert capsys.readouterr().out.split() == ["deployment", "model", "state", "x-local", "x", "ok"]
