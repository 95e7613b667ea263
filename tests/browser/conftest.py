"""Chromium at a running tagferry."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.support.deployment import Deployment, deployed
from tests.support.programs import require_program


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture
async def ferry(tmp_path: Path) -> AsyncIterator[Deployment]:
    """Two embedded regions, `cn-north-4` and `cn-north-208`, each with the organizations `team` and `release`."""
    async with deployed(tmp_path / "data") as deployment:
        yield deployment


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """A running Chromium."""
    # Chromium refuses to run as root with its sandbox, which a container does not have anyway.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        path = require_program("chromium")
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        await browser.close()
