"""A question as a request's body asks it."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.answers.question import Grounding, Question, Turn, WantedWork
from retrieval.query import Mode


class EarlierTurn(BaseModel):
    """What was said earlier in the conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant"]
    content: str = Field(max_length=20_000)


class QueryWorkRequest(BaseModel):
    """What a model is to do with the question before it is searched."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rewrite: bool | None = None
    multi_query: int = Field(0, ge=0, le=4)
    hyde: bool = False
    self_query: bool = False


class QueryRequest(BaseModel):
    """A question to one collection."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=20_000)
    collection: str = Field(min_length=1, max_length=200)
    model: str | None = None
    top_k: int = Field(10, ge=1, le=100)
    filter: dict[str, Any] | None = None
    stream: bool = False
    temperature: float = Field(0.0, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=4096)
    use_cache: Literal[True, False, "exact"] = True
    grounding: Grounding | None = None
    conversation_id: str | None = None
    messages: list[EarlierTurn] = Field(default_factory=list, max_length=20)
    query_work: QueryWorkRequest = Field(default_factory=QueryWorkRequest)
    mode: Mode | None = None
    rerank: bool | None = None
    rerank_top_n: int | None = Field(None, ge=1, le=100)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What the request itself says was said before."""
        return tuple(Turn(turn.role, turn.content) for turn in self.messages)

    def question(self, request_id: str, turns: Sequence[Turn]) -> Question:
        """As an answerer takes it."""
        return Question(
            text=self.query,
            collection=self.collection,
            model=self.model,
            top_k=self.top_k,
            filter=self.filter,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            request_id=request_id,
            grounding=self.grounding,
            turns=tuple(turns),
            work=WantedWork(**self.query_work.model_dump()),
            mode=self.mode,
            rerank=self.rerank,
            rerank_top_n=self.rerank_top_n,
            use_cache=self.use_cache,
        )
