"""Holds the packed pass against the library's on batches of random lengths; runs in the inference environment.

`python -m tests.support.packed_check MODEL DTYPE` prints a line of JSON: the least cosine of rows and of token vectors.
"""

import json
import random
import sys

import numpy as np

from inference.encoder import Encoder
from inference.loaded import Placement
from inference.packed import PackedBert
from inference.tokens import Tokenised


def main() -> None:
    encoder = Encoder(sys.argv[1], Placement("cpu", sys.argv[2]))
    of = random.Random(3)
    rows, vectors = [], []
    for lengths in ([3], [7, 7, 7], [3, 4, 256], [of.randint(3, 256) for _ in range(12)], sorted([5] * 9 + [6] * 4)):
        batch = [Tokenised([101, *(of.randrange(1000, 29000) for _ in range(length - 2)), 102]) for length in lengths]
        encoder._packed = None
        true_rows, true_vectors = encoder.compute(batch), encoder.vectors(batch)
        encoder._packed = PackedBert(encoder._torch, encoder._model)
        rows += np.sum(encoder.compute(batch) * true_rows, axis=1).tolist()
        for one, true in zip(encoder.vectors(batch), true_vectors, strict=True):
            assert one.shape == true.shape
            vectors += np.sum(one * true, axis=1).tolist()
    print(json.dumps({"rows": min(rows), "vectors": min(vectors), "texts": len(rows)}))


if __name__ == "__main__":
    main()
