"""Issuers: a setting that would let strangers in is refused at the start."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from api.issuers import Issuer, claim
from api.settings import ApiSettings

GOOD: dict[str, Any] = {
    "issuer": "https://id.example",
    "audience": "stoker",
    "algorithms": ["RS256"],
    "jwks_url": "https://id.example/jwks",
    "tenant": "default",
}
SECRET = "x" * 32


def test_a_good_issuer_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_JWT_ISSUERS", json.dumps([GOOD]))
    [issuer] = ApiSettings().jwt_issuers
    assert (issuer.audience, issuer.algorithms) == (["stoker"], ["RS256"])


def test_a_secret_may_stand_in_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", SECRET)
    changes = {"algorithms": "HS256", "jwks_url": None, "secret": "os.environ/THE_SECRET"}
    issuer = Issuer.model_validate(GOOD | changes)
    assert issuer.secret is not None
    assert issuer.secret.get_secret_value() == SECRET
    assert SECRET not in repr(issuer)


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithms": ["none"]},
        {"algorithms": ["HS512"]},
        {"algorithms": []},
        {"algorithms": ["RS256", "HS256"]},
        {"algorithms": ["RS256", "HS256"], "secret": SECRET},
        {"algorithms": ["HS256"]},
        {"algorithms": ["HS256"], "secret": SECRET},
        {"algorithms": ["HS256"], "secret": "short", "jwks_url": None},
        {"algorithms": ["HS256"], "secret": "os.environ/NOT_THERE_AT_ALL", "jwks_url": None},
        {"secret": SECRET},
        {"jwks_url": None},
        {"jwks_url": "file:///etc/passwd"},
        {"audience": []},
        {"issuer": ""},
        {"issuer": "a|b"},
        {"tenant": None},
        {"tenant_claim": "org"},
        {"default_role": "emperor"},
        {"audiance": "stoker"},
    ],
    ids=str,
)
def test_a_bad_issuer_is_refused(changes: dict[str, Any]) -> None:
    assert Issuer.model_validate(GOOD)
    with pytest.raises(ValidationError):
        Issuer.model_validate(GOOD | changes)


def test_a_claim_is_found_by_its_name_before_its_path() -> None:
    claims = {"a.b": 1, "a": {"b": 2, "c": {"d": 3}}}
    assert claim(claims, "a.b") == 1
    assert claim(claims, "a.c.d") == 3
    assert claim(claims, "a.x.y") is None
    assert claim(claims, "a.b.c") is None
