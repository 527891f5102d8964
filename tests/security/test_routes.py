"""Every route, with another tenant's ids wherever it takes one: in its path, its query and its body.

The routes are the application's own; what each of them names stands in `rules.py`. Which role reaches which route:
`tests/integration/identity/test_roles.py`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.roles import ROUTES
from api.settings import ApiSettings
from tests.integration.identity.test_roles import routes_of_the_application
from tests.security.furnished import Furnished
from tests.security.parts import caller
from tests.security.rules import KINDS, NAMELESS, NAMING, PARTLY, PERSONAL, QUERIES, SENT, named_in, query_is_ruled
from tests.support.gateway import Gateway

pytestmark = pytest.mark.slow
_PARAMETER = re.compile(r"\{([^}]*)\}")
HOUSE = {"/v1/admin/tenants/{tenant_id}": {"PATCH", "DELETE"}}  # managers are told 403 before anybody looks
# Of a thing that is there, a route may say that a part of it is not; with other codes the owner would be refused, too.
_PARTS = {"reindex_not_found", "part_unavailable", "no_such_version", "document_not_found"}


def described() -> dict[str, Any]:
    schema: dict[str, Any] = create_app(ApiSettings()).openapi()
    return schema


def _template_of(path: str) -> str:
    """The table's template of a path in /openapi.json, which leaves `:path` out."""
    return next(template for _, template in ROUTES if template.replace(":path", "") == path)


def test_every_route_stands_in_a_rule() -> None:
    unruled = {template for _, template in routes_of_the_application() if named_in(template) is None}
    assert unruled == set(), "say in tests/security/rules.py what these routes name"


def test_every_route_that_takes_a_body_stands_in_a_rule() -> None:
    known = {*SENT, *NAMING, *NAMELESS}
    bodied = {
        (method.upper(), _template_of(path))
        for path, methods in described()["paths"].items()
        for method, said in methods.items()
        if "requestBody" in said
    }
    assert bodied - known == set(), "say in tests/security/rules.py what these bodies name"
    assert known - bodied == set(), "there are no such routes any more"


def test_every_query_parameter_stands_in_a_rule() -> None:
    unruled = {
        (method.upper(), path, one["name"])
        for path, methods in described()["paths"].items()
        for method, said in methods.items()
        for one in said.get("parameters", ())
        if one["in"] == "query" and not query_is_ruled(method.upper(), _template_of(path), one["name"])
    }
    assert unruled == set(), "say in tests/security/rules.py what these parameters name"


def paths_of(template: str, ids: Mapping[str, str]) -> Iterator[str]:
    """The paths that a template makes with these ids."""
    rule = named_in(template) or {}
    if "kind" in rule:
        for kind in KINDS:
            yield template.replace("{kind}", kind).replace("{subject_id:path}", ids[kind])
        return
    yield _PARAMETER.sub(lambda found: ids[rule[found.group(1)]], template)


def nobodys(ids: Mapping[str, str]) -> dict[str, str]:
    """Ids and names of the same form that nothing has."""
    return {kind: id_ if kind == "kind" else _other(id_) for kind, id_ in ids.items()}


def _other(id_: str) -> str:
    """A text of the same form: its letters and figures behind the first sign moved by one, the prefix as it is."""
    prefix, _, rest = id_.rpartition("_")
    moved = "".join(chr(ord(sign) ^ 1) if sign in "0123456789" else sign for sign in rest)
    return f"{prefix}_{moved}" if prefix else f"no-{rest}"


def tried(
    client: httpx.Client, method: str, template: str, ids: Mapping[str, str]
) -> Iterator[tuple[str, httpx.Response]]:
    """Call the route with these ids. Gives: path, answer."""
    body = SENT.get((method, template))
    for path in paths_of(template, ids):
        yield path, client.request(method, path, json=None if body is None else body(ids))


def stripped(answer: httpx.Response, ids: Mapping[str, str]) -> tuple[int, str]:
    """Status and body without the ids that were asked for, and without the request's own."""
    text = answer.text
    for id_ in sorted(ids.values(), key=len, reverse=True):
        text = text.replace(id_, "ID")
    return answer.status_code, text.replace(answer.headers.get("x-request-id", "ID"), "ID")


def leaks(answer: httpx.Response, other: httpx.Response, theirs: Furnished, refusals: tuple[int, ...]) -> str:
    """What is wrong with a refusal, beside that of what there is not; empty: nothing."""
    if answer.status_code not in refusals:
        return f"{answer.status_code}: {answer.text[:300]}"
    if theirs.mark in answer.text:
        return f"it shows what is theirs: {answer.text[:300]}"
    told = stripped(answer, theirs.ids), stripped(other, nobodys(theirs.ids))
    return "" if told[0] == told[1] else f"it tells whether there is such a thing: {told}"


NAMED = [(method, template) for method, template in ROUTES if named_in(template)]


def test_no_list_shows_anything_of_another_tenant(gateway: Gateway, ours: Furnished, theirs: Furnished) -> None:
    shown = 0
    with caller(gateway, ours.manager) as boss, caller(gateway, ours.member) as member:
        for method, template in ROUTES:
            if method != "GET" or "{" in template or template == "/v1/query/ws":
                continue
            for client in (boss, member):
                answer = client.get(template)
                assert theirs.mark not in answer.text, template
                shows = [kind for kind in ("key", "user", "document", "file") if theirs.ids[kind] in answer.text]
                assert not shows, (template, shows)
                shown += ours.mark in answer.text
    assert shown > 8, "the lists show what is the caller's own, so they would show what is another's"


def test_with_another_tenants_ids_in_its_path_no_route_tells_or_changes_anything(
    gateway: Gateway, ours: Furnished, theirs: Furnished, figure: Callable[[str], None]
) -> None:
    before, calls, wrong = theirs.rows(), 0, list[object]()
    with caller(gateway, ours.manager) as client:
        for method, template in NAMED:
            foreign = list(tried(client, method, template, theirs.ids))
            missing = list(tried(client, method, template, nobodys(theirs.ids)))
            for (path, answer), (_, other) in zip(foreign, missing, strict=True):
                calls += 1
                if told := leaks(answer, other, theirs, (403, 404)):
                    wrong.append((method, path, told))
    figure(f"{calls} calls of {len(NAMED)} routes")
    assert wrong == []
    assert calls > 80
    assert theirs.rows() == before


def test_what_is_personal_is_hidden_from_others_of_the_tenant(gateway: Gateway, theirs: Furnished) -> None:
    before = theirs.rows()
    personal = [(m, t) for m, t in NAMED if PERSONAL.intersection((named_in(t) or {}).values())]
    with caller(gateway, theirs.other) as client:
        tries = [(method, *one) for method, template in personal for one in tried(client, method, template, theirs.ids)]
    assert [(method, path, answer.text) for method, path, answer in tries if answer.status_code != 404] == []
    assert len(personal) > 12
    assert theirs.rows() == before


def test_no_query_parameter_reaches_another_tenant(gateway: Gateway, ours: Furnished, theirs: Furnished) -> None:
    before, wrong = theirs.rows(), list[object]()
    with caller(gateway, ours.manager) as client:
        for (method, template), named in QUERIES.items():
            for name, kind in named:
                answer = client.request(method, template, params={name: theirs.ids[kind]})
                other = client.request(method, template, params={name: nobodys(theirs.ids)[kind]})
                refused = (403,) if name == "tenant" else (answer.status_code,)
                if theirs.mark in answer.text or answer.status_code not in refused:
                    wrong.append((method, template, name, answer.text))
                if answer.status_code != other.status_code:
                    wrong.append((method, template, name, answer.text, other.text))
        for what in ("group_by=key", f"group_by=key&tenant={theirs.ids['tenant']}"):
            assert theirs.ids["key"] not in client.get(f"/v1/usage?{what}").text
    assert wrong == []
    assert theirs.rows() == before


def test_no_body_reaches_another_tenants_things(
    gateway: Gateway, ours: Furnished, theirs: Furnished, figure: Callable[[str], None]
) -> None:
    before, calls, wrong = theirs.rows(), 0, list[object]()
    with caller(gateway, ours.manager) as client:
        for (method, template), bodies in [*NAMING.items(), *PARTLY.items()]:
            path = next(paths_of(template, ours.ids))  # which names something in PARTLY alone
            for body in bodies:
                answer, other = (client.request(method, path, json=body(i)) for i in (theirs.ids, nobodys(theirs.ids)))
                calls += 1
                if told := leaks(answer, other, theirs, (400, 403, 404)):
                    wrong.append((method, path, told))
    figure(f"{calls} bodies")
    assert wrong == []
    assert theirs.rows() == before


def test_the_owner_reaches_each_of_them(gateway: Gateway, ours: Furnished, theirs: Furnished) -> None:
    """Else the refusals above might have another reason. It comes last: much of what is called here deletes."""
    wrong = []
    order = {"GET": 0, "PUT": 1, "POST": 1, "PATCH": 1, "DELETE": 2}
    with caller(gateway, ours.manager) as boss, caller(gateway, ours.member) as member, caller(gateway) as admin:
        # Whoever administers comes last: a key that was rotated calls nothing more.
        for method, template in sorted(NAMED, key=lambda one: ("admin" in one[1], order[one[0]], -len(one[1]))):
            personal = PERSONAL.intersection((named_in(template) or {}).values())
            house = method in HOUSE.get(template, ())
            client = admin if house else member if personal else boss
            if "kind" in (named_in(template) or {}) or (house and method == "DELETE") or template.endswith("/events"):
                continue  # limits go with what they bound; the tenant itself would end everything; jobs here never end
            for path, answer in tried(client, method, template, ours.ids):
                code = (answer.json().get("error") or {}).get("code") if answer.status_code >= 400 else None
                if answer.status_code in (401, 403) or (answer.status_code == 404 and code not in _PARTS):
                    wrong.append((method, path, answer.text))
    assert wrong == []
