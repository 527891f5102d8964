"""Prompts that begin alike go where they were, as long as that deployment answers."""

from contextlib import AsyncExitStack
from dataclasses import replace

from router.config import RouterConfig
from router.router import Call, Router, open_router
from tests.integration.router.calls import chat, config, native, read
from tests.support.openai_server import Fault, OpenAiServer, openai_server


def _said(*texts: str) -> Call:
    """The next turn of a conversation."""
    call = chat("", stream=True, max_tokens=2)
    messages = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]
    return replace(call, body={**call.body, "messages": messages})


def _affine(*servers: OpenAiServer) -> RouterConfig:
    made = config(*(native(server, f"replica-{at}") for at, server in enumerate(servers)))
    return replace(made, strategy="prefix-affinity", num_retries=1)


async def _asked(router: Router, call: Call) -> str:
    answer = await router.open(call)
    await read(answer)
    await answer.aclose()
    return answer.deployment.name


async def test_a_conversation_stays_on_its_replica_in_every_worker(server: OpenAiServer) -> None:
    async with AsyncExitStack() as stack:
        twins = [server, *[await stack.enter_async_context(openai_server(server.model)) for _ in range(2)]]
        workers = [await stack.enter_async_context(open_router(_affine(*twins), workers=2)) for _ in range(2)]
        places = set()
        for number in range(12):
            said = [f"conversation {number}: {'what of it? ' * 60}"]
            first = await _asked(workers[0], _said(*said))
            said += ["words " * 60, "and then?"]
            assert {await _asked(worker, _said(*said)) for worker in workers} == {first}
            places.add(first)
        assert len(places) == len(twins)


async def test_where_its_replica_fails_another_one_answers_and_has_it_from_then_on(server: OpenAiServer) -> None:
    async with openai_server(server.model) as twin, open_router(_affine(server, twin)) as router:
        said = ["a long beginning " * 100]
        first = await _asked(router, _said(*said))
        (server if first == "replica-0" else twin).fault = Fault.ERROR_500
        said += ["answer " * 50, "next question"]
        for _ in range(4):
            answer = await router.open(_said(*said))
            assert (await read(answer)).count(b"[DONE]") == 1
            await answer.aclose()
        assert await _asked(router, _said(*said)) != first
