"""The OpenAPI document describes every operation. `make fuzz` checks the responses against it."""

from pathlib import Path
from typing import Any

from tests.support.deployment import NORTH, SOUTH, Deployment, deployed
from tests.support.sdk_operations import State, operations

TOKEN = "/v2/_token"


async def paths(ferry: Deployment, region: Any = NORTH) -> dict[str, dict[str, Any]]:
    answer = await ferry.http("GET", "/openapi.json", region=region)
    assert answer.status == 200
    found: dict[str, dict[str, Any]] = answer.document["paths"]
    return found


async def test_every_operation_is_in_the_document(ferry: Deployment):
    found = await paths(ferry)
    names = {operation["operationId"] for path in found.values() for operation in path.values()}

    assert {one.name for one in operations() if one.state is not State.ENTERPRISE} <= names
    assert {"KeystoneCreateUser", "UpdateUser", "CreatePermanentAccessKey", "CreateTemporaryAccessKeyByToken"} <= names
    assert set(found[TOKEN]) == {"get", "post"}


async def test_a_region_whose_registry_is_elsewhere_tells_of_no_tokens(tmp_path: Path):
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": ""},
        SOUTH: {"listen": "", "registry": "http://registry.example:5000"},
    }
    async with deployed(tmp_path / "data", regions=regions) as ferry:
        assert TOKEN in await paths(ferry)
        assert TOKEN not in await paths(ferry, SOUTH)
