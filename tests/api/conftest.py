"""A running tagferry for every test of the API."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.deployment import Deployment, deployed


@pytest.fixture
async def ferry(tmp_path: Path) -> AsyncIterator[Deployment]:
    """Two embedded regions, `cn-north-4` and `cn-north-208`, each with the organizations `team` and `release`."""
    async with deployed(tmp_path / "data") as deployment:
        yield deployment
