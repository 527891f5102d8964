"""What clients get: the bodies of answers."""

import asyncio
import base64
from typing import Any

import orjson

from inference.embedder import Embedded
from inference.forms import RerankForm
from inference.reranker import Ranked

_SLICE = 64  # rows that are written in one go: others are served in between


async def embedding_list(embedded: Embedded, model: str, *, packed: bool) -> bytes:
    """OpenAI's list of embeddings as JSON; where texts were cut, `truncated` names their places."""
    items: list[bytes] = []
    for first in range(0, len(embedded.rows), _SLICE):
        if first:
            await asyncio.sleep(0)
        for at, row in enumerate(embedded.rows[first : first + _SLICE], first):
            value: Any = base64.b64encode(row.astype("<f4").tobytes()).decode() if packed else row
            item = {"object": "embedding", "index": at, "embedding": value}
            items.append(orjson.dumps(item, option=orjson.OPT_SERIALIZE_NUMPY))
    rest: dict[str, Any] = {"model": model, "usage": _usage(embedded.tokens)}
    if embedded.truncated:
        rest["truncated"] = embedded.truncated
    return b'{"object":"list","data":[' + b",".join(items) + b"]," + orjson.dumps(rest)[1:]


def ranking(ranked: Ranked, form: RerankForm) -> dict[str, Any]:
    """Results in Cohere's and Jina's form: the best first, those of equal score in the order of the request."""
    best = sorted(range(len(ranked.scores)), key=lambda at: -ranked.scores[at])[: form.top_n]
    results = [
        {
            "index": at,
            "relevance_score": ranked.scores[at],
            **({"document": {"text": form.documents[at]}} if form.return_documents else {}),
        }
        for at in best
    ]
    answer = {"results": results, "usage": _usage(ranked.tokens)}
    return {**answer, "truncated": ranked.truncated} if ranked.truncated else answer


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}
