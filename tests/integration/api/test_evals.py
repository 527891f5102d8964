"""`./stoker eval` and /v1/evals on a running stack, with judged questions in files."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import Stack

_DOCUMENTS = {
    "oil": "The main engine gets new oil every 250 running hours.",
    "mask": "Whoever goes below while the engine is tested wears a mask.",
    "fare": "Children under six years travel free of charge.",
    "dogs": "Dogs are taken along when they wear a muzzle.",
    "fog": "In fog the boat goes at half speed and sounds its horn.",
    "lost": "What was found on board is kept at the office for thirty days.",
}
_QUESTIONS = {"q1": ("how often is engine oil changed", "oil"), "q2": ("is my puppy allowed", "dogs")}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BEIR's layout: corpus.jsonl, queries.jsonl and qrels.tsv, one question of which nobody has judged."""
    folder = tmp_path_factory.mktemp("judged")
    corpus = [{"_id": name, "title": "", "text": text, "metadata": {"n": 1}} for name, text in _DOCUMENTS.items()]
    queries = [{"_id": name, "text": text} for name, (text, _) in _QUESTIONS.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [*queries, {"_id": "q3", "text": "nobody judged this"}])
    )
    rows = ["query-id\tcorpus-id\tscore", *(f"{name}\t{document}\t1" for name, (_, document) in _QUESTIONS.items())]
    (folder / "qrels.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def name(plain_stack: Stack, judged: Path) -> str:
    """A collection that the command filled."""
    name = f"e-{secrets.token_hex(4)}"
    filled = _eval(plain_stack, name, judged, "--corpus", str(judged / "corpus.jsonl"), "--json")
    assert filled.returncode == 0, filled.stderr
    assert f"6 of 6 documents are ready in {name}" in filled.stderr
    found = json.loads(filled.stdout)
    assert [one["name"] for one in found["pipelines"]] == ["hybrid", "dense", "lexical"]
    assert found["pipelines"][2]["measures"]["ndcg@10"]["mean"] == pytest.approx(0.5), "no word of q2 is in a document"
    return name


def test_a_table_that_a_person_can_read(plain_stack: Stack, judged: Path, name: str) -> None:
    shown = _eval(plain_stack, name, judged, "--judged-by", "metadata._id")
    assert shown.returncode == 0, shown.stderr
    first, header, *rows = shown.stdout.splitlines()
    assert first.startswith(f"{name}, version ")
    assert header.split()[:4] == ["nDCG@10", "recall@100", "MRR", "MAP"]
    assert [row.split()[0] for row in rows[:3]] == ["hybrid", "dense", "lexical"]
    assert "lexical differs not clearly from hybrid: nDCG@10 -" in shown.stdout
    assert "1 questions have no relevant document" in shown.stderr


def test_the_same_by_http_whole_and_streamed(plain_stack: Stack, name: str) -> None:
    whole = plain_stack.client.post("/v1/evals", json=_body(name, per_query=True))
    assert whole.status_code == 200, whole.text
    said = whole.json()
    assert (said["object"], said["queries"], said["missing_documents"]) == ("eval", 2, 0)
    assert [row["query_id"] for row in said["per_query"]] == ["q1", "q2"]
    with plain_stack.client.stream("POST", "/v1/evals", json=_body(name, stream=True)) as streamed:
        lines = list(streamed.iter_lines())
    assert [line for line in lines if line.startswith("event: ")][-1] == "event: done"
    done = json.loads(lines[lines.index("event: done") + 1].removeprefix("data: "))
    assert [_means(one) for one in done["pipelines"]] == [_means(one) for one in said["pipelines"]]


def test_two_ways_of_searching_are_compared(plain_stack: Stack, judged: Path, name: str) -> None:
    ways = (
        "--pipeline",
        "dense",
        "--pipeline",
        'few={"mode": "dense", "filter": {"type": "eq", "key": "n", "value": 2}}',
    )
    shown = _eval(plain_stack, name, judged, "--judged-by", "metadata._id", *ways, "--json")
    assert shown.returncode == 0, shown.stderr
    compared = json.loads(shown.stdout)["comparisons"][0]
    assert (compared["first"], compared["second"], compared["better"]) == ("dense", "few", 0)
    assert compared["difference"]["mean"] < 0


def test_a_collection_is_tuned_by_its_questions(plain_stack: Stack, judged: Path, name: str) -> None:
    tuned = _eval(plain_stack, name, judged, "--judged-by", "metadata._id", "--tune")
    assert tuned.returncode == 0, tuned.stderr
    assert f"{name} is now fused by " in tuned.stderr.replace("\n", " ")
    kept = plain_stack.client.get(f"/v1/collections/{name}").json()["search"]
    assert kept["mode"] == "hybrid"
    assert kept["fusion"]["method"] in ("relative", "rrf")


def test_a_collection_is_evaluated_every_day_and_the_metrics_say_how_well_it_does(
    plain_stack: Stack, judged: Path, name: str
) -> None:
    client, path = plain_stack.client, f"/v1/collections/{name}/evaluation"
    assert client.get(path).json()["error"]["code"] == "evaluation_not_found"
    shown = _eval(plain_stack, name, judged, "--judged-by", "metadata._id", "--daily")
    assert shown.returncode == 0, shown.stderr
    assert f"{name} is evaluated so every day" in shown.stderr.replace("\n", " ")
    last = _until(lambda: client.get(path).json()["last"])
    assert (last["outcome"], last["questions"], last["missing_documents"]) == ("whole", 2, 0)
    score = last["measures"]["ndcg@10"]["mean"]
    assert score > 0.5
    listed = client.get(f"{path}/results").json()
    assert [one["id"] for one in listed["data"]] == [last["id"]]
    label = f'collection="{client.get(f"/v1/collections/{name}").json()["id"]}"'
    told = f'stoker_evaluation_score{{{label},metric="ndcg@10"}} {score}'
    _until(lambda: told in client.get("/metrics").text)
    assert client.delete(path).json()["deleted"] is True
    _until(lambda: label not in client.get("/metrics").text)
    assert client.get(f"{path}/results").json() == listed
    refused = client.put(path, json={"queries": [{"id": "1", "text": "a"}], "qrels": []})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "qrels"


def _until(look: Callable[[], Any]) -> Any:
    """Ask until the answer is yes."""
    limit = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < limit
        time.sleep(0.2)
    return found


def test_what_is_wrong_is_said(plain_stack: Stack, judged: Path, name: str, tmp_path: Path) -> None:
    client = plain_stack.client
    assert client.post("/v1/evals", json=_body("absent")).status_code == 404
    for change, word in (
        ({"qrels": []}, "relevant"),
        ({"pipelines": [{"name": "a", "mode": "sideways"}]}, "mode"),
        ({"judged_by": "colour"}, "judged_by"),
        ({"stream": True, "judged_by": "colour"}, "judged_by"),
    ):
        refused = client.post("/v1/evals", json=_body(name) | change)
        assert refused.status_code == 400, refused.text
        assert word in refused.text
    (tmp_path / "broken.jsonl").write_text('{"_id": "1", "text": "fine"}\nnot json\n')
    said = plain_stack.cli(
        "eval", name, "--queries", str(tmp_path / "broken.jsonl"), "--qrels", str(judged / "qrels.tsv")
    )
    assert said.returncode == 1
    assert "line 2 is no question or document" in said.stderr.replace("\n", " ")


def _eval(stack: Stack, name: str, judged: Path, *flags: str) -> Any:
    files = ("--queries", str(judged / "queries.jsonl"), "--qrels", str(judged / "qrels.tsv"))
    return stack.cli("eval", name, *files, *flags)


def _body(name: str, **more: Any) -> dict[str, Any]:
    return {
        "collection": name,
        "queries": [{"id": number, "text": text} for number, (text, _) in _QUESTIONS.items()],
        "qrels": [{"query_id": number, "document": document} for number, (_, document) in _QUESTIONS.items()],
        "judged_by": "metadata._id",
        **more,
    }


def _means(pipeline: dict[str, Any]) -> dict[str, float]:
    return {name: one["mean"] for name, one in pipeline["measures"].items()}
