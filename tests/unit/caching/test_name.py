"""What an entry of a cache is called."""

from dataclasses import replace

import pytest

from api.caching.name import Documents, Name, name_of
from api.errors import RequestInvalid
from core.principal import Principal, Role
from core.reach import HOME

ASKED = {"model": "words", "query": "When does the pier open?", "temperature": 0.0}
PIER = Documents("col_a", 3)
CALLER = Principal("ten_a", "key_a", Role.READER, user_id="usr_a", groups=frozenset({"staff"}))
NAME = name_of(CALLER, "answer", ASKED, [PIER])


@pytest.mark.parametrize(
    "other",
    [
        name_of(replace(CALLER, tenant_id="ten_b"), "answer", ASKED, [PIER]),
        name_of(replace(CALLER, user_id="usr_b"), "answer", ASKED, [PIER]),
        name_of(replace(CALLER, user_id=None), "answer", ASKED, [PIER]),
        name_of(replace(CALLER, groups=frozenset()), "answer", ASKED, [PIER]),
        name_of(replace(CALLER, groups=frozenset({"staff", "board"})), "answer", ASKED, [PIER]),
        name_of(replace(CALLER, role=Role.MANAGER), "answer", ASKED, [PIER]),
        name_of(replace(CALLER, reach=HOME), "answer", ASKED, [PIER]),
        name_of(CALLER, "search", ASKED, [PIER]),
        name_of(CALLER, "answer", {**ASKED, "temperature": 0.5}, [PIER]),
        name_of(CALLER, "answer", {**ASKED, "query": "When does the pier open"}, [PIER]),
        name_of(CALLER, "answer", {**ASKED, "model": "other"}, [PIER]),
        name_of(CALLER, "answer", ASKED, [Documents("col_a", 4)]),
        name_of(CALLER, "answer", ASKED, [Documents("col_b", 3)]),
        name_of(CALLER, "answer", ASKED),
    ],
)
def test_whatever_could_change_the_answer_changes_the_name(other: Name) -> None:
    assert other.key != NAME.key


def test_what_changes_nothing_shares_an_entry() -> None:
    assert name_of(replace(CALLER, key_id="key_b"), "answer", dict(reversed(ASKED.items())), [PIER]).key == NAME.key
    assert name_of(replace(CALLER, role=Role.MEMBER), "answer", ASKED, [PIER]).key == NAME.key


def test_an_entry_carries_what_it_may_be_purged_by() -> None:
    assert NAME.carried == ("all", "key:key_a", "collection:col_a")
    assert NAME.key.startswith("{ten_a}:cache:answer:")


def test_what_is_nested_too_deeply_to_be_written_is_refused() -> None:
    """More can be read than written: such a request was a 500."""
    deep: list[object] = []
    for _ in range(400):
        deep = [deep]
    with pytest.raises(RequestInvalid, match="nested too deeply"):
        name_of(Principal("t", "k", Role.MEMBER), "chat", {"body": deep})
