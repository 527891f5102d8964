"""Admission and the key's generation: a stale key is read anew and asked about again, once."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from api.admission.admission import Ask
from api.admission.errors import KeyStale
from api.admission.meters import MAX_NANO_USD, MAX_PER_MINUTE
from api.errors import NotAuthenticated
from api.identities import Identity
from api.ledger.ledger import Ledger
from api.metering import Metering, Size
from core.clock import ManualClock
from core.money import Price
from core.principal import Principal, Role
from router.router import Bound

IDENTITY = Identity(Principal("t", "key_1", Role.MEMBER), generation=3)


@dataclass
class FakeAdmission:
    """Admits keys of this generation."""

    generation: int
    asks: list[Ask] = field(default_factory=list)

    @property
    def asked(self) -> list[int]:
        return [ask.generation for ask in self.asks]

    async def admit(self, ask: Ask) -> object:
        self.asks.append(ask)
        if ask.generation < self.generation:
            raise KeyStale(str(ask.key_id))
        return object()


@dataclass
class FakeIdentities:
    """SQL knows the key with this generation; None: it was revoked."""

    generation: int | None

    async def renew(self, identity: Identity) -> Identity:
        if self.generation is None:
            raise NotAuthenticated("it was revoked")
        return replace(identity, generation=self.generation)


async def admit(folder: Path, admission: Any, identities: Any, tokens: int = 1) -> None:
    clock = ManualClock()
    ledger = Ledger(folder, clock)
    metering = Metering(admission, ledger, identities, clock)
    try:
        await metering.admit(
            IDENTITY, "/v1/chat/completions", "m", "req", Size(1, tokens), Bound(Price(1, 1, 10**6), 16)
        )
    finally:
        ledger.close()


async def test_a_stale_key_is_read_anew_and_asked_again_once(tmp_path: Path) -> None:
    admission = FakeAdmission(4)
    await admit(tmp_path, admission, FakeIdentities(4))
    assert admission.asked == [3, 4]
    changing = FakeAdmission(9)
    with pytest.raises(KeyStale):
        await admit(tmp_path, changing, FakeIdentities(8))
    assert changing.asked == [3, 8]


async def test_a_key_that_was_revoked_meanwhile_is_refused(tmp_path: Path) -> None:
    admission = FakeAdmission(4)
    with pytest.raises(NotAuthenticated):
        await admit(tmp_path, admission, FakeIdentities(None))
    assert admission.asked == [3]


async def test_a_size_that_cannot_be_counted_is_the_most_that_can(tmp_path: Path) -> None:
    """It was an error of ours; no limit leaves room for it either."""
    admission = FakeAdmission(3)
    await admit(tmp_path, admission, FakeIdentities(3), tokens=2**60)
    assert [(ask.tokens, ask.nano_usd) for ask in admission.asks] == [(MAX_PER_MINUTE, MAX_NANO_USD)]
