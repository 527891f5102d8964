"""How a worker follows its configuration, look by look, on a virtual clock."""

import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.deployments.book import DeploymentBook, Kept, Row
from api.deployments.following import Following
from api.mark import HostMark
from api.settings import ApiSettings
from core.clock import ManualClock
from core.dependency import DependencyError
from router.config import RouterConfig
from router.errors import ConfigInvalid
from router.router import Router
from tests.support.guards import Hoards

ENTRY = "  - model_name: {name}\n    litellm_params: {{model: hosted_vllm/m, api_base: 'http://127.0.0.1:9/v1'}}\n"


def file_of(*names: str) -> str:
    return "model_list:\n" + "".join(ENTRY.format(name=name) for name in names)


def added(name: str, group: str = "added") -> Row:
    parameters = {"model": "hosted_vllm/m", "api_base": "http://127.0.0.1:8/v1"}
    return Row(name, "active", {"model_name": group, "litellm_params": parameters, "model_info": {"id": name}}, 1.0)


class Book:
    """The rows, and how often they were asked for."""

    def __init__(self) -> None:
        self.rows: Sequence[Row] = ()
        self.asked = 0
        self.away = False

    async def kept(self) -> Kept:
        self.asked += 1
        if self.away:
            raise DependencyError("sql", "it is silent")
        return Kept(list(self.rows))


class Followed:
    """A router that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []

    async def follow(self, config: RouterConfig) -> None:
        self.told.append([deployment.name for deployment in config.deployments])

    def running(self) -> dict[str, int]:
        return {}


class Noted(Hoards):
    """A guard that knows which thread made it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()


class House:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "stoker.yaml"
        self.file.write_text(file_of("a"))
        self.book, self.router, self.clock, self.mark = Book(), Followed(), ManualClock(), HostMark(folder / "mark")
        self.following = self.made()

    def made(self) -> Following:
        settings = cast(ApiSettings, SimpleNamespace(config=self.file, local_deployments=[]))
        following = Following(settings, cast(DeploymentBook, self.book), self.mark, self.clock)
        following.guide(cast(Router, cast(Any, self.router)))
        return following


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_a_changed_file_is_read_once_it_has_stood_still_for_a_look(house: House) -> None:
    await house.following.start()
    await house.following.look()
    house.file.write_text(file_of("a") + "router_settings:\n")  # an editor writes on
    await house.following.look()
    house.file.write_text(file_of("a", "b"))
    await house.following.look()
    assert house.router.told == []
    await house.following.look()
    assert house.router.told == [["a-1", "b-1"]]
    await house.following.look()
    assert len(house.router.told) == 1


async def test_what_could_not_be_put_to_use_is_tried_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose first try failed for a passing reason never applied what the others did."""
    await house.following.start()
    house.book.rows = [added("x")]

    async def fail(_: RouterConfig) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(house.router, "follow", fail)
        with pytest.raises(MemoryError):
            await house.following.follow_kept()
    await house.following.follow_kept()
    assert house.router.told == [["a-1", "x"]]
    await house.following.follow_kept()
    assert len(house.router.told) == 1


async def test_guards_are_made_once_and_where_nobody_waits_for_them(house: House) -> None:
    def guards() -> list[Noted]:
        return [cast(Noted, posted.guard) for posted in house.following.config.guards.get("a", ())]

    await house.following.start()
    house.file.write_text(file_of("a") + f"stoker:\n  guards:\n    a: [{{use: '{__name__}:Noted'}}]\n")
    for _ in range(2):
        await house.following.look()
    (made,) = guards()
    assert made.thread != threading.get_ident()
    house.book.rows = [added("x")]
    await house.following.follow_kept()
    house.file.write_text(house.file.read_text() + "router_settings:\n")
    for _ in range(2):
        await house.following.look()
    assert len(house.router.told) == 3
    assert guards() == [made]


async def test_a_file_that_cannot_be_used_is_told_of_once_and_changes_nothing(house: House) -> None:
    await house.following.start()
    house.file.write_text("model_list: {")
    for _ in range(4):
        await house.following.look()
    assert house.router.told == []
    assert "stoker.yaml:1" in (house.following.error or "")
    house.file.unlink()
    for _ in range(4):
        await house.following.look()
    assert house.router.told == []
    house.file.write_text(file_of("c"))
    for _ in range(2):
        await house.following.look()
    assert (house.router.told, house.following.error) == ([["c-1"]], None)


async def test_what_another_worker_changed_is_followed_at_once_and_another_host_within_seconds(house: House) -> None:
    await house.following.start()
    house.book.rows = [added("x")]
    await house.following.look()
    assert house.router.told == []
    house.mark.move()
    await house.following.look()
    assert house.router.told == [["a-1", "x"]]
    house.book.rows = []
    await house.following.look()
    house.clock.advance(2)
    await house.following.look()
    assert house.router.told == [["a-1", "x"], ["a-1"]]


@pytest.mark.parametrize("broken", ["model_list: {", "model_list: 5"])
async def test_while_the_file_is_broken_administrators_are_followed_by_the_last_good_one(
    house: House, broken: str
) -> None:
    await house.following.start()
    house.file.write_text(broken)
    for _ in range(2):
        await house.following.look()
    house.book.rows = [added("x")]
    await house.following.follow_kept()
    assert house.router.told == [["a-1", "x"]]
    assert house.following.error is not None


async def test_a_silent_sql_is_asked_again_and_keeps_no_file_from_being_read(house: House) -> None:
    house.book.away = True
    await house.following.start()
    assert [deployment.name for deployment in house.following.config.deployments] == ["a-1"]
    house.file.write_text(file_of("a", "b"))
    await house.following.look()
    house.clock.advance(2)
    with pytest.raises(DependencyError):
        await house.following.look()
    assert house.router.told == [["a-1", "b-1"]]
    house.book.away, house.book.rows = False, [added("x")]
    house.clock.advance(2)
    await house.following.look()
    assert house.router.told[-1] == ["a-1", "b-1", "x"]


async def test_a_start_leaves_out_what_was_added_where_it_fits_no_more(house: House) -> None:
    house.book.rows = [added("a-1")]
    following = house.made()
    await following.start()
    assert [deployment.name for deployment in following.config.deployments] == ["a-1"]
    assert "two deployments" in (following.error or "")
    house.file.write_text("model_list: {")
    with pytest.raises(ConfigInvalid):
        house.made()
