"""The embedding server's metrics; it is one process, so the default registry is right."""

from prometheus_client import Counter, Gauge, Histogram

TEXTS = Counter(
    "stoker_embedding_texts_total", "Texts, by outcome: computed, dropped (the client left), refused.", ("outcome",)
)
TOKENS = Counter("stoker_embedding_tokens_total", "Tokens embedded, without padding.")
PADDED_TOKENS = Counter("stoker_embedding_padded_tokens_total", "Tokens computed, padding included.")
TRUNCATED = Counter("stoker_embedding_truncated_texts_total", "Texts cut at the model's limit.")
QUEUE_TOKENS = Gauge("stoker_embedding_queue_tokens", "Tokens waiting now.")
BATCH_SECONDS = Histogram(
    "stoker_embedding_batch_seconds",
    "Time of one forward pass.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
