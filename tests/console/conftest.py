"""One house for all tests of the console, and one browser."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.console.house import house
from tests.console.visitor import Visitor, visitor
from tests.integration.retrieval.conftest import Servers, servers
from tests.support.answering import Desk
from tests.support.chromium import chromium
from tests.support.openai_server import OpenAiServer, openai_server_in_thread

__all__ = ["servers"]

FERRY = "The ferry to Wellhaven leaves at 07:45 every day. It leaves from the eastern quay."
# Signs beyond 16 bits stand before what is cited: spans count characters, and browsers count otherwise.
FILES = [
    ("ferry.md", f"# Ferry 🚢🚢🚢 𝒲ellhaven\n\n{FERRY}".encode()),
    ("lighthouse.txt", b"The lighthouse of Wellhaven was built in 1872 and is painted white."),
]
LONG = " ".join(f"word{number}" for number in range(400))


def said(_: str, body: dict[str, Any]) -> str | None:
    """What the model says."""
    asked = str(body["messages"][-1]["content"])
    if "ferry" in asked:
        return FERRY
    return LONG if "at length" in asked else None


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium. Its driver keeps an event loop, which must be gone before other tests begin theirs."""
    found = chromium()
    expect.set_options(timeout=30_000)  # the machine may be busy with other things than this test
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(
            executable_path=str(found.program), env=dict(found.env), args=["--no-sandbox", "--disable-gpu"]
        )
        yield one
        one.close()


@pytest.fixture(scope="package")
def model() -> Iterator[OpenAiServer]:
    with openai_server_in_thread() as one:
        one.script = said
        yield one


@pytest.fixture(scope="package")
def desk(
    browser: Browser, servers: Servers, model: OpenAiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """After the browser: without one, nothing needs to be started."""
    with house(tmp_path_factory.mktemp("console"), servers.milvus_uri, servers.embedding_url, model) as one:
        one.fill("harbour", FILES)
        yield one


@pytest.fixture
def someone(browser: Browser, desk: Desk) -> Iterator[Callable[..., Visitor]]:
    """Opens a tab, signed in with the admin's key unless `key` says otherwise; None: not signed in."""
    opened: list[Visitor] = []

    def open_one(key: str | None = "", **about: Any) -> Visitor:
        one = visitor(browser, desk.gate.url, **about)
        opened.append(one)
        if key is not None:
            one.enter(key or desk.gate.key)
        return one

    yield open_one
    for one in opened:
        one.page.context.close()
    for one in opened:
        assert not one.errors
        assert not one.dialogs


@pytest.fixture
def admin(someone: Callable[..., Visitor]) -> Visitor:
    return someone()


@pytest.fixture
def new_key(desk: Desk) -> Callable[..., dict[str, Any]]:
    """Makes a key with these fields."""

    def make(**fields: Any) -> dict[str, Any]:
        answer = desk.client.post("/v1/admin/keys", json={"name": "visitor", **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    return make
