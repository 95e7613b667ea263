"""Every page: pictures in all variants, accessible, no wider than the window; markup in its content runs nothing."""

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.browser.content import fill
from tests.browser.planted import plant
from tests.browser.shown import Shown
from tests.browser.visits import NARROW, visiting
from tests.support.deployment import Deployment

PICTURES = Path(os.environ.get("TAGFERRY_SCREENSHOTS", "build/screenshots"))
VARIANTS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "narrow": {"size": NARROW},
    "chinese": {"language": "zh-CN"},
    "narrow-chinese": {"size": NARROW, "language": "zh-CN", "color_scheme": "dark"},
}


@pytest.fixture(autouse=True)
def pictures() -> None:
    """Make the folder of the pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.timeout(600)
async def test_every_page_is_accessible_and_fits(chromium: Browser, ferry: Deployment, variant: str):
    pages = [Shown("sign-in", "/console/sign-in"), *await fill(ferry)]
    found: list[str] = []
    # Several pages have the same elements; axe judges the contrast of texts that do not move.
    async with visiting(chromium, ferry, reduced_motion="reduce", **VARIANTS[variant]) as visit:
        for shown in pages:
            await visit.open(shown.path, shown.status)
            await visit.page.screenshot(path=PICTURES / f"{shown.name}-{variant}.png", full_page=True)
            found += [f"{shown.name}: {problem}" for problem in await visit.accessibility_problems()]
            if wider := await visit.overflow():
                found.append(f"{shown.name} is {wider} px wider than the window")
            if shown.name == "sign-in":
                await visit.sign_in(ferry.admin.name, ferry.admin.password)

    assert found == []


@pytest.mark.timeout(600)
async def test_markup_from_users_and_registries_runs_nothing(chromium: Browser, ferry: Deployment):
    pages = await fill(ferry)
    # What the content security policy refuses is a problem of the visit, also in what arrives while a page is open.
    async with visiting(chromium, ferry) as visit:
        await visit.sign_in(ferry.admin.name, ferry.admin.password)
        _, more = await plant(ferry)
        for shown in pages + more:
            await visit.open(shown.path, shown.status)
            assert await visit.page.locator("main img, main script").count() == 0, shown
