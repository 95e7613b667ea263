"""Every refusal of `sync_images` says what is wrong in the documented form, and leaves everything as it was."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from tagferry.accounts.model import Permission
from tagferry.db.tables import SyncJobRow
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Answer, Deployment, deployed, name_in

V1 = Tag("V1")
WANTED = {"imageTag": ["V1"], "override": True, "remoteNamespace": "release", "remoteRegionId": SOUTH}
REPOS = "/v2/manage/namespaces/team/repos"
SYNC = f"{REPOS}/app/sync_images"

BAD_PARAMETER, MISSING, BODY_TYPE = "SVCSTG.SWR.4000014", "SVCSTG.SWR.4001014", "SVCSTG.SWR.4001018"
BAD_ORGANIZATION, BAD_REPOSITORY = "SVCSTG.SWR.4001028", "SVCSTG.SWR.4001029"
NO_ORGANIZATION, NO_REPOSITORY = "SVCSTG.SWR.4040058", "SVCSTG.SWR.4040010"
DENIED, NO_API = "SVCSTG.SWR.4039002", "APIGW.0101"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """One for all of these tests, since none changes anything: small limits, and one tag at the source."""
    directory = tmp_path_factory.mktemp("refusals")
    async with deployed(directory, sync={"max_tags_per_request": 3}, limits={"body_bytes": 20_000}) as deployment:
        await images.push(deployment.store(NORTH), name_in("team"), images.image(), V1)
        yield deployment


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in WANTED.items() if name != field}


async def sync(ferry: Deployment, body: Any = WANTED, *, path: str = SYNC, **headers: str) -> Answer:
    sent = {"X-Auth-Token": await ferry.token(), **{name.replace("_", "-"): headers[name] for name in headers}}
    return await ferry.http("POST", path, body=body, headers=sent)


async def assert_nothing_happened(ferry: Deployment) -> None:
    async with ferry.app.accounts.database.read() as session:
        assert list(await session.scalars(select(SyncJobRow.id))) == []
    answer = await ferry.http("GET", f"{REPOS}/app/sync_job", headers={"X-Auth-Token": await ferry.token()})
    assert (answer.document, answer.headers["Content-Range"]) == ([], "0-0/0")
    for region in (NORTH, SOUTH):
        assert await ferry.store(region).head_manifest(name_in("release"), V1) is None


@pytest.mark.parametrize(
    ("wrong", "code", "names"),
    [
        ({"remoteRegionId": "eu-west-1"}, BAD_PARAMETER, ["remoteRegionId", "cn-north-4", "cn-north-208", "eu-west-1"]),
        ({"remoteRegionId": "No Region"}, BAD_PARAMETER, ["remoteRegionId", "No Region"]),
        ({"remoteRegionId": ""}, BAD_PARAMETER, ["remoteRegionId"]),
        ({"remoteRegionId": NORTH, "remoteNamespace": "team"}, BAD_PARAMETER, ["remoteRegionId", "remoteNamespace"]),
        ({"remoteNamespace": "a..b"}, BAD_ORGANIZATION, ["remoteNamespace", "a..b"]),
        ({"remoteNamespace": ""}, BAD_ORGANIZATION, ["remoteNamespace"]),
        ({"remoteNamespace": "Release"}, BAD_ORGANIZATION, ["remoteNamespace", "Release"]),
        ({"remoteNamespace": "r" * 65}, BAD_ORGANIZATION, ["remoteNamespace", "64"]),
        ({"imageTag": []}, BAD_PARAMETER, ["imageTag", "at least one"]),
        ({"imageTag": ["V1", "a/b"]}, BAD_PARAMETER, ["imageTag[1]", "a/b"]),
        ({"imageTag": ["V1", "ok", ""]}, BAD_PARAMETER, ["imageTag[2]", "1 to 128"]),
        ({"imageTag": ["v" * 129]}, BAD_PARAMETER, ["imageTag[0]", "1 to 128"]),
        ({"imageTag": ["V1\n"]}, BAD_PARAMETER, ["imageTag[0]"]),
        ({"imageTag": ["版本"]}, BAD_PARAMETER, ["imageTag[0]", "版本"]),
        ({"imageTag": ["a", "b", "c", "d"]}, BAD_PARAMETER, ["imageTag", "at most 3", "4"]),
        ({"imageTag": "V1"}, BODY_TYPE, ["imageTag", "an array"]),
        ({"imageTag": [1, 2]}, BODY_TYPE, ["imageTag[0]", "a string"]),
        ({"imageTag": ["V1", None]}, BODY_TYPE, ["imageTag[1]", "a string"]),
        ({"imageTag": None}, BODY_TYPE, ["imageTag", "an array"]),
        ({"imageTag": {"0": "V1"}}, BODY_TYPE, ["imageTag", "an array"]),
        ({"override": "true"}, BODY_TYPE, ["override", "true or false"]),
        ({"override": 1}, BODY_TYPE, ["override", "true or false"]),
        ({"override": []}, BODY_TYPE, ["override", "true or false"]),
        ({"remoteNamespace": 5}, BODY_TYPE, ["remoteNamespace", "a string"]),
        ({"remoteNamespace": None}, BODY_TYPE, ["remoteNamespace", "a string"]),
        ({"remoteNamespace": ["release"]}, BODY_TYPE, ["remoteNamespace", "a string"]),
        ({"remoteRegionId": {}}, BODY_TYPE, ["remoteRegionId", "a string"]),
        ({"remoteRegionId": 208}, BODY_TYPE, ["remoteRegionId", "a string"]),
    ],
    ids=str,
)
async def test_a_wrong_field_is_named_with_its_rule(
    ferry: Deployment, wrong: dict[str, Any], code: str, names: list[str]
) -> None:
    status, told, message = (await sync(ferry, {**WANTED, **wrong})).refused()
    assert (status, told) == (400, code)
    assert message.startswith(names[0])
    assert [word for word in names if word not in message] == []
    await assert_nothing_happened(ferry)


@pytest.mark.parametrize("field", ["imageTag", "remoteNamespace", "remoteRegionId"])
async def test_a_missing_field_is_named(ferry: Deployment, field: str) -> None:
    assert (await sync(ferry, without(field))).refused() == (400, MISSING, f"{field} is mandatory")
    await assert_nothing_happened(ferry)


async def test_all_missing_fields_are_told_at_once(ferry: Deployment) -> None:
    answer = await sync(ferry, {})
    answer.refused()
    told = [error["errorMessage"] for error in answer.document["errors"]]
    assert told == [f"{field} is mandatory" for field in ("imageTag", "remoteNamespace", "remoteRegionId")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", MISSING),
        (b"{", BODY_TYPE),
        (b"imageTag=V1", BODY_TYPE),
        (b"[]", BODY_TYPE),
        (b'["V1"]', BODY_TYPE),
        (b"5", BODY_TYPE),
        (b'"V1"', BODY_TYPE),
        (b"null", None),
        (b"true", BODY_TYPE),
        (b'{"imageTag": ["V1"]} {}', BODY_TYPE),
        (b'\xff\xfe{"imageTag"', None),
        (b'{"imageTag": ["\xff\xc0"]}', None),
        (b"[" * 9_000, None),
        (b'{"imageTag":' * 1_500, None),
        (b'{"imageTag": ' + b"[" * 4_000 + b"]" * 4_000 + b"}", None),
        (b'{"imageTag": ["V1"], "override": NaN, "remoteNamespace": "release", "remoteRegionId": "x"}', None),
        (b'{"imageTag": ["\\ud800"], "remoteNamespace": "release", "remoteRegionId": "cn-north-208"}', None),
        (b'{"imageTag": [' + b"9" * 5_000 + b"]}", None),
        (b"\x00", None),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else "",
)
async def test_a_body_that_is_no_json_object_is_refused(ferry: Deployment, body: bytes, code: str | None) -> None:
    status, told, message = (await sync(ferry, body)).refused()
    assert status == 400
    assert told == code or (code is None and told in (BAD_PARAMETER, MISSING, BODY_TYPE))
    assert message
    await assert_nothing_happened(ferry)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json;charset=gbk",
        "application/jsonp",
        "application/json, text/plain",
        "é",
    ],
)
async def test_a_body_of_another_type_is_refused(ferry: Deployment, content_type: str) -> None:
    status, code, message = (await sync(ferry, Content_Type=content_type)).refused()
    assert (status, code) == (400, BAD_PARAMETER)
    assert message.startswith("Content-Type must be application/json")
    await assert_nothing_happened(ferry)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_its_limit_is_refused(ferry: Deployment, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 1_000

    status, code, message = (await sync(ferry, pieces() if chunked else b" " * 30_000)).refused()
    assert (status, code) == (413, "SVCSTG.SWR.4130014")
    assert message.startswith("body must be at most 20000 bytes")
    await assert_nothing_happened(ferry)


@pytest.mark.parametrize(
    ("namespace", "repository", "code", "names"),
    [
        ("a..b", "app", BAD_ORGANIZATION, "namespace"),
        ("Team", "app", BAD_ORGANIZATION, "namespace"),
        ("9team", "app", BAD_ORGANIZATION, "namespace"),
        ("%7Bnamespace%7D", "%7Brepository%7D", BAD_ORGANIZATION, "namespace"),
        ("{namespace}", "{repository}", BAD_ORGANIZATION, "namespace"),
        ("%20", "app", BAD_ORGANIZATION, "namespace"),
        ("team%00", "app", BAD_ORGANIZATION, "namespace"),
        ("team%0A", "app", BAD_ORGANIZATION, "namespace"),
        ("%E7%BB%84", "app", BAD_ORGANIZATION, "namespace"),
        ("%FF", "app", BAD_ORGANIZATION, "namespace"),
        ("t" * 65, "app", BAD_ORGANIZATION, "namespace"),
        ("team", "App", BAD_REPOSITORY, "repository"),
        ("team", "a$$b", BAD_REPOSITORY, "repository"),
        ("team", "$app", BAD_REPOSITORY, "repository"),
        ("team", "app$", BAD_REPOSITORY, "repository"),
        ("team", "a//b", BAD_REPOSITORY, "repository"),
        ("team", "a___b", BAD_REPOSITORY, "repository"),
        ("team", "%7Brepository%7D", BAD_REPOSITORY, "repository"),
        ("team", "a" * 129, BAD_REPOSITORY, "repository"),
    ],
)
async def test_a_bad_name_in_the_path_is_named(
    ferry: Deployment, namespace: str, repository: str, code: str, names: str
) -> None:
    path = f"/v2/manage/namespaces/{namespace}/repos/{repository}/sync_images"
    status, told, message = (await sync(ferry, path=path)).refused()
    assert (status, told) == (400, code)
    assert message.startswith(names)
    await assert_nothing_happened(ferry)


async def test_a_missing_target_organization_is_named_with_its_field(ferry: Deployment) -> None:
    status, code, message = (await sync(ferry, {**WANTED, "remoteNamespace": "nowhere"})).refused()
    assert (status, code) == (404, NO_ORGANIZATION)
    assert "nowhere" in message
    assert "remoteNamespace" in message
    await assert_nothing_happened(ferry)


async def test_a_missing_source_organization_is_told(ferry: Deployment) -> None:
    status, code, message = (await sync(ferry, path="/v2/manage/namespaces/nobody/repos/app/sync_images")).refused()
    assert (status, code) == (404, NO_ORGANIZATION)
    assert 'organization "nobody" in cn-north-4' in message


async def test_a_missing_repository_is_told_and_leaves_no_job(ferry: Deployment) -> None:
    status, code, message = (await sync(ferry, path=f"{REPOS}/nothing/sync_images")).refused()
    assert (status, code) == (404, NO_REPOSITORY)
    assert "team/nothing" in message
    answer = await ferry.http("GET", f"{REPOS}/nothing/sync_job", headers={"X-Auth-Token": await ferry.token()})
    assert answer.document == []


@pytest.mark.parametrize("held", [None, Permission.READ])
async def test_a_user_who_may_not_write_to_the_target_is_refused(ferry: Deployment, held: Permission | None) -> None:
    name = f"reader-{held}"
    password, _ = await ferry.user(name, team=Permission.READ)
    if held is not None:
        await ferry.grant(name, SOUTH, RELEASE, held)

    answer = await sync(ferry, X_Auth_Token=await ferry.token(user=name, password=password))

    status, code, message = answer.refused()
    assert (status, code) == (403, DENIED)
    assert 'edit in the organization "release" of cn-north-208' in message
    await assert_nothing_happened(ferry)


async def test_a_user_who_may_not_read_the_source_is_refused(ferry: Deployment) -> None:
    password, _ = await ferry.user("stranger")
    await ferry.grant("stranger", SOUTH, RELEASE, Permission.EDIT)

    answer = await sync(ferry, X_Auth_Token=await ferry.token(user="stranger", password=password))

    status, code, message = answer.refused()
    assert (status, code) == (403, DENIED)
    assert 'read in the organization "team" of cn-north-4' in message
    await assert_nothing_happened(ferry)


async def test_reading_the_source_and_writing_the_target_is_enough(tmp_path: Path) -> None:
    async with deployed(tmp_path) as ferry:
        await images.push(ferry.store(NORTH), name_in("team"), images.image(), V1)
        password, _ = await ferry.user("carrier", team=Permission.READ)
        await ferry.grant("carrier", SOUTH, RELEASE, Permission.EDIT)
        answer = await sync(ferry, X_Auth_Token=await ferry.token(user="carrier", password=password))
        assert (answer.status, answer.document) == (200, [])


async def test_a_permission_holds_in_its_own_region_only(ferry: Deployment) -> None:
    password, _ = await ferry.user("northerner", team=Permission.MANAGE, release=Permission.MANAGE)
    answer = await sync(ferry, X_Auth_Token=await ferry.token(user="northerner", password=password))
    assert answer.refused()[:2] == (403, DENIED)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/manage/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/v3/nothing", 404),
        ("POST", f"/{SYNC}", 404),
        ("POST", SYNC.upper(), 404),
        ("POST", "/v2/manage/namespaces//repos/app/sync_images", 404),
        ("GET", "/v2/manage/../../etc/passwd", 404),
        ("POST", f"{SYNC}/", 404),
        ("POST", f"{REPOS}/app/sync_image", 405),
        ("PUT", SYNC, 405),
        ("DELETE", SYNC, 405),
        ("PATCH", SYNC, 405),
        ("GET", SYNC, 405),
        ("DELETE", f"{REPOS}/app/tags", 405),
        ("PATCH", f"{REPOS}/app/tags/v1", 405),
        ("HEAD", SYNC, 405),
        ("OPTIONS", SYNC, 405),
        ("PROPFIND", SYNC, 405),
        ("POST", "/v2/manage/regions", 405),
        ("PUT", "/v3/auth/tokens", 405),
        ("PUT", "/healthz", 405),
    ],
)
async def test_a_path_or_method_that_the_api_lacks_is_refused(
    ferry: Deployment, method: str, path: str, status: int
) -> None:
    answer = await ferry.http(method, path, headers={"X-Auth-Token": await ferry.token()})
    assert answer.status == status
    assert answer.headers["X-Request-Id"]
    assert ("Allow" in answer.headers) == (status == 405)
    if method != "HEAD":
        assert answer.refused()[1] == NO_API
    await assert_nothing_happened(ferry)


@pytest.mark.parametrize("token", [None, "", "unknown", "é", "x" * 5_000])
@pytest.mark.parametrize("body", [b"{", b"", b'{"imageTag": 1}'], ids=["broken", "empty", "wrong"])
async def test_who_sent_it_is_asked_before_anything_of_the_request_is_looked_at(
    ferry: Deployment, token: str | None, body: bytes
) -> None:
    headers = {"Content-Type": "text/plain"} | ({} if token is None else {"X-Auth-Token": token})
    for path in (SYNC, "/v2/manage/namespaces/a..b/repos/app/sync_images"):
        answer = await ferry.http("POST", path, body=body, headers=headers)
        assert answer.refused()[:2] == (401, "SVCSTG.SWR.4010000")
    answer = await ferry.http("POST", "/v2/manage/nothing", body=body, headers=headers)
    # The paths are not secret, and authentication cannot proceed without credentials.
    assert answer.refused()[:2] == (401, "SVCSTG.SWR.4010000") if token else (404, NO_API)
    await assert_nothing_happened(ferry)


async def test_a_path_that_no_api_has_is_reported_without_credentials(ferry: Deployment) -> None:
    assert (await ferry.http("POST", "/v2/manage/nothing", body=b"{")).refused()[:2] == (404, NO_API)


async def test_a_request_without_credentials_is_told_what_it_lacks(ferry: Deployment) -> None:
    status, _, message = (await ferry.http("POST", SYNC, body=WANTED)).refused()
    assert status == 401
    assert "missing credentials; sign the request" in message
    assert "X-Auth-Token" in message


async def test_an_expired_token_is_told_from_where_to_get_a_new_one(tmp_path: Path) -> None:
    async with deployed(tmp_path / "data", limits={"token_lifetime_hours": 0.000001}) as ferry:
        status, code, message = (await sync(ferry)).refused()
        assert (status, code) == (401, "SVCSTG.SWR.4010000")
        assert "expired" in message
        assert "/v3/auth/tokens" in message


async def test_a_deleted_users_token_is_worth_nothing(ferry: Deployment) -> None:
    password, _ = await ferry.user("leaver", team=Permission.READ)
    token = await ferry.token(user="leaver", password=password)
    leaver = await ferry.app.accounts.users.find("leaver")
    await ferry.app.accounts.users.delete(leaver.user_id)
    assert (await sync(ferry, X_Auth_Token=token)).refused()[:2] == (401, "SVCSTG.SWR.4010000")


async def test_an_organization_that_is_gone_refuses_like_one_that_never_was(tmp_path: Path) -> None:
    async with deployed(tmp_path) as ferry:
        await ferry.app.accounts.organizations.delete(NORTH, TEAM)
        assert (await sync(ferry)).refused()[:2] == (404, NO_ORGANIZATION)
