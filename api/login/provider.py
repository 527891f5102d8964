"""Identity providers that the console's users sign in at: the form of `STOKER_OIDC_PROVIDERS`."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from api.issuers import from_environment

_DEFAULT_PORTS = {"http": 80, "https": 443}
_Url = Annotated[str, Field(pattern=r"^https?://[^/?#\s]+[^#\s]*$")]


class Provider(BaseModel):
    """One OpenID provider.

    Attributes:
        name: as it stands in addresses.
        issuer: the one of `STOKER_JWT_ISSUERS` whose ID tokens it gives; that one says what their claims mean here.
        client_secret: or `os.environ/NAME`; unset: a public client, which PKCE alone protects.
        scopes: asked for; `openid` among them.
        authorization_endpoint, token_endpoint: unset: read from ISSUER/.well-known/openid-configuration.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    issuer: str
    client_id: str = Field(min_length=1, max_length=300)
    client_secret: Annotated[SecretStr | None, BeforeValidator(from_environment)] = None
    scopes: list[Annotated[str, Field(pattern=r"^[!#-\[\]-~]+$")]] = Field(
        default_factory=lambda: ["openid", "profile", "email"]
    )
    authorization_endpoint: _Url | None = None
    token_endpoint: _Url | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "openid" not in self.scopes:
            raise ValueError("scopes must hold openid, or no ID token comes")
        if (self.authorization_endpoint is None) != (self.token_endpoint is None):
            raise ValueError("name both authorization_endpoint and token_endpoint, or neither")
        if self.authorization_endpoint is None and not self.issuer.startswith(("https://", "http://")):
            raise ValueError("an issuer that is no address needs authorization_endpoint and token_endpoint")
        return self


def origin_of(url: str) -> str:
    """An address without a path, as browsers write it in `Origin`.

    Raises: ValueError: it is none.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("write it as https://HOST or https://HOST:PORT")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("write it as https://HOST or https://HOST:PORT, and nothing more")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
