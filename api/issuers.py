"""Whose tokens are accepted, and what their claims mean here: the form of `STOKER_JWT_ISSUERS`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from core.principal import Role
from core.secretfile import secret

Algorithm = Literal["HS256", "RS256", "ES256"]
_ENVIRONMENT = "os.environ/"


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def from_environment(value: object) -> object:
    """The variable that `os.environ/NAME` names, or the value itself. Raises: ValueError: there is none."""
    if isinstance(value, str) and value.startswith(_ENVIRONMENT):
        name = value.removeprefix(_ENVIRONMENT)
        found = secret(name)
        if found is None:
            raise ValueError(f"the environment has no variable {name}")
        return found
    return value


class Issuer(BaseModel):
    """One issuer of tokens. A claim is named by its name, or by a path such as `realm_access.roles`.

    Attributes:
        issuer: the claim `iss`, letter for letter.
        audience: the claim `aud` must hold one of these.
        algorithms: no other is accepted, whatever a token says of itself.
        secret: for HS256 alone: at least 32 bytes, or `os.environ/NAME`.
        jwks_url: for RS256 and ES256 alone: where the public keys are.
        tenant: id or name of the tenant of all its users; or:
        tenant_claim: the claim that names the tenant.
        tenants: from the claim's values to tenants' ids or names, and no others; unset: the value is one itself.
        user_claim, name_claim: who the user is for ever, and how it is shown.
        groups_claim: a list of groups; unset: those that the administrator wrote.
        role_claim: a text or a list; unset: the role that the administrator wrote.
        roles: from the claim's values to roles; the highest found is taken.
        default_role: of a user who is new, or whose claim maps to no role.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(min_length=1, max_length=300, pattern=r"^[^|]+$")
    audience: Annotated[list[str], BeforeValidator(_as_list)] = Field(min_length=1)
    algorithms: Annotated[list[Algorithm], BeforeValidator(_as_list)] = Field(min_length=1)
    secret: Annotated[SecretStr | None, BeforeValidator(from_environment)] = None
    jwks_url: str | None = Field(None, pattern=r"^https?://")
    tenant: str | None = None
    tenant_claim: str | None = None
    tenants: dict[str, str] | None = None
    user_claim: str = "sub"
    name_claim: str = "name"
    groups_claim: str | None = None
    role_claim: str | None = None
    roles: dict[str, Role] = Field(default_factory=dict)
    default_role: Role = Role.MEMBER

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tenant is None) == (self.tenant_claim is None):
            raise ValueError("name either tenant or tenant_claim")
        if self.algorithms == ["HS256"]:
            if self.secret is None or self.jwks_url is not None:
                raise ValueError("HS256 needs a secret and no jwks_url")
            if len(self.secret.get_secret_value().encode()) < 32:
                raise ValueError("a secret for HS256 has at least 32 bytes")
        elif "HS256" in self.algorithms:
            raise ValueError("HS256 and a public key do not go together: whoever reads the public key could sign")
        elif self.jwks_url is None or self.secret is not None:
            raise ValueError("RS256 and ES256 need a jwks_url and no secret")
        return self


def claim(claims: dict[str, Any], name: str) -> Any:
    """The claim of this name, or at this path; None where there is none."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
