"""The pictures of the console in the README and in the documentation."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser
from sqlalchemy import insert

from tagferry.db.tables import SyncJobRow
from tagferry.names import RegionId, RepositoryName, Tag
from tests.browser.content import COLUMNS, job
from tests.browser.visits import visiting
from tests.support.browser import Browser as FormBrowser
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment
from tests.support.images import image, push

PICTURES = Path(os.environ.get("TAGFERRY_SCREENSHOTS", "build/screenshots"))
REPOSITORIES = ("shop/web", "shop/cart", "search/indexer", "platform/base", "crm")
DENIED = "cn-north-208 refused the push: the account has no permission to write to release/crm; grant it push"
OTHER = "the target has another image under this tag; synchronize it with override to replace it"


def rows() -> list[dict[str, Any]]:
    """Return jobs as a team has them during one day."""
    now = datetime.now(UTC)

    def one(at: int, status: str, minutes: int, repository: str, **more: Any) -> dict[str, Any]:
        began = now - timedelta(minutes=minutes)
        times = {"created_at": began, "ended_at": None if status == "running" else began + timedelta(seconds=40)}
        return {**job(at, status), **times, "repository": repository, "tag": f"v2.{at // 9}.{at % 9}", **more}

    usual = [
        one(hour * 10 + at, "success", hour * 60 + at * 5, REPOSITORIES[at % 5], rule_id=1 + at % 3)
        for hour in range(1, 24)
        for at in range(2 + hour * 7 % 9)
    ]
    return [
        *usual,
        one(301, "existed", 64, "search/indexer", reason=OTHER, rule_id=None),
        one(302, "failed", 42, "crm", reason=DENIED, rule_id=4),
        one(303, "failed", 17, "crm", reason=DENIED, rule_id=4),
        one(304, "running", 1, "shop/web", bytes_done=1_290_000_000),
        one(305, "running", 1, "platform/base", bytes_done=513_800_000),
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_first_page(chromium: Browser, ferry: Deployment, scheme: Any):
    browser = FormBrowser(ferry.urls[NORTH])
    await browser.sign_in(ferry.admin.name, ferry.admin.password)
    for repository in ("shop/web", "search/indexer", "platform/base", "crm"):
        await push(ferry.store(NORTH), RepositoryName(f"{TEAM}/{repository}"), image(), Tag("v1"))
        path = f"/console/images/{NORTH}/{TEAM}/{repository.replace('/', '$')}/rules/new"
        await browser.post(path, {"to_region": SOUTH, "to_namespace": RELEASE})
    async with ferry.app.accounts.database.write() as session:
        await session.execute(insert(SyncJobRow), [{**dict.fromkeys(COLUMNS), **row} for row in rows()])
    admin = await ferry.app.services.iam.users.find(ferry.admin.name)
    for region in (NORTH, SOUTH):
        await ferry.app.services.swr.health.check_now(admin, RegionId(region))

    async with visiting(chromium, ferry, size=(1280, 800), color_scheme=scheme, reduced_motion="reduce") as visit:
        await visit.sign_in(ferry.admin.name, ferry.admin.password)
        await visit.page.screenshot(path=PICTURES / f"console-{scheme}.png", full_page=True)
        assert await visit.page.get_by_text("behind").count() == 1
