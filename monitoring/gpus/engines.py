"""What vLLM says of its tokens. Source: vLLM's /metrics; the names are those of 0.32, and were recorded."""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

GENERATED = "vllm:generation_tokens_total"
PROMPT = "vllm:prompt_tokens_total"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of an engine: since its start, or of an interval."""

    generated: float
    prompt: float

    def since(self, before: "Tokens") -> "Tokens | None":
        """Those of the interval; None where the engine was started anew in it."""
        if self.generated < before.generated or self.prompt < before.prompt:
            return None
        return Tokens(self.generated - before.generated, self.prompt - before.prompt)


def tokens(text: str) -> Tokens | None:
    """Read an engine's metrics, all engines behind one address together; None: it counts no tokens.

    Raises: ValueError: that is no text of Prometheus's form.
    """
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in (GENERATED, PROMPT):
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return Tokens(sums[GENERATED], sums[PROMPT]) if len(sums) == 2 else None
