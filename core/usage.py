"""How many tokens a call took."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as the upstream counted them.

    Attributes:
        prompt_tokens: tokens read, cached ones included.
        completion_tokens: tokens written.
        cached_tokens: those of `prompt_tokens` whose KV blocks were found in the engine's cache.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )

    def less(self, other: "Usage") -> "Usage":
        """What is left of this beyond the other; nothing is less than 0, and no more is cached than was read."""
        prompt = max(0, self.prompt_tokens - other.prompt_tokens)
        completion = max(0, self.completion_tokens - other.completion_tokens)
        return Usage(prompt, completion, min(prompt, max(0, self.cached_tokens - other.cached_tokens)))

    def as_openai(self) -> dict[str, int]:
        """The `usage` object of OpenAI's chat and completion answers."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }

    @classmethod
    def from_openai(cls, usage: dict[str, object]) -> "Usage":
        """Read OpenAI's `usage` object; what is missing or no whole number counts as 0."""
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else 0
        return cls(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))

    @classmethod
    def from_anthropic(cls, usage: dict[str, object]) -> "Usage":
        """Read Anthropic's `usage` object, whose `input_tokens` leaves out what the cache held or took in."""
        cached, made = _count(usage.get("cache_read_input_tokens")), _count(usage.get("cache_creation_input_tokens"))
        return cls(_count(usage.get("input_tokens")) + cached + made, _count(usage.get("output_tokens")), cached)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
