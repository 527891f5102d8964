"""Where text may go, as requests say it and answers show it."""

from collections.abc import Set
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from api.errors import RequestInvalid
from core.reach import ANYWHERE, HOME, Reach

Word = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Words = Annotated[list[Word] | None, Field(max_length=100)]

FIELDS = frozenset({"local_only", "providers", "regions"})


class ReachForm(BaseModel):
    """The fields, for a body that has them."""

    local_only: bool = Field(False, description="Nothing leaves the house: the same as `providers: []`.")
    providers: Words = Field(
        None, description="Hosted providers that text may go to, as LiteLLM names them (`azure`); null: any."
    )
    regions: Words = Field(
        None,
        description="Regions that it may go to; `eu` stands for `eu-west-1`, too. A deployment whose region nobody "
        "has named is in none.",
    )

    def reach(self, before: Reach = ANYWHERE) -> Reach:
        """What is said, over what was before. Raises: RequestInvalid: it contradicts itself."""
        said: Set[str] = self.model_fields_set
        if "local_only" in said and "providers" in said and self.local_only != (self.providers == []):
            raise RequestInvalid("local_only is the same as providers: []; send one of them", "local_only")
        providers, regions = before.providers, before.regions
        if "providers" in said:
            providers = None if self.providers is None else frozenset(self.providers)
        elif "local_only" in said:
            providers = HOME.providers if self.local_only else (None if before.local_only else providers)
        if "regions" in said:
            regions = None if self.regions is None else frozenset(self.regions)
        return Reach(providers, regions)


def shown_reach(reach: Reach) -> dict[str, Any]:
    """The same three fields."""
    return {
        "local_only": reach.local_only,
        "providers": None if reach.providers is None else sorted(reach.providers),
        "regions": None if reach.regions is None else sorted(reach.regions),
    }
