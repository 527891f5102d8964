"""BM25 as a sparse vector: weights of a chunk's terms when it is indexed, IDF in the query's.

The inner product of both is the BM25 score. A chunk is weighed by the average length that its collection has when it
is indexed, and keeps its weights when others come and go; IDF comes from the catalog when the question is asked.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009); IDF as in Lucene.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence

K1 = 1.5
B = 0.9
_DIMENSIONS = 2**32 - 1  # Milvus takes sparse indices below this


_EXPECTED_CHUNKS = 20  # as many chunks of the collection's own count as much as what was expected of them


def average_terms(expected: float, chunks: int, terms: int) -> float:
    """A collection's average chunk length, in terms: at first what was expected, soon what its chunks have.

    Args:
        chunks, terms: what it holds.
    """
    return (expected * _EXPECTED_CHUNKS + terms) / (_EXPECTED_CHUNKS + chunks)


def weigh(terms: Sequence[str], average_terms: float) -> dict[int, float]:
    """Make a chunk's sparse vector.

    Args:
        average_terms: of the collection's chunks, above 0.
    """
    norm = K1 * (1 - B + B * len(terms) / average_terms)
    vector: dict[int, float] = {}
    for term, frequency in Counter(terms).items():
        index = term_index(term)
        vector[index] = vector.get(index, 0.0) + frequency * (K1 + 1) / (frequency + norm)
    return vector


def query_vector(
    terms: Sequence[str], chunks: int, frequencies: Mapping[str, int], also: Mapping[str, float] | None = None
) -> dict[int, float]:
    """Make a question's sparse vector: IDF times how often the term is asked for; empty when no term is known.

    Args:
        chunks: how many the collection holds.
        frequencies: for each known term, how many chunks hold it.
        also: terms that nobody asked for by themselves, and what part of a time each counts as asked.
    """
    vector: dict[int, float] = {}
    asked_for: dict[str, float] = {**Counter(terms)}
    for term, part in (also or {}).items():
        asked_for[term] = asked_for.get(term, 0) + part
    for term, asked in asked_for.items():
        found = frequencies.get(term, 0)
        if found > 0:
            index = term_index(term)
            vector[index] = vector.get(index, 0.0) + asked * idf(chunks, found)
    return vector


def idf(chunks: int, found: int) -> float:
    """How much a term says that `found` of `chunks` hold; above 0."""
    found = min(found, chunks)
    return math.log(1 + (chunks - found + 0.5) / (found + 0.5))


def term_index(term: str) -> int:
    """The sparse dimension of a term; the same in every process and version."""
    digest = hashlib.blake2b(term.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _DIMENSIONS
