"""Browsers for the tests of the console."""

import pytest

from tests.support.browser import Browser
from tests.support.deployment import NORTH, Deployment


@pytest.fixture
def browser(ferry: Deployment) -> Browser:
    """A browser at `cn-north-4`, not signed in."""
    return Browser(ferry.urls[NORTH])


@pytest.fixture
async def administrator(ferry: Deployment, browser: Browser) -> Browser:
    """A browser in which the administrator is signed in."""
    await browser.sign_in(ferry.admin.name, ferry.admin.password)
    return browser
