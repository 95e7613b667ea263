"""An embedded region and one of each other kind, and the clients to use with them."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.interop.programs import CRANE, DISTRIBUTION, REGCTL, Client, built
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed
from tests.support.docker_registry import docker_registry


@pytest.fixture(params=["to an embedded region", "to distribution 3"])
async def ferry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deployment]:
    with ExitStack() as stack:
        regions: dict[str, dict[str, Any]] = {NORTH: {"listen": ""}, SOUTH: {"listen": ""}}
        if request.param == "to distribution 3":
            folder = tmp_path / "distribution"
            folder.mkdir()
            url = stack.enter_context(docker_registry(folder, program=built(DISTRIBUTION))).url
            regions[SOUTH] = {"registry": url, "organizations": "open"}
        async with deployed(tmp_path / "ferry", regions=regions) as deployment:
            yield deployment


@pytest.fixture
async def crane(tmp_path: Path, ferry: Deployment) -> Client:
    """crane, logged in if requested."""
    client = Client(built(CRANE), tmp_path)
    for region in ferry.urls:
        host = ferry.app.services.swr.regions[region].registry_host
        await client.run("auth", "login", host, "-u", ferry.admin.name, "-p", ferry.admin.password)
    return client


@pytest.fixture
async def regctl(tmp_path: Path, ferry: Deployment) -> Client:
    """regctl, logged in if requested."""
    client = Client(built(REGCTL), tmp_path)
    for region in (NORTH, SOUTH):
        host = ferry.app.services.swr.regions[region].registry_host
        await client.run("registry", "set", "--tls", "disabled", host)
        if region in ferry.urls:
            await client.run("registry", "login", host, "-u", ferry.admin.name, "-p", ferry.admin.password)
    return client
