"""Roles and scopes, as rules."""

import pytest

from api.errors import NotAllowed, ScopeNotAllowed
from api.roles import ROUTES, SCOPES, require
from core.principal import Principal, Role


def caller(role: Role, *scopes: str) -> Principal:
    return Principal("t", "k", role, scopes=frozenset(scopes) if scopes else None)


def test_the_refusal_names_the_roles_that_would_do() -> None:
    with pytest.raises(NotAllowed, match="role admin or manager; yours has the role reader"):
        require(caller(Role.READER), "GET", "/v1/admin/keys")


def test_no_scope_gives_more_than_the_role() -> None:
    with pytest.raises(NotAllowed) as caught:
        require(caller(Role.READER, *SCOPES), "POST", "/v1/chat/completions")
    assert type(caught.value) is NotAllowed


def test_a_scope_is_asked_for_by_its_word() -> None:
    require(caller(Role.MEMBER, "collections"), "DELETE", "/v1/collections/{name}")
    require(caller(Role.MEMBER, "collections:read"), "GET", "/v1/collections/{name}")
    for scopes in (("collections:read",), ("collections:writer",), ("collection",), ("chat",)):
        with pytest.raises(ScopeNotAllowed, match="collections:write"):
            require(caller(Role.MEMBER, *scopes), "DELETE", "/v1/collections/{name}")


def test_an_empty_list_of_scopes_reaches_nothing() -> None:
    nobody = Principal("t", "k", Role.ADMIN, scopes=frozenset())
    for (method, template), rule in ROUTES.items():
        if rule is not None and rule.scope is not None:
            with pytest.raises(ScopeNotAllowed):
                require(nobody, method, template)


def test_a_route_outside_of_the_table_answers_nobody() -> None:
    with pytest.raises(LookupError):
        require(caller(Role.ADMIN), "GET", "/v1/secret")
