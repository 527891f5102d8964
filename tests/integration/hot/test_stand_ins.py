"""What a fallback group answered is told to who asked, and to nobody else."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.support.gateway import gateway
from tests.support.openai_server import Fault, OpenAiServer, openai_server_in_thread

CHAT = "/v1/chat/completions"
ITSELF = "this one itself says it"

CONFIGURATION = """model_list:
  - {{model_name: native, litellm_params: {{model: hosted_vllm/words, api_base: '{asked}'}}}}
  - {{model_name: hosted, litellm_params: {{model: openai/words, api_base: '{asked}', api_key: sk-a}}}}
  - {{model_name: helper, litellm_params: {{model: hosted_vllm/words, api_base: '{helper}'}}}}
litellm_settings: {{fallbacks: [{{native: [helper]}}, {{hosted: [helper]}}]}}
stoker: {{breaker: {{failures_to_open: 1000}}}}
"""


@dataclass
class House:
    """Two groups of one server, over either lane, and the fallback of both."""

    asked: OpenAiServer
    helper: OpenAiServer
    client: httpx.Client

    def ask(self, group: str, stream: bool, text: str, **headers: str) -> httpx.Response:
        message = {"role": "user", "content": text}
        body = {"model": group, "messages": [message], "max_tokens": 20, "stream": stream, "cache": "exact"}
        return self.client.post(CHAT, json=body, headers=headers).raise_for_status()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with openai_server_in_thread() as asked, openai_server_in_thread() as helper:
        asked.script = lambda *_: asked.fault or ITSELF
        helper.script = lambda *_: "somebody else says it"
        written = CONFIGURATION.format(asked=asked.base_url, helper=helper.base_url)
        folder = tmp_path_factory.mktemp("stand-ins")
        with (
            gateway(folder, 1, configuration=written, keeper=False) as gate,
            httpx.Client(base_url=gate.url, headers={"x-api-key": gate.key}, timeout=60) as client,
        ):
            yield House(asked, helper, client)


@pytest.fixture
def house(standing: House) -> Iterator[House]:
    yield standing
    standing.asked.fault = None
    standing.helper.script = lambda *_: "somebody else says it"
    standing.asked.script = lambda *_: standing.asked.fault or ITSELF


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("group", ["native", "hosted"])
def test_what_a_fallback_answered_is_not_told_again(house: House, group: str, stream: bool) -> None:
    text = f"Who says it to {group}, {stream}?"
    house.asked.fault = Fault.ERROR_500
    first, second = (house.ask(group, stream, text) for _ in range(2))
    assert "somebody" in first.text
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "bypass")
    house.asked.fault = None
    assert "itself" in house.ask(group, stream, text).text, "the model is back"


@pytest.mark.parametrize("group", ["native", "hosted"])
def test_what_the_group_itself_answered_is(house: House, group: str) -> None:
    assert ["itself" in house.ask(group, False, "Yourself?").text for _ in range(2)] == [True, True]
    assert house.ask(group, False, "Yourself?").headers["x-cache"] == "exact"


def test_a_stream_with_which_a_fallback_went_on_is_not_told_again(house: House) -> None:
    house.asked.script = lambda *_: Fault.CUT_MID_STREAM
    first = house.ask("native", True, "one two three four five")
    assert '"rescued":[{"from":"native-1","to":"helper-1"' in first.text
    assert first.headers["x-cache"] == "miss"
    assert house.ask("native", True, "one two three four five").headers["x-cache"] == "bypass"


def test_a_stream_that_a_fallback_began_and_the_group_itself_ended_is_not_told_again(house: House) -> None:
    text, came = "six seven eight nine", iter([Fault.ERROR_500])
    house.asked.script = lambda *_: next(came, ITSELF)
    house.helper.script = lambda *_: Fault.CUT_MID_STREAM
    first = house.ask("native", True, text)
    assert '"rescued":[{"from":"helper-1","to":"native-1"' in first.text
    assert house.ask("native", True, text).headers["x-cache"] == "bypass"


def test_an_idempotency_key_repeats_what_a_fallback_answered(house: House) -> None:
    house.asked.fault = Fault.ERROR_500
    first = house.ask("native", False, "Once?", **{"idempotency-key": "once"})
    house.asked.fault = None
    again = house.ask("native", False, "Once?", **{"idempotency-key": "once"})
    assert "somebody" in first.text
    assert again.text == first.text
