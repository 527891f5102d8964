"""Hard questions go to a central gateway while there is one, and cost nothing while there is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.edge.conftest import COLLECTION, Origin
from tests.support import edge
from tests.support.central import FakeCentral, fake_central
from tests.support.waiting import until

_NOTHING = "Which colour has the zeppelin of Quux?"
_HARD = ("--confidence", "1", "--central-deadline-s", "2")


def _ask(served: edge.Served, question: str = _NOTHING, **more: Any) -> dict[str, Any]:
    return served.query(query=question, collection=COLLECTION, **more)


def _ready(served: edge.Served) -> None:
    until(lambda: served.health["central"] == "ready", 30)


@pytest.fixture
def central(origin: Origin) -> Iterator[FakeCentral]:
    with fake_central(origin.desk.client.get(f"/v1/collections/{COLLECTION}").json()["id"]) as one:
        yield one


def test_a_hard_question_is_answered_by_the_origin_and_the_answer_says_so(
    folder: Path, origin: Origin, tmp_path: Path
) -> None:
    env = {"STOKER_EDGE_CENTRAL_KEY": origin.desk.gate.key}
    with edge.serve(folder, tmp_path / "log", "--central", origin.url, "--confidence", "1", env=env) as served:
        _ready(served)
        question = next(iter(origin.judged.queries.values()))
        answer = _ask(served, f"{question} And what of quux?")
        assert answer["answered_by"] == "central"
        assert answer["central"] == origin.url
        for cited in answer["citations"]:
            text = origin.desk.content(COLLECTION, cited)
            assert text[cited["start"] : cited["end"]] == cited["quote"]
        streamed = served.client.post(
            "/v1/query", json={"query": f"{question} And what of quux?", "collection": COLLECTION, "stream": True}
        )
        assert '"answered_by":"central"' in streamed.text


def test_what_the_folder_answers_well_goes_nowhere(folder: Path, central: FakeCentral, tmp_path: Path) -> None:
    env = {"STOKER_EDGE_CENTRAL_KEY": "k"}
    with edge.serve(folder, tmp_path / "log", "--central", central.url, env=env) as served:
        _ready(served)
        assert _ask(served, "The pier opens")["answered_by"] == "edge"
        assert central.asked == []
        assert _ask(served)["answered_by"] == "central"


def test_a_silent_central_is_asked_once_and_then_no_more(folder: Path, central: FakeCentral, tmp_path: Path) -> None:
    env = {"STOKER_EDGE_CENTRAL_KEY": "k"}
    with edge.serve(folder, tmp_path / "log", "--central", central.url, *_HARD, env=env) as served:
        _ready(served)
        central.does = "silent"
        for _ in range(5):
            answer = _ask(served)
            assert answer["answered_by"] == "edge"
            assert answer["degraded"]
        assert len(central.asked) == 1
        assert served.health["central"] == "away"
        central.does = "answer"
        _ready(served)
        assert _ask(served)["answered_by"] == "central"


@pytest.mark.parametrize("does", ["refuse", "nonsense", "degraded"])
def test_a_central_that_is_no_help_leaves_the_edges_own_answer(
    folder: Path, central: FakeCentral, tmp_path: Path, does: Any
) -> None:
    env = {"STOKER_EDGE_CENTRAL_KEY": "k"}
    with edge.serve(folder, tmp_path / "log", "--central", central.url, *_HARD, env=env) as served:
        _ready(served)
        central.does = does
        assert _ask(served)["answered_by"] == "edge"
        assert len(central.asked) == 1


def test_bound_text_goes_to_the_origin_alone(origin: Origin, tmp_path: Path) -> None:
    name = "bound"
    origin.desk.fill(name, [("pier.md", b"The pier opens at 9.")], local_only=True)
    bound = tmp_path / "bound.edge"
    assert "bound to its house" in origin.export(bound, collection=name)
    env = {"STOKER_EDGE_CENTRAL_KEY": origin.desk.gate.key}
    body = {"query": _NOTHING, "collection": name}
    with fake_central("col_of_somebody_else") as foreign:
        flags = ("--central", foreign.url, *_HARD)
        with edge.serve(bound, tmp_path / "log", *flags, env=env) as served:
            until(lambda: "bound to its house" in served.health["central"], 30)
            assert served.query(**body)["answered_by"] == "edge"
            assert foreign.asked == []
    with edge.serve(bound, tmp_path / "log2", "--central", origin.url, *_HARD, env=env) as served:
        _ready(served)
