"""Subjects become keys that lie in one hash slot, and limits that scripts can count."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from api.admission.meters import MAX_NANO_USD, MAX_PER_MINUTE, metered, prefix_of
from core.limits import Limits, Subject, SubjectKind

LIMITS = Limits(requests_per_minute=1, parallel=1)


@example(tenant_id="}", ids=["a", "b"])  # of an empty tag, a cluster hashes the whole key
@given(tenant_id=st.text(min_size=1), ids=st.lists(st.text(), min_size=1, max_size=4, unique=True))
def test_all_keys_of_a_tenant_lie_in_one_slot_and_stay_apart(tenant_id: str, ids: list[str]) -> None:
    wanted = metered(tenant_id, tuple(Subject(SubjectKind.USER, name, LIMITS) for name in ids))
    keys = {meter.key for meter in wanted.meters}
    assert len(keys) == len(ids)
    assert len({key_slot(key.encode()) for key in (*keys, f"{wanted.prefix}leases")}) == 1
    assert len(wanted.record.split()) == 2 * len(ids)


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_tenants_never_share_a_key(one: str, other: str) -> None:
    assert (prefix_of(one) == prefix_of(other)) == (one == other)


def test_a_subject_counts_once_and_one_without_limits_not_at_all() -> None:
    subject, free = Subject(SubjectKind.USER, "u", LIMITS), Subject(SubjectKind.TEAM, "t", Limits())
    assert metered("acme", (subject, free, subject)).subjects == (subject,)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(requests_per_minute=-1),
        Limits(tokens_per_minute=MAX_PER_MINUTE + 1),
        Limits(nano_usd_per_month=MAX_NANO_USD + 1),
    ],
)
def test_a_limit_that_cannot_be_counted_exactly_is_refused(limits: Limits) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        metered("acme", (Subject(SubjectKind.USER, "u", limits),))
