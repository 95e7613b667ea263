"""Login secrets created with the unmodified SWR SDK, and what they give access to."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkcore.exceptions.exceptions import ServerResponseException
from huaweicloudsdkswr.v2 import CreateAuthorizationTokenRequest, CreateSecretRequest

from tagferry.accounts.model import AccessKey, Permission
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, TEAM, Answer, Deployment, calling, deployed, name_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "/v2/manage/utils/secret"
OPERATIONS = {
    "create_secret": (CreateSecretRequest(), NORTH),
    "create_authorization_token": (CreateAuthorizationTokenRequest(), "bearertoken"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("secrets")) as deployment:
        await images.push(deployment.store(NORTH), name_in("team"), images.image(), Tag("v1"))
        yield deployment


async def create(ferry: Deployment, key: AccessKey | None = None, operation: str = "create_secret") -> Any:
    return await calling(getattr(ferry.sdk(key=key), operation), OPERATIONS[operation][0])


def auth_of(given: Any) -> str:
    """Return the login of the response, as docker sends it."""
    ((_, info),) = given.auths.items()
    auth: str = info.auth
    return auth


async def pull(ferry: Deployment, auth: str) -> Answer:
    return await ferry.http("GET", "/v2/team/app/manifests/v1", headers={"Authorization": f"Basic {auth}"})


async def start_push(ferry: Deployment, auth: str) -> Answer:
    return await ferry.http("POST", "/v2/team/app/blobs/uploads/", headers={"Authorization": f"Basic {auth}"})


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_secret_is_a_login_of_the_regions_registry(ferry: Deployment, operation: str) -> None:
    before = datetime.now(UTC)
    given = await create(ferry, operation=operation)

    ((host, info),) = given.auths.items()
    username, _, password = base64.b64decode(info.auth).decode().partition(":")
    prefix, _, access_key = username.partition("@")
    assert host == ferry.urls[NORTH].removeprefix("http://")
    assert (prefix, len(access_key), access_key.isalnum()) == (OPERATIONS[operation][1], 20, True)
    assert given.x_swr_dockerlogin == f"docker login -u {username} -p {password}"
    expires_at = datetime.strptime(given.x_swr_expireat, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert timedelta(0) <= expires_at - before - timedelta(hours=6) < timedelta(minutes=1)
    assert (await pull(ferry, info.auth)).status == 200
    assert (await start_push(ferry, info.auth)).status == 202


async def test_each_secret_is_another_and_is_not_for_the_management_api(ferry: Deployment) -> None:
    first, second = [auth_of(await create(ferry)) for _ in range(2)]
    assert first != second
    answer = await ferry.http("GET", "/v2/manage/regions", headers={"Authorization": f"Basic {first}"})
    assert answer.refused()[0] == 401


async def test_a_secret_is_refused_the_moment_it_expires(ferry: Deployment) -> None:
    auth = auth_of(await create(ferry))
    with ferry.later(timedelta(hours=5, minutes=59)):
        assert (await pull(ferry, auth)).status == 200
    with ferry.later(timedelta(hours=6)):
        answer = await pull(ferry, auth)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        (error,) = answer.document["errors"]
        assert error["code"] == "UNAUTHORIZED"
        assert "has expired" in error["message"]


async def test_the_call_may_ask_for_another_time(ferry: Deployment) -> None:
    headers = {"X-Auth-Token": await ferry.token()}
    given = await ferry.http("POST", f"{SECRET}?projectname={NORTH}&duration_seconds=900", headers=headers)
    assert given.status == 200
    assert given.headers["Cache-Control"] == "no-store"
    ((_, info),) = given.document["auths"].items()
    assert (await pull(ferry, info["auth"])).status == 200
    with ferry.later(timedelta(minutes=15)):
        assert (await pull(ferry, info["auth"])).status == 401


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("duration_seconds=899", "duration_seconds must be 900 to 86400 seconds"),
        ("duration_seconds=86401", "duration_seconds must be 900 to 86400 seconds"),
        ("duration_seconds=soon", "duration_seconds must be a whole number"),
        (f"projectname={SOUTH}", f"projectname must be the region's project, {NORTH}"),
        ("projectname=eu-west-1", "projectname must be the region's project"),
    ],
)
async def test_a_wrong_parameter_is_named(ferry: Deployment, query: str, names: str) -> None:
    answer = await ferry.http("POST", f"{SECRET}?{query}", headers={"X-Auth-Token": await ferry.token()})
    status, code, message = answer.refused()
    assert (status, code) == (400, "SVCSTG.SWR.4000014")
    assert message.startswith(names)


async def test_a_secret_has_its_users_permissions_of_the_moment(ferry: Deployment) -> None:
    _, key = await ferry.user("climber")
    auth = auth_of(await create(ferry, key))
    assert (await pull(ferry, auth)).status == 403
    await ferry.grant("climber", NORTH, TEAM, Permission.READ)
    assert (await pull(ferry, auth)).status == 200
    assert (await start_push(ferry, auth)).status == 403
    await ferry.grant("climber", NORTH, TEAM, Permission.EDIT)
    assert (await start_push(ferry, auth)).status == 202


async def test_a_secret_ends_with_the_key_that_it_was_got_by(ferry: Deployment) -> None:
    _, key = await ferry.user("rotator", team=Permission.READ)
    auth = auth_of(await create(ferry, key))
    assert (await pull(ferry, auth)).status == 200
    await ferry.app.accounts.keys.delete(key.access_key)
    assert (await pull(ferry, auth)).status == 401


@pytest.mark.parametrize("end", ["delete", "update"])
async def test_a_secret_got_by_a_token_ends_with_the_user_or_its_password(ferry: Deployment, end: str) -> None:
    name = f"leaver-{end}"
    password, _ = await ferry.user(name, team=Permission.READ)
    headers = {"X-Auth-Token": await ferry.token(user=name, password=password)}
    ((_, info),) = (await ferry.http("POST", SECRET, headers=headers)).document["auths"].items()
    assert (await pull(ferry, info["auth"])).status == 200
    users = ferry.app.accounts.users
    user_id = (await users.find(name)).user_id
    await (users.delete(user_id) if end == "delete" else users.update(user_id, password="another password"))
    assert (await pull(ferry, info["auth"])).status == 401


async def test_five_wrong_secrets_lock_the_name(ferry: Deployment) -> None:
    username, _, password = base64.b64decode(auth_of(await create(ferry))).decode().partition(":")
    right, wrong = [base64.b64encode(f"{username}:{one}".encode()).decode() for one in (password, f"x{password[1:]}")]
    assert [(await pull(ferry, wrong)).status for _ in range(6)] == [401] * 5 + [429]
    assert (await pull(ferry, right)).status == 429


async def test_a_region_whose_registry_is_elsewhere_tells_where_it_is(tmp_path: Path) -> None:
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": "", "registry": "http://registry.example:5000"},
        SOUTH: {"listen": ""},
    }
    async with deployed(tmp_path, regions=regions) as ferry:
        for operation in OPERATIONS:
            with pytest.raises(ServerResponseException) as refused:
                await create(ferry, operation=operation)
            assert (refused.value.status_code, refused.value.error_code) == (501, "SVCSTG.SWR.5010001")
            assert "http://registry.example:5000" in refused.value.error_msg


async def test_the_time_that_secrets_last_can_be_set(tmp_path: Path) -> None:
    async with deployed(tmp_path, limits={"login_secret_lifetime_hours": 1}) as ferry:
        given = await create(ferry)
        auth = auth_of(given)
        with ferry.later(timedelta(minutes=59)):
            assert (await ferry.http("GET", "/v2/", headers={"Authorization": f"Basic {auth}"})).status == 200
        with ferry.later(timedelta(hours=1)):
            assert (await ferry.http("GET", "/v2/", headers={"Authorization": f"Basic {auth}"})).status == 401
