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


async def test_every_response_of_iam_names_its_fields(ferry: Deployment):
    unnamed = []
    for path, methods in (await paths(ferry)).items():
        if not path.startswith(("/v3/", "/v3.0/")) or path.startswith("/v3/manage/"):
            continue
        for operation in methods.values():
            for status, response in operation["responses"].items():
                described = response.get("content", {}).get("application/json")
                if status < "3" and described is not None and "$ref" not in described["schema"]:
                    unnamed.append(operation["operationId"])
    assert unnamed == []


async def test_no_two_models_share_a_name(ferry: Deployment):
    document = (await ferry.http("GET", "/openapi.json")).document
    assert [name for name in document["components"]["schemas"] if "__" in name] == []


async def test_a_region_whose_registry_is_elsewhere_tells_of_no_tokens(tmp_path: Path):
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": ""},
        SOUTH: {"listen": "", "registry": "http://registry.example:5000"},
    }
    async with deployed(tmp_path / "data", regions=regions) as ferry:
        assert TOKEN in await paths(ferry)
        assert TOKEN not in await paths(ferry, SOUTH)
