"""What `./stoker status` says of deployments."""

import pytest

from cli.status import _state_of


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"state": "closed", "ejected": None, "draining": False}, "closed"),
        ({"state": "open", "ejected": None, "draining": False}, "open"),
        ({"state": "closed", "ejected": "away", "draining": False}, "[red]ejected: away[/]"),
        ({"state": "closed", "ejected": "wedged", "draining": True}, "draining"),
    ],
)
def test_a_deployment_that_gets_no_calls_is_not_said_to_be_closed(said: dict[str, object], shown: str) -> None:
    assert _state_of(said) == shown
