"""Two real engines under load: one freezes, one reads a long prompt, both are restarted one after the other."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.faults.router.real_twins import Twins, gateway_before, real_twins
from tests.support.engines import frozen
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.vllm, pytest.mark.long]

REQUESTS = 2_000
PATIENCE_S = 3.0


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with real_twins(tmp_path_factory.mktemp("engines")) as found:
        yield found


@dataclass
class Load:
    """How requests ended, and when the slowest began and ended, in seconds of the monotonic clock."""

    begun: int = 0
    ended: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def failed(self) -> Counter[str]:
        return Counter(how for _, _, how in self.ended if how != "whole")


@asynccontextmanager
async def load(house: Gateway, clients: int, most: int = 10**9) -> AsyncIterator[Load]:
    """Clients that ask one small thing after the other, every second time as a stream, until the block ends."""
    found, halt = Load(), asyncio.Event()
    headers = {"authorization": f"Bearer {house.key}"}

    async def work(web: httpx.AsyncClient) -> None:
        while not halt.is_set() and found.begun < most:
            found.begun += 1
            number, began_s = found.begun, time.monotonic()
            body = {"model": "g", "messages": [{"role": "user", "content": f"Say {number}."}], "max_tokens": 6}
            stream = number % 2 == 0
            answer = await web.post("/v1/chat/completions", json=body | {"stream": stream})
            whole = answer.status_code == 200 and (not stream or answer.text.endswith("data: [DONE]\n\n"))
            found.ended.append((began_s, time.monotonic(), "whole" if whole else answer.text[-200:]))

    async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=120) as web:
        tasks = [asyncio.create_task(work(web)) for _ in range(clients)]
        try:
            yield found
        finally:
            halt.set()
            await asyncio.gather(*tasks)


def ejected(house: Gateway) -> dict[str, str | None]:
    """Each deployment's name, and why it is ejected."""
    status = httpx.get(f"{house.url}/status", headers={"authorization": f"Bearer {house.key}"}).json()
    return {one["name"]: one["ejected"] for one in status["deployments"]}


async def until(look: Callable[[], object], seconds: float) -> float:
    began_s = time.monotonic()
    while not await asyncio.to_thread(look):
        assert time.monotonic() < began_s + seconds, f"not within {seconds} s"
        await asyncio.sleep(0.1)
    return time.monotonic() - began_s


async def test_one_that_freezes_under_load_costs_no_request(
    twins: Twins, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    settings = f"stoker: {{health: {{standstill_cpu_s: {PATIENCE_S}}}}}\n"
    with gateway_before(twins, tmp_path / "gateway", settings) as house:
        async with load(house, clients=6) as seen:
            await asyncio.sleep(8)
            with frozen(twins.engines[0]) as go_on:
                ejected_s = await until(lambda: any(ejected(house).values()), 15)
                health = await asyncio.to_thread(httpx.get, f"{twins.engines[0].url}/health")
                assert health.status_code == 200
                after_s = time.monotonic()
                await asyncio.sleep(8)
                go_on()
                back_s = await until(lambda: not any(ejected(house).values()), 5)
            await asyncio.sleep(5)
    late = [end_s - began_s for began_s, end_s, _ in seen.ended if began_s > after_s]
    figure(
        f"ejected {ejected_s:.1f} s after it stopped, back {back_s:.1f} s after it went on; of {len(seen.ended)} "
        f"requests {seen.failed.total()} failed; {len(late)} began after the ejection, at most {max(late):.1f} s each"
    )
    assert not seen.failed


async def test_one_that_reads_a_long_prompt_under_load_is_not_ejected(
    twins: Twins, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    seen_ejected: set[str] = set()
    with gateway_before(twins, tmp_path / "gateway") as house:
        async with load(house, clients=6) as seen:
            await asyncio.sleep(5)
            body = {"model": "g", "messages": [{"role": "user", "content": "word " * 3_900}], "max_tokens": 4}
            headers = {"authorization": f"Bearer {house.key}"}
            async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=120) as web:
                began_s = time.monotonic()
                asking = [asyncio.create_task(web.post("/v1/chat/completions", json=body)) for _ in range(2)]
                while not all(task.done() for task in asking):
                    seen_ejected |= {
                        f"{name} {why}" for name, why in (await asyncio.to_thread(ejected, house)).items() if why
                    }
                    await asyncio.sleep(0.2)
                answers = [task.result() for task in asking]
                took_s = time.monotonic() - began_s
    figure(
        f"two prompts of {answers[0].json()['usage']['prompt_tokens']} tokens took {took_s:.1f} s; of "
        f"{len(seen.ended)} other requests {seen.failed.total()} failed; ejected: {sorted(seen_ejected)}"
    )
    assert [answer.status_code for answer in answers] == [200, 200]
    assert not seen_ejected
    assert not seen.failed, seen.failed


async def test_both_are_restarted_under_load_and_no_request_fails(
    twins: Twins, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with gateway_before(twins, tmp_path / "gateway") as house:
        async with load(house, clients=5, most=REQUESTS) as seen:
            restarts = []
            for at in (0, 1):
                await asyncio.sleep(5)
                began_s = time.monotonic()
                await asyncio.to_thread(twins.start_again, at)
                restarts.append(time.monotonic() - began_s)
            await until(lambda: seen.begun >= REQUESTS, 900)
    slowest_s = max(end_s - began_s for began_s, end_s, _ in seen.ended)
    figure(
        f"two restarts took {restarts[0]:.0f} and {restarts[1]:.0f} s; of {len(seen.ended)} requests "
        f"{seen.failed.total()} failed, the slowest took {slowest_s:.1f} s"
    )
    assert len(seen.ended) >= REQUESTS
    assert not seen.failed
