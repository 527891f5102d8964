"""Vectors of hosted providers, each over its own wire format."""

import base64
import json
import struct

import orjson
import pytest

from api.errors import describe
from core.usage import Usage
from router.errors import NoDeployment, RouterError, UpstreamFailed, UpstreamRefused
from router.router import Router
from tests.integration.providers.asking import embed, kept_secret
from tests.integration.providers.conftest import EMBEDS
from tests.integration.providers.wire import USAGE, VECTORS, Fault, Wire

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("name", EMBEDS)]

_WORDS = 5  # SageMaker's endpoints name no tokens: LiteLLM counts the words of the two texts


def _unpacked(packed: str) -> list[float]:
    raw = base64.b64decode(packed)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


@pytest.mark.parametrize("form", [None, "float", "base64"])
async def test_vectors_come_in_order_and_in_the_form_that_was_asked_for(
    wires: dict[str, Wire], router: Router, name: str, form: str | None
) -> None:
    wire = wires[name]
    answer = await router.open(embed(f"{name}-embed", **({"encoding_format": form} if form else {})))
    rows = orjson.loads(answer.body)["data"]
    found = [row["embedding"] for row in sorted(rows, key=lambda row: row["index"])]
    assert (list(map(_unpacked, found)) if form == "base64" else found) == list(VECTORS)
    assert answer.usage == Usage(_WORDS if name == "sagemaker" else USAGE.prompt_tokens)
    assert wire.refusals == []
    assert wire.seen
    texts = "".join(seen.raw.decode() for seen in wire.seen)
    assert "a b" in texts
    assert "c d e" in texts
    for seen in wire.seen:
        kept_secret(wire, seen)


async def test_a_form_that_is_none_is_refused(wires: dict[str, Wire], router: Router, name: str) -> None:
    with pytest.raises(UpstreamRefused, match="float"):
        await router.open(embed(f"{name}-embed", encoding_format="int8"))
    assert wires[name].seen == []


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        (Fault.BAD_REQUEST, UpstreamRefused, 400),
        (Fault.KEY, UpstreamFailed, 502),
        (Fault.LIMIT, UpstreamRefused, 429),
        (Fault.ERROR, UpstreamFailed, 502),
        (Fault.BUSY, NoDeployment, 503),
        (Fault.DROP, NoDeployment, 503),
    ],
)
async def test_a_refusal_in_the_providers_form_becomes_our_error(
    wires: dict[str, Wire], router: Router, name: str, fault: Fault, error: type[RouterError], status: int
) -> None:
    wires[name].fault = fault
    with pytest.raises(RouterError) as caught:
        await router.open(embed(f"{name}-embed"))
    assert type(caught.value) is error
    told, body, headers = describe(caught.value)
    assert told == status
    text = json.dumps(body)
    assert "secret" not in text
    assert "litellm" not in text.lower()
    assert "Exception" not in text
    assert len(wires[name].seen) == 1
    if fault is Fault.LIMIT:
        assert headers["retry-after"] == "9"
