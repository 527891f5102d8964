"""`SentenceTransformer.encode` in float32, 32 texts a batch, as one writes it without a server: what ours is held
against. Runs in the inference environment: a line of JSON in, `{"texts": [...]}`, a line out.
"""

import base64
import json
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]


def main() -> None:
    model = SentenceTransformer(sys.argv[1], device="cpu")
    model.encode(["ready?"] * 32, batch_size=32)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        texts = json.loads(line)["texts"]
        started_s = time.perf_counter()
        rows = model.encode(texts, batch_size=32, normalize_embeddings=True)
        took_s = time.perf_counter() - started_s
        packed = base64.b64encode(rows.astype("<f4").tobytes()).decode()
        print(json.dumps({"seconds": took_s, "rows": packed, "dimensions": rows.shape[1]}), flush=True)


if __name__ == "__main__":
    main()
