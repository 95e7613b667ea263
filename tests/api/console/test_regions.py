"""The pages of regions and workers."""

from pathlib import Path
from typing import Any

import pytest

from tagferry.accounts.model import Permission
from tests.support.browser import Browser
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed, eventually
from tests.support.processes import free_port

REGIONS = "/console/regions"


@pytest.fixture
async def carol(ferry: Deployment) -> Browser:
    """A browser in which an ordinary user is signed in."""
    password, _ = await ferry.user("carol", team=Permission.READ)
    browser = Browser(ferry.urls[NORTH])
    await browser.sign_in("carol", password)
    return browser


async def test_regions_are_listed_with_their_state(ferry: Deployment, carol: Browser):
    async def checked() -> bool:
        return "not checked" not in (await carol.get(REGIONS)).text

    await eventually(checked)
    page = await carol.get(REGIONS)

    assert page.heading == "Regions"
    assert [row[:2] for row in page.rows()] == [
        [f"{NORTH} embedded registry", "reachable"],
        [f"{SOUTH} embedded registry", "reachable"],
    ]


async def test_an_administrator_checks_a_region_now(ferry: Deployment, administrator: Browser):
    page = await administrator.get(f"{REGIONS}/{NORTH}")

    checked = await administrator.submit(page, f"{REGIONS}/{NORTH}/check")

    assert checked.heading == NORTH
    assert "The region was checked." in checked.text
    assert "free of" in checked.text
    assert f"POST /v2/manage/regions/{NORTH}/check" in checked.text


async def test_others_see_no_details_and_check_nothing(ferry: Deployment, carol: Browser):
    page = await carol.get(f"{REGIONS}/{NORTH}")
    refused = await carol.post(f"{REGIONS}/{NORTH}/check")

    assert page.status == 200
    assert "free of" not in page.text
    assert f"{REGIONS}/{NORTH}/check" not in page.html
    assert refused.status == 403


async def test_a_dead_region_says_why_and_what_to_do(tmp_path: Path):
    port = free_port()
    regions: dict[str, dict[str, Any]] = {NORTH: {"listen": ""}, SOUTH: {"registry": f"http://127.0.0.1:{port}"}}
    async with deployed(tmp_path / "data", regions=regions, health={"check_interval_seconds": 0}) as ferry:
        password, _ = await ferry.user("carol", team=Permission.READ)
        administrator, carol = Browser(ferry.urls[NORTH]), Browser(ferry.urls[NORTH])
        await administrator.sign_in(ferry.admin.name, ferry.admin.password)
        await carol.sign_in("carol", password)
        before = await administrator.get(f"{REGIONS}/{SOUTH}")
        after = await administrator.submit(before, f"{REGIONS}/{SOUTH}/check")
        seen = await carol.get(f"{REGIONS}/{SOUTH}")
        listed = await carol.get(REGIONS)

    assert "Not checked within a day" in before.text
    assert "unreachable" in after.text
    assert str(port) in after.one("p[@role='alert']").findtext("span", "")
    assert "Check that the registry runs" in after.text
    assert seen.all("p[@role='alert']") == []
    assert listed.rows()[1][1].startswith("unreachable")


async def test_a_region_that_does_not_exist_is_not_found(administrator: Browser):
    assert (await administrator.get(f"{REGIONS}/west")).status == 404
    assert (await administrator.get(f"{REGIONS}/%3Cb%3E")).status == 400


async def test_workers_are_listed_for_administrators_only(ferry: Deployment, administrator: Browser, carol: Browser):
    async def listed() -> bool:
        return bool((await administrator.get("/console/workers")).rows())

    await eventually(listed)
    page = await administrator.get("/console/workers")
    (row,) = page.rows()

    assert page.heading == "Workers"
    assert row[1] == "active leader"
    assert row[2] == "0 of 32 slots"
    assert row[3] == f"{NORTH}, {SOUTH}"
    assert (await carol.get("/console/workers")).status == 403
