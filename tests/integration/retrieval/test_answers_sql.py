"""What a collection says of its answers, and every version of its template, on each database."""

import asyncio
from typing import Any

import pytest

from api.answers.recipe import Recipe
from api.answers.recipes import Recipes, Said, keeping
from api.errors import RequestInvalid
from api.settings import ApiSettings
from core.clock import ManualClock
from core.principal import Principal, Role
from retrieval.collections import Collection, Collections
from retrieval.errors import CollectionNotFound
from retrieval.settings import RetrievalSettings
from tests.support.catalog import NAME, Catalog, new_catalog

FIRST, SECOND = "Read {sources} and say: {question}", "{sources}\n{question}"


class Desk:
    """The collection's door."""

    def __init__(self, catalog: Catalog) -> None:
        self.clock = ManualClock()
        unused: Any = None
        self.collections = Collections(catalog.database, unused, self.clock, RetrievalSettings())
        self.recipes = Recipes(catalog.database)
        self.ann = Principal(catalog.tenant_id, "key_1", Role.MEMBER, user_id="usr_ann")
        self.key = Principal(catalog.tenant_id, "key_2", Role.MEMBER)
        self.stranger = Principal("ten_other", "key_3", Role.ADMIN)

    async def change(self, answers: object, who: Principal | None = None) -> Collection:
        who = who or self.ann
        return await self.collections.change(who, NAME, also=keeping(answers, who, self.clock))

    async def said(self) -> Said:
        return await self.recipes.of(self.ann, NAME)

    async def versions(self) -> list[tuple[int, str, bool]]:
        return [(one.version, one.template, one.in_use) for one in await self.recipes.prompts(self.ann, NAME)]


@pytest.fixture
def desk(catalog: Catalog) -> Desk:
    return Desk(catalog)


async def test_a_collection_says_nothing_until_it_is_told(desk: Desk) -> None:
    assert await desk.said() == Said({}, None, 0)
    assert await desk.versions() == []


async def test_what_is_named_changes_and_the_rest_stays(desk: Desk) -> None:
    await desk.change({"pack": "passages", "passages": 5, "verify": "mark", "deadlines_s": {"pack": 1, "verify": 2}})
    shown = await desk.change({"passages": None, "deadlines_s": {"pack": 3}})
    assert shown.answers == {"pack": "passages", "verify": "mark", "deadlines_s": {"pack": 3, "verify": 2}}
    recipe = (await desk.said()).over(Recipe.of(ApiSettings()))
    assert (recipe.pack, recipe.passages, recipe.verify, recipe.deadlines_s.pack) == ("passages", 1, "mark", 3)
    assert (await desk.change({})).answers == {}


async def test_each_change_of_the_template_is_a_version_and_one_can_go_back(desk: Desk) -> None:
    desk.clock.advance(10)
    shown = await desk.change({"prompt": FIRST})
    assert (shown.answers, shown.prompt_version) == ({"prompt": FIRST}, 1)
    await desk.change({"prompt": SECOND, "passages": 2}, desk.key)
    assert (await desk.change({"prompt": SECOND})).prompt_version == 2, "that is no change"
    assert await desk.versions() == [(2, SECOND, True), (1, FIRST, False)]
    newest, oldest = await desk.recipes.prompts(desk.ann, NAME)
    assert (oldest.created_by, newest.created_by) == ("user:usr_ann", "key:key_2")
    assert oldest.created_at == desk.clock.time()
    assert await desk.recipes.prompts(desk.ann, NAME, after=2, limit=1) == [oldest]
    await desk.change({"prompt_version": 1})
    assert await desk.said() == Said({"passages": 2}, FIRST, 1)
    assert (await desk.change({"prompt": SECOND})).prompt_version == 3, "another change, though of the same words"
    for built_in in ({"prompt_version": None}, {"prompt": None}, {"prompt_version": 0}, {}):
        await desk.change({"prompt_version": 2})
        shown = await desk.change(built_in)
        assert (shown.prompt_version, "prompt" in shown.answers) == (0, False)
    assert [version for version, _, used in await desk.versions() if used] == []
    assert len(await desk.versions()) == 3


async def test_a_version_that_is_not_there_changes_nothing(desk: Desk) -> None:
    await desk.change({"prompt": FIRST})
    for wrong in (2, 99):
        with pytest.raises(RequestInvalid, match=f"no prompt of version {wrong}"):
            await desk.change({"prompt_version": wrong, "passages": 9})
    for nonsense in ("1", 1.0, True, -1):
        with pytest.raises(RequestInvalid, match="is the number of a version"):
            await desk.change({"prompt_version": nonsense})
    with pytest.raises(RequestInvalid, match="not both"):
        await desk.change({"prompt_version": 1, "prompt": SECOND})
    assert await desk.said() == Said({}, FIRST, 1)


async def test_changes_at_once_make_versions_of_their_own(desk: Desk) -> None:
    await asyncio.gather(*(desk.change({"prompt": f"{at} {FIRST}"}) for at in range(8)))
    versions = await desk.versions()
    assert [version for version, _, _ in versions] == list(range(8, 0, -1))
    assert len({template for _, template, _ in versions}) == 8


async def test_another_collections_versions_are_its_own(desk: Desk, catalog: Catalog) -> None:
    other = Desk(await new_catalog(catalog.database))
    await desk.change({"prompt": FIRST})
    await other.change({"prompt": SECOND})
    assert (await desk.versions(), await other.versions()) == ([(1, FIRST, True)], [(1, SECOND, True)])
    assert ((await desk.said()).prompt, (await other.said()).prompt) == (FIRST, SECOND)


async def test_another_tenant_sees_and_changes_nothing(desk: Desk) -> None:
    await desk.change({"prompt": FIRST})
    for act in (
        desk.recipes.of(desk.stranger, NAME),
        desk.recipes.prompts(desk.stranger, NAME),
        desk.change({"passages": 3}, desk.stranger),
    ):
        with pytest.raises(CollectionNotFound):
            await act
    assert await desk.said() == Said({}, FIRST, 1)
