"""Filters on the real Milvus Lite: they select exactly what they say, and never another tenant's rows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.ids import new_id
from retrieval.access import EVERYONE
from retrieval.expression import Scope, parse_filter
from retrieval.index import Place, Row
from retrieval.milvus import VectorIndex
from tests.integration.retrieval.conftest import Servers

KEYS = ["lang", 'a"b', "x\\", 'k"] == "v" or tenant_id != "', "we ird", "é"]
TEXTS = ["en", "", 'a"b\\c', '" or tenant_id != "', "x\\", "line\nbreak\ttab\r", "é漢🚢", '") or (1 == 1', "true", "5"]
NUMBERS = [0, -5, 7, 2**53, -0.5, 1e300, 5e-7, 3.0]
SCALARS = st.sampled_from([*TEXTS, *NUMBERS, True, False])
METADATA: list[dict[str, Any]] = [
    {},
    *({key: value} for key, value in zip(KEYS, TEXTS, strict=False)),
    *({"lang": text, "n": number} for text, number in zip(TEXTS, NUMBERS, strict=False)),
    {"lang": True, "n": False},
    {"lang": 5, "n": "5", 'a"b': 'a"b\\c'},
    {"lang": -5, "n": 1e300},
]
Evaluate = dict[str, Callable[[Any, Any], bool]]
ORDER: Evaluate = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


def kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "number"  # Milvus Lite takes true and false for 1 and 0


def holds(raw: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """The reference: what a filter means."""
    if raw["type"] in ("and", "or"):
        return (all if raw["type"] == "and" else any)([holds(part, metadata) for part in raw["filters"]])
    if raw["key"] not in metadata:
        return False
    found, value = metadata[raw["key"]], raw["value"]
    match raw["type"]:
        case "eq":
            return kind(found) == kind(value) and bool(found == value)
        case "ne":
            return not (kind(found) == kind(value) and found == value)
        case "in":
            return any(kind(found) == kind(one) and found == one for one in value)
        case "nin":
            return not any(kind(found) == kind(one) and found == one for one in value)
    return kind(found) == kind(value) and ORDER[raw["type"]](found, value)


COMPARISONS = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["eq", "ne"]), "key": st.sampled_from([*KEYS, "n", "absent"]), "value": SCALARS}
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["gt", "gte", "lt", "lte"]),
            "key": st.sampled_from(["lang", "n"]),
            "value": st.sampled_from([*TEXTS, *NUMBERS]),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["in", "nin"]),
            "key": st.sampled_from([*KEYS, "n"]),
            "value": st.lists(SCALARS, min_size=1, max_size=3),
        }
    ),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, min_size=1, max_size=3)}
    ),
    max_leaves=5,
)


@pytest.fixture
async def filled(servers: Servers) -> AsyncIterator[tuple[VectorIndex, str]]:
    """One collection with the same rows for two tenants, and for readers of two kinds."""
    index = VectorIndex(servers.milvus_uri, 10.0, 1000)
    name = new_id("col")
    await index.ensure(Place(name), 4)
    rows = [
        Row(
            id=f"{tenant}_{number}_{acl}",
            revision_id="rev",
            document_id=str(number),
            tenant_id=tenant,
            collection_id=name,
            acl=[acl],
            filename="f",
            start=0,
            end=1,
            page=None,
            text="t",
            metadata=metadata,
            dense=np.ones(4, np.float32),
            sparse={1: 1.0},
        )
        for tenant in ("mine", "theirs")
        for acl in (EVERYONE, "user:other")
        for number, metadata in enumerate(METADATA)
    ]
    await index.insert(Place(name), rows, 10.0)
    yield index, name
    await index.drop(Place(name))
    await index.close()


async def test_hostile_filters_select_what_they_say_and_nothing_foreign(filled: tuple[VectorIndex, str]) -> None:
    index, name = filled
    loop = asyncio.get_running_loop()

    async def found(raw: dict[str, Any]) -> set[str]:
        scope = Scope("mine", name, [EVERYONE], parse_filter(raw))
        (hits,) = await index.search_dense(Place(name), np.ones((1, 4), np.float32), scope, 200)
        return {hit.id for hit in hits}

    @settings(
        max_examples=settings().max_examples * 3 // 2,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(FILTERS)
    def check(raw: dict[str, Any]) -> None:
        ids = asyncio.run_coroutine_threadsafe(found(raw), loop).result(30)
        expected = {number for number, metadata in enumerate(METADATA) if holds(raw, metadata)}
        assert ids == {f"mine_{number}_{EVERYONE}" for number in expected}

    await asyncio.to_thread(check)
