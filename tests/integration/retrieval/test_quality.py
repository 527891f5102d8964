"""How good the search is, by judged questions: the project's own collection always, others where they are.

A floor lies a little under what was measured: .02 is less than a fault of stemming, IDF or fusion costs.
"""

from collections.abc import Callable
from itertools import compress
from statistics import fmean

import pytest

from retrieval.evaluation.evaluator import Evaluation, Judged, Pipeline, Score
from retrieval.evaluation.tuning import Tuning
from retrieval.intake import NewFile
from retrieval.query import Query
from tests.integration.retrieval.conftest import House
from tests.support.collections import FOLDER, is_held_out, load, load_own
from tests.support.collections import Judged as Collection

MODES = tuple(Pipeline(mode, Query("", "", 100, mode=mode)) for mode in ("hybrid", "dense", "lexical"))  # type: ignore[arg-type]
Figure = Callable[[str], None]
FLOORS = {"inflected": 0.9, "rare_word": 0.85, "identifier": 0.95}
MODE_FLOORS = {"hybrid": 0.78, "dense": 0.71, "lexical": 0.65}


async def fill(house: House, name: str, judged: Collection) -> None:
    """A collection of these documents; those without text fail, as they should."""
    await house.retrieval.collections.create(house.principal, name)
    async with house.worker():
        files = [
            NewFile(f"{number}.txt", "text/plain", text.replace("\n", "\n\n", 1).encode(), {"_id": key})
            for number, (key, text) in enumerate(judged.documents.items())
        ]
        for first in range(0, len(files), 100):
            accepted = await house.retrieval.intake.accept(house.principal, name, files[first : first + 100])
            await house.ended(accepted.job_id, 300)


def questions(judged: Collection, *, held_out: bool | None = None) -> list[Judged]:
    return [
        Judged(key, text, judged.relevant[key])
        for key, text in judged.queries.items()
        if held_out is None or is_held_out(key) is held_out
    ]


async def evaluate(
    house: House, name: str, asked: list[Judged], modes: tuple[Pipeline, ...] = MODES
) -> dict[str, Score]:
    run = house.retrieval.evaluator.run(house.principal, name, asked, modes, "metadata._id")
    async for event in run:
        last = event
    assert isinstance(last, Evaluation)
    return {score.name: score for score in last.scores}


async def tune(house: House, name: str, asked: list[Judged]) -> Tuning:
    async for event in house.retrieval.evaluator.tune(house.principal, name, asked, "metadata._id"):
        last = event
    assert isinstance(last, Tuning)
    found = {"method": last.fusion.method, "dense_weight": last.fusion.dense_weight}
    await house.retrieval.collections.change(house.principal, name, search={"fusion": found})
    return last


def told(scores: dict[str, Score]) -> str:
    return ", ".join(f"{name} {score.measures['ndcg@10'].mean:.3f}" for name, score in scores.items())


def by_kind(score: Score, judged: Collection, asked: list[Judged]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for question, value in zip(asked, score.questions["ndcg@10"], strict=True):
        found.setdefault(judged.kinds[question.id], []).append(value)
    return {kind: sum(values) / len(values) for kind, values in found.items()}


@pytest.mark.slow
async def test_the_handbook_is_searched_as_well_as_it_was(house: House, figure: Figure) -> None:
    judged = load_own()
    await fill(house, "handbook", judged)
    asked = questions(judged)
    usual = await evaluate(house, "handbook", asked)
    lexical = by_kind(usual["lexical"], judged, asked)
    figure(f"nDCG@10, 100 questions: {told(usual)}; lexical by kind: {lexical}")
    for kind, floor in FLOORS.items():
        assert lexical[kind] > floor, kind
    for name, floor in MODE_FLOORS.items():
        assert usual[name].measures["ndcg@10"].mean > floor, name
    held_out = questions(judged, held_out=True)
    tuned = await tune(house, "handbook", questions(judged, held_out=False))
    after = (await evaluate(house, "handbook", held_out, MODES[:1]))["hybrid"].measures["ndcg@10"].mean
    kept = [question in held_out for question in asked]
    alone = {name: fmean(compress(usual[name].questions["ndcg@10"], kept)) for name in ("dense", "lexical")}
    figure(
        f"tuned on the other half ({tuned.fusion}, {tuned.cross_validated:.3f} expected), on the held-out half: hybrid "
        f"{after:.3f}, dense {alone['dense']:.3f}, lexical {alone['lexical']:.3f}"
    )
    assert after > max(alone.values()) - 0.005


@pytest.mark.long
@pytest.mark.parametrize(("name", "floor"), [("cranfield", 0.37), ("llm-docs-qa", 0.70)])
async def test_outside_collections_are_searched_as_well_as_they_should_be(
    house: House, figure: Figure, name: str, floor: float
) -> None:
    judged = load(name)
    if judged is None:
        pytest.skip(f"{FOLDER / name} is not there")
    await fill(house, name, judged)
    asked = questions(judged)
    usual = await evaluate(house, name, asked)
    tuned = await tune(house, name, asked)
    after = await evaluate(house, name, asked)
    figure(
        f"{name}, nDCG@10: {told(usual)}; tuned ({tuned.fusion}, {tuned.cross_validated:.3f} expected): {told(after)}"
    )
    assert usual["lexical"].measures["ndcg@10"].mean >= floor
    best = max(after["dense"].measures["ndcg@10"].mean, after["lexical"].measures["ndcg@10"].mean)
    assert after["hybrid"].measures["ndcg@10"].mean > best - 0.005
