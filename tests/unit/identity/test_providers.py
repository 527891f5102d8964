"""Identity providers and the public address: a setting that cannot work is refused at the start, without its secret."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from api.login.oidc import is_local_path
from api.login.provider import origin_of
from api.settings import ApiSettings

ISSUER: dict[str, Any] = {
    "issuer": "https://id.example",
    "audience": "stoker",
    "algorithms": ["RS256"],
    "jwks_url": "https://id.example/jwks",
    "tenant": "default",
}
SECRET = "hunter2 and more"
GOOD: dict[str, Any] = {"name": "corp", "issuer": "https://id.example", "client_id": "c", "client_secret": SECRET}


def settings(*providers: dict[str, Any], public_url: str | None = "https://stoker.example") -> ApiSettings:
    """Settings as the environment gives them."""
    found: dict[str, Any] = {"jwt_issuers": json.dumps([ISSUER]), "oidc_providers": json.dumps(providers)}
    return ApiSettings(public_url=public_url, **found)


def test_a_good_provider_is_read_and_its_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", SECRET)
    for text in (SECRET, "os.environ/THE_SECRET"):
        read = settings(GOOD | {"client_secret": text})
        [provider] = read.oidc_providers
        assert provider.client_secret is not None
        assert provider.client_secret.get_secret_value() == SECRET
        assert SECRET not in repr(read)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a/b"},
        {"name": "Corp"},
        {"name": ""},
        {"issuer": "https://id.example/"},
        {"client_id": ""},
        {"client_secret": "os.environ/NOT_THERE_AT_ALL"},
        {"scopes": ["profile"]},
        {"scopes": ["openid", "a b"]},
        {"authorization_endpoint": "https://id.example/authorize"},
        {"authorization_endpoint": "javascript:x", "token_endpoint": "https://id.example/token"},
        {"clientid": "c"},
    ],
    ids=str,
)
def test_a_bad_provider_is_refused_and_its_secret_is_not_shown(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(GOOD | changes)
    assert SECRET not in str(refused.value)


def test_providers_need_names_of_their_own_and_a_public_address() -> None:
    with pytest.raises(ValidationError, match="one name"):
        settings(GOOD, GOOD)
    with pytest.raises(ValidationError, match="STOKER_PUBLIC_URL"):
        settings(GOOD, public_url=None)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://stoker.example", "https://stoker.example"),
        ("HTTPS://Stoker.Example:443/", "https://stoker.example"),
        ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_the_public_address_is_written_as_browsers_write_an_origin(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["stoker.example", "ftp://x", "https://", "https://x/path", "https://x?y", "https://u:p@x", "https://x:y"]
)
def test_an_address_that_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        origin_of(url)


@pytest.mark.parametrize("path", ["/", "/a", "/a?b=//c", "/a//b", "/%2Fevil"])
def test_a_path_of_this_gateway_is_local(path: str) -> None:
    assert is_local_path(path)


@pytest.mark.parametrize("path", ["", "a", "//a", "/\\a", "/a\\b", "/\ta", "/a\n", "/a b", "https:/a", "/ß", "/\x7f"])
def test_whatever_a_browser_may_read_as_another_site_is_not(path: str) -> None:
    assert not is_local_path(path)
