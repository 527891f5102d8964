"""Fixtures that several folders share: the two stacks, and the folder of real documents."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.engines import SHARED_ENGINE, SHORT_QUEUE, Engine, start_embeddings
from tests.support.network import free_port
from tests.support.site import OPENED_PORT
from tests.support.stack import ROOT, Stack, start_stack

DATA = ROOT.parent / "shared" / "data"

# No example has a deadline: other lanes may hold both processors just then.
settings.register_profile("usual", deadline=None, max_examples=50)  # others in each run
settings.register_profile("fast", deadline=None, max_examples=20)  # `./stoker test --fast`
settings.register_profile("long", deadline=None, max_examples=500)  # `./stoker test --long`
settings.load_profile("usual")


@pytest.hookimpl(tryfirst=True)  # before marks select
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """What needs a whole stack is slow: a start takes as much of a processor as hundreds of other tests."""
    for item in items:
        if "plain_stack" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def plain_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack without an engine: its only chat deployment points at a port where nothing listens."""
    folder = tmp_path_factory.mktemp("plain")
    config = folder / "stoker.yaml"
    config.write_text(
        "model_list:\n"
        "  - model_name: absent-model\n"
        "    litellm_params:\n"
        "      model: hosted_vllm/absent-model\n"
        f"      api_base: http://127.0.0.1:{free_port()}/v1\n"
    )
    flags = ("--engine", "none", "--no-demo", "--config", str(config), "--workers", "2")
    settings = {
        "STOKER_CORS_ORIGINS": "https://allowed.example",
        "STOKER_LEASE_S": "4",
        "STOKER_SEARCH_DEADLINE_S": "2.5",  # tests wait for it
        "STOKER_EMBEDDING_DEADLINE_S": "2.5",
        "STOKER_FETCH_ALLOW": f"127.0.0.1:{OPENED_PORT}",
        "STOKER_FETCH_DELAY_S": "0",
    }
    with start_stack(folder / "data", *flags, env=settings) as stack:
        yield stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack with vLLM, as `./stoker up --detach` gives it, its own documentation in `demo`."""
    with start_stack(tmp_path_factory.mktemp("whole") / "data", "--engine", "vllm-cpu") as stack:
        yield stack


@pytest.fixture(scope="session")
def embedding_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An embedding server with its real model and a short queue; it keeps nothing, so all tests share it."""
    if SHARED_ENGINE in os.environ:  # whoever plants defects runs few tests many times
        yield Engine(**json.loads(os.environ[SHARED_ENGINE]))
        return
    with start_embeddings(tmp_path_factory.mktemp("embeddings"), *SHORT_QUEUE) as engine:
        yield engine


@pytest.fixture(scope="session")
def documents() -> Path:
    """Real documents of many kinds, each with what it is expected to give."""
    folder = DATA / "documents"
    if not folder.is_dir():
        pytest.skip("the folder of real documents is not here: ../shared/data/documents")
    return folder


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Keeps a measured figure, to be printed at the end of the run."""
    return lambda text: record_property("figure", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {text}"
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, text in report.user_properties
        if name == "figure"
    ]
    if lines:
        terminalreporter.section("figures")
        for line in sorted(lines):
            terminalreporter.line(line)
