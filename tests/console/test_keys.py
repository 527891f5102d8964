"""Keys and people, and operations, in a real browser."""

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.house import MODEL
from tests.console.visitor import Visitor
from tests.support.answering import Desk
from tests.support.waiting import until

pytestmark = pytest.mark.slow


def test_a_key_is_made_shown_once_used_and_revoked(admin: Visitor, desk: Desk) -> None:
    admin.go("keys", "Keys and people")
    admin.page.get_by_role("button", name="New key").click()
    form = admin.page.get_by_role("dialog")
    form.get_by_label("What it is for").fill("a robot of the harbour")
    form.get_by_label("Requests a minute").fill("7")
    form.get_by_label("US dollars a day").fill("1.25")
    form.get_by_role("button", name="Make the key").click()
    text = admin.page.locator("[data-secret]").inner_text()
    assert text.startswith("sk-stoker-")
    headers = {"authorization": f"Bearer {text}"}
    limits = httpx.get(f"{desk.gate.url}/v1/usage/limits", headers=headers).json()["data"][0]
    assert (limits["rpm"], limits["usd_per_day"]) == (7, "1.25")
    admin.page.get_by_role("button", name="I have it").click()
    row = admin.page.get_by_role("row").filter(has_text="a robot of the harbour")
    expect(row).to_contain_text("live")
    assert text not in admin.page.content()
    admin.page.get_by_role("button", name="Revoke a robot of the harbour").click()
    admin.page.get_by_role("button", name="Revoke", exact=True).click()
    expect(row).to_contain_text("revoked")
    assert httpx.get(f"{desk.gate.url}/v1/models", headers=headers).status_code == 401


def test_a_key_is_rotated_and_its_limits_change(admin: Visitor, desk: Desk) -> None:
    made = desk.client.post("/v1/admin/keys", json={"name": "a clock"}).json()
    admin.go("keys", "Keys and people")
    admin.page.get_by_role("button", name="Change a clock").click()
    admin.page.get_by_role("dialog").get_by_label("Requests a minute").fill("")
    admin.page.get_by_role("dialog").get_by_role("button", name="Keep").click()
    until(lambda: desk.client.get(f"/v1/admin/keys/{made['id']}").json()["limits"]["rpm"] is None, "the limit is gone")
    expect(admin.page.get_by_role("dialog")).to_have_count(0)
    admin.page.get_by_role("button", name="Rotate a clock").click()
    admin.page.get_by_label("The old key ends").select_option("at once")
    admin.page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    successor = admin.page.locator("[data-secret]").inner_text()
    headers = {"authorization": f"Bearer {successor}"}
    assert httpx.get(f"{desk.gate.url}/v1/models", headers=headers).status_code == 200
    old = {"authorization": f"Bearer {made['key']}"}
    assert httpx.get(f"{desk.gate.url}/v1/models", headers=old).status_code == 401


def test_a_team_gets_a_budget_and_its_member_is_made(admin: Visitor, desk: Desk) -> None:
    admin.go("keys/teams", "Keys and people")
    admin.page.get_by_role("button", name="New team").click()
    admin.page.get_by_role("dialog").get_by_label("Name").fill("pilots")
    admin.page.get_by_role("dialog").get_by_role("button", name="Make it").click()
    expect(admin.page.get_by_role("cell", name="pilots")).to_be_visible()
    admin.page.get_by_role("tab", name="Users").click()
    admin.page.get_by_role("button", name="New user").click()
    form = admin.page.get_by_role("dialog")
    form.get_by_label("Name").fill("Ada of the pilots")
    form.get_by_label("Team").select_option("pilots")
    form.get_by_label("Groups").fill("night, day")
    form.get_by_role("button", name="Keep").click()
    expect(admin.page.get_by_role("row").filter(has_text="Ada of the pilots")).to_contain_text("night")
    admin.page.get_by_role("tab", name="Budgets").click()
    admin.page.get_by_label("Which").select_option("pilots")
    admin.page.get_by_label("US dollars a month").fill("250")
    admin.page.get_by_role("button", name="Keep these limits").click()
    expect(admin.page.get_by_text("The limits hold from the next request on")).to_be_visible()
    team = next(one for one in desk.client.get("/v1/admin/teams?limit=100").json()["data"] if one["name"] == "pilots")
    assert desk.client.get(f"/v1/admin/limits/team/{team['id']}").json()["usd_per_month"] == "250"
    admin.page.get_by_role("tab", name="Audit").click()
    expect(admin.page.get_by_role("row").filter(has_text="limits").first).to_be_visible()


def test_operations_show_parts_and_deployments_and_drain_one(admin: Visitor, desk: Desk) -> None:
    admin.go("operations", "Operations")
    parts = admin.page.get_by_role("list", name="Parts")
    for name in ("sql", "redis", "milvus", "embeddings"):
        expect(parts.get_by_role("listitem").filter(has_text=name)).to_contain_text("answers")
    row = admin.page.get_by_role("row").filter(has_text=f"{MODEL}-1")
    expect(row).to_contain_text("active")
    row.get_by_role("button", name="Drain").click()
    admin.page.get_by_role("button", name="Drain", exact=True).last.click()
    expect(row).to_contain_text("drained")
    admin.page.get_by_role("button", name=f"Make {MODEL}-1 active").click()
    expect(row).to_contain_text("active")


def test_start_holds_lines_that_run_as_they_are(admin: Visitor, someone: Callable[..., Visitor], desk: Desk) -> None:
    shown = admin.page.get_by_role("tabpanel").locator("pre").inner_text()
    assert f"{desk.gate.url}/v1/chat/completions" in shown
    assert f'"model": "{MODEL}"' in shown
    admin.page.get_by_role("tab", name="curl").focus()
    admin.page.keyboard.press("ArrowRight")
    expect(admin.page.get_by_role("tabpanel").locator("pre")).to_contain_text(f'base_url="{desk.gate.url}/v1"')
