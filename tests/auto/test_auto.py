"""How well `auto` tells hard requests from easy ones: on its examples by cross-validation, and on the held-out half."""

from collections.abc import Callable, Sequence

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray

from api.auto.auto import shortened
from api.auto.classifier import Classifier, Example, examples
from api.settings import ApiSettings
from retrieval.embedder import Embedder
from tests.auto.scoring import HELD_OUT, area, point, read
from tests.support.engines import Engine

pytestmark = pytest.mark.slow  # an embedding server is started

Figure = Callable[[str], None]
_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_FOLDS = 10


async def _vectors(engine: Engine, learnt: Sequence[Example], *, query: bool) -> NDArray[np.float32]:
    async with aiohttp.ClientSession() as session:
        embedder = Embedder(session, engine.url, 120, 32)
        space = (await embedder.spaces())[0]
        return await embedder.embed([shortened(example.text) for example in learnt], space, query=query)


def _tell(figure: Figure, name: str, labelled: Sequence[Example], difficulty: NDArray[np.float64]) -> None:
    curve = "; ".join(str(point(labelled, difficulty, threshold)) for threshold in _THRESHOLDS)
    figure(f"{name}, {len(labelled)} requests, area under the curve {area(labelled, difficulty):.3f}. {curve}")


def crossed(learnt: Sequence[Example], vectors: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """The difficulty of each example, as one tells it who has learnt from nine tenths of the others."""
    fold = np.random.default_rng(1).permutation(len(learnt)) % _FOLDS
    told = np.zeros(len(learnt))
    for number in range(_FOLDS):
        seen, unseen = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        classifier = Classifier([learnt[at] for at in seen], None if vectors is None else vectors[seen])
        told[unseen] = classifier.difficulty(
            [learnt[at].text for at in unseen], None if vectors is None else vectors[unseen]
        )
    return told


async def test_the_examples_by_cross_validation(embedding_engine: Engine, figure: Figure) -> None:
    learnt = examples()
    vectors = await _vectors(embedding_engine, learnt, query=False)
    by_traits, by_vector = crossed(learnt, None), crossed(learnt, vectors)
    _tell(figure, "by traits", learnt, by_traits)
    _tell(figure, "with vectors", learnt, by_vector)
    assert area(learnt, by_traits) > 0.7  # a guess has 0.5
    assert area(learnt, by_vector) > area(learnt, by_traits) - 0.02


async def test_heldout(embedding_engine: Engine, figure: Figure) -> None:
    learnt, unseen = examples(), read(HELD_OUT)
    assert not {example.text for example in learnt} & {example.text for example in unseen}
    seen_vectors = await _vectors(embedding_engine, learnt, query=False)
    vectors = await _vectors(embedding_engine, unseen, query=True)
    texts = [example.text for example in unseen]
    threshold = ApiSettings.model_fields["auto_thresholds"].get_default(call_default_factory=True)[0]
    for name, difficulty in (
        ("heldout by traits", Classifier(learnt).difficulty(texts)),
        ("heldout with vectors", Classifier(learnt, seen_vectors).difficulty(texts, vectors)),
    ):
        _tell(figure, name, unseen, difficulty)
        usual = point(unseen, difficulty, threshold)
        figure(f"{name}, at the usual threshold of {usual}")
        assert usual.small > 0.05
        assert usual.lost < 10
