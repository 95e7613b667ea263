"""IAM: tokens and their validation, projects, temporary access keys by the unmodified SDK, permanent ones."""

import itertools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkswr.v2 import CreateSecretRequest, ListNamespacesRequest

from tagferry import signing
from tagferry.accounts.model import AccessKey, Permission
from tests.support.deployment import NORTH, RELEASE, SOUTH, Answer, Deployment, calling, deployed

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = "/v3/auth/tokens"
TEMPORARY = "/v3.0/OS-CREDENTIAL/securitytokens"
CREDENTIALS = "/v3.0/OS-CREDENTIAL/credentials"
_numbers = itertools.count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("iam")) as deployment:
        yield deployment


@pytest_asyncio.fixture(loop_scope="module")
async def carol(ferry: Deployment) -> str:
    """A new user who may read in `team`."""
    name = f"carol-{next(_numbers)}"
    await ferry.user(name, team=Permission.READ)
    return name


async def token_of(ferry: Deployment, name: str) -> str:
    return await ferry.token(user=name, password=f"password of {name}")


async def ask_for_token(ferry: Deployment, identity: dict[str, Any], scope: Any = None) -> Answer:
    auth = {"identity": identity} | ({} if scope is None else {"scope": scope})
    return await ferry.http("POST", TOKENS, body={"auth": auth})


def by_key(key: AccessKey) -> dict[str, Any]:
    return {
        "methods": ["hw_ak_sk"],
        "hw_ak_sk": {"access": {"key": key.access_key}, "secret": {"key": key.secret_key}},
    }


def by_password(name: str) -> dict[str, Any]:
    return {"methods": ["password"], "password": {"user": {"name": name, "password": f"password of {name}"}}}


async def validate(ferry: Deployment, subject: str, token: str, query: str = "") -> Answer:
    return await ferry.http("GET", f"{TOKENS}{query}", headers={"X-Auth-Token": token, "X-Subject-Token": subject})


async def test_a_token_is_got_by_an_access_key(ferry: Deployment, carol: str) -> None:
    key = await ferry.key(carol)
    answer = await ask_for_token(ferry, by_key(key), {"project": {"name": NORTH}})
    assert answer.status == 201
    token = answer.document["token"]
    assert (token["methods"], token["user"]["name"], token["project"]["name"]) == (["hw_ak_sk"], carol, NORTH)
    headers = {"X-Auth-Token": answer.headers["X-Subject-Token"]}
    assert (await ferry.http("GET", "/v2/manage/regions", headers=headers)).status == 200
    await ferry.app.accounts.keys.delete(key.access_key)
    assert (await ferry.http("GET", "/v2/manage/regions", headers=headers)).refused()[0] == 401


async def test_five_wrong_secret_keys_lock_the_access_key(ferry: Deployment, carol: str) -> None:
    key = await ferry.key(carol)
    wrong = by_key(AccessKey(key.access_key, "x" * 40))
    answers = [(await ask_for_token(ferry, wrong)).refused()[:2] for _ in range(6)]
    assert answers == [(401, "SVCSTG.SWR.4010000")] * 5 + [(429, "APIGW.0308")]
    with pytest.raises(ClientRequestException) as locked:
        await calling(ferry.sdk(key=key).list_namespaces, ListNamespacesRequest())
    assert locked.value.status_code == 429


@pytest.mark.parametrize(
    ("identity", "names"),
    [
        ({"methods": ["hw_ak_sk"]}, "auth.identity.hw_ak_sk is mandatory"),
        ({"methods": ["hw_ak_sk"], "hw_ak_sk": {"access": {"key": "A"}}}, "auth.identity.hw_ak_sk.secret is mandatory"),
        ({"methods": ["hw_ak_sk", "password"]}, 'auth.identity.methods must be ["password"], ["token"], ["hw_ak_sk"]'),
        ({"methods": ["assume_role"]}, 'auth.identity.methods must be ["password"], ["token"], ["hw_ak_sk"]'),
    ],
    ids=str,
)
async def test_a_wrong_identity_is_named(ferry: Deployment, identity: dict[str, Any], names: str) -> None:
    status, _, message = (await ask_for_token(ferry, identity)).refused()
    assert status == 400
    assert message.startswith(names)


async def test_a_token_is_for_a_project_or_the_domain_and_its_validation_tells_so(
    ferry: Deployment, carol: str
) -> None:
    plain = (await ask_for_token(ferry, by_password(carol))).document["token"]
    domain = plain["domain"]
    headers = {"X-Auth-Token": await token_of(ferry, carol)}
    projects = (await ferry.http("GET", "/v3/projects", headers=headers)).document["projects"]
    ids = {project["name"]: project["id"] for project in projects}
    scopes: list[tuple[Any, str | None]] = [
        ({"project": {"name": SOUTH}}, SOUTH),
        ({"project": {"id": ids[NORTH]}}, NORTH),
        ({"project": {"name": NORTH, "id": ids[NORTH], "domain": domain}}, NORTH),
        ({"domain": {"name": domain["name"]}}, None),
        ({"domain": {"id": domain["id"]}}, None),
        ({}, None),
    ]
    for scope, project in scopes:
        got = await ask_for_token(ferry, by_password(carol), scope)
        value, token = got.headers["X-Subject-Token"], got.document["token"]
        wanted = {"domain": domain} if project is None else {}
        assert {field: token[field] for field in ("domain",) if field in token} == wanted
        if project is not None:
            assert token["project"] == {"id": ids[project], "name": project, "domain": domain}
        told = await validate(ferry, value, value)
        assert (told.status, told.headers["X-Subject-Token"], told.document) == (200, value, got.document)


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({"project": {"name": "eu-west-1"}}, 404),
        ({"project": {"id": "0" * 32}}, 404),
        ({"project": {}}, 400),
        ({"project": {"name": "", "id": ""}}, 400),
        ({"domain": {"name": "nobody's"}}, 404),
    ],
    ids=str,
)
async def test_a_scope_that_does_not_exist_is_refused(
    ferry: Deployment, carol: str, scope: dict[str, Any], status: int
) -> None:
    answer = (await ask_for_token(ferry, by_password(carol), scope)).refused()
    assert answer[:2] == (status, {404: "IAM.0004", 400: "SVCSTG.SWR.4001014"}[status])


@pytest.mark.parametrize("kind", ["project", "domain"])
async def test_a_scope_is_text_and_what_is_empty_of_it_is_left_out(ferry: Deployment, carol: str, kind: str) -> None:
    names = {"project": NORTH, "domain": "tagferry"}
    for field in ("name", "id"):
        refused = (await ask_for_token(ferry, by_password(carol), {kind: {field: "\ud800"}})).refused()
        assert refused[0] == 400
        assert refused[2].startswith(f"auth.scope.{kind}.{field} must be text")
        missing = (await ask_for_token(ferry, by_password(carol), {kind: {field: "x" * 100_000}})).refused()
        assert missing[:2] == (404, "IAM.0004")
        assert len(missing[2]) < 300
    answer = await ask_for_token(ferry, by_password(carol), {kind: {"name": names[kind], "id": ""}})
    assert answer.document["token"][kind]["name"] == names[kind]
    identity = by_password(carol)
    identity["password"]["user"]["domain"] = {"name": "", "id": ""}
    assert (await ask_for_token(ferry, identity)).status == 201


async def test_a_token_is_validated_by_its_owner_and_by_administrators_only(ferry: Deployment, carol: str) -> None:
    admin, own = await ferry.token(), await token_of(ferry, carol)
    assert (await validate(ferry, own, admin)).document["token"]["user"]["name"] == carol
    assert (await validate(ferry, own, await token_of(ferry, carol))).status == 200
    assert (await validate(ferry, admin, own)).refused()[:2] == (403, "SVCSTG.SWR.4039002")
    assert "catalog" in (await validate(ferry, own, own)).document["token"]
    assert "catalog" not in (await validate(ferry, own, own, "?nocatalog=1")).document["token"]
    await ferry.app.accounts.users.create("outsider", "password of outsider", domain="elsewhere")
    outside = await token_of(ferry, "outsider")
    assert (await validate(ferry, outside, admin)).document["token"]["user"]["domain"]["name"] == "elsewhere"
    assert (await validate(ferry, own, outside)).refused()[0] == 403


async def test_an_unknown_or_expired_token_is_not_validated(ferry: Deployment, carol: str) -> None:
    own = await token_of(ferry, carol)
    assert (await validate(ferry, "unknown", own)).refused()[:2] == (404, "IAM.0004")
    missing = (await ferry.http("GET", TOKENS, headers={"X-Auth-Token": own})).refused()
    assert missing == (400, "SVCSTG.SWR.4001014", "X-Subject-Token is mandatory")
    assert (await ferry.http("GET", TOKENS, headers={"X-Subject-Token": own})).refused()[0] == 401
    with ferry.later(timedelta(hours=24)):
        assert (await validate(ferry, own, own)).refused()[:2] == (401, "SVCSTG.SWR.4010000")
        assert (await validate(ferry, own, await token_of(ferry, carol))).refused()[:2] == (404, "IAM.0004")


async def test_projects_are_listed_by_domain_and_shown(ferry: Deployment, carol: str) -> None:
    headers = {"X-Auth-Token": await token_of(ferry, carol)}
    projects = (await ferry.http("GET", "/v3/auth/projects", headers=headers)).document["projects"]
    assert [project["name"] for project in projects] == [NORTH, SOUTH]
    mine = await ferry.http("GET", f"/v3/projects?domain_id={projects[0]['domain_id']}", headers=headers)
    assert mine.document["projects"] == projects
    assert (await ferry.http("GET", "/v3/projects?domain_id=x", headers=headers)).document["projects"] == []
    shown = await ferry.http("GET", f"/v3/projects/{projects[1]['id']}", headers=headers)
    assert shown.document == {"project": projects[1]}
    assert (await ferry.http("GET", "/v3/projects/x", headers=headers)).refused()[:2] == (404, "IAM.0004")


async def temporary_key(ferry: Deployment, name: str, **token: Any) -> dict[str, str]:
    """A temporary access key, got by a token in the header."""
    body = {"auth": {"identity": {"methods": ["token"], "token": token}}}
    answer = await ferry.http("POST", TEMPORARY, body=body, headers={"X-Auth-Token": await token_of(ferry, name)})
    assert answer.status == 201, answer.content
    credential: dict[str, str] = answer.document["credential"]
    assert set(credential) == {"access", "secret", "securitytoken", "expires_at"}
    return credential


async def namespaces(ferry: Deployment, credential: dict[str, str], token: str | None = None) -> list[str]:
    """Call the API with a temporary access key, and its own or another security token."""
    key = AccessKey(credential["access"], credential["secret"])
    client = ferry.sdk(key=key, security_token=credential["securitytoken"] if token is None else token or None)
    found = await calling(client.list_namespaces, ListNamespacesRequest())
    return [one.name for one in found.namespaces]


async def refusal(ferry: Deployment, credential: dict[str, str], token: str | None = None) -> tuple[int, str, str]:
    with pytest.raises(ClientRequestException) as refused:
        await namespaces(ferry, credential, token)
    return refused.value.status_code, refused.value.error_code, refused.value.error_msg


async def test_the_sdk_signs_with_a_temporary_key_until_it_expires(ferry: Deployment, carol: str) -> None:
    credential = await temporary_key(ferry, carol)
    assert await namespaces(ferry, credential) == ["team"]
    with ferry.later(timedelta(minutes=14)):
        assert await namespaces(ferry, credential) == ["team"]
    with ferry.later(timedelta(minutes=15)):
        status, code, message = await refusal(ferry, credential)
        assert (status, code) == (401, "SVCSTG.SWR.4010000")
        assert "has expired" in message


async def test_a_temporary_key_without_its_token_or_with_another_is_refused(ferry: Deployment, carol: str) -> None:
    credential, other = await temporary_key(ferry, carol), await temporary_key(ferry, carol)
    status, code, message = await refusal(ferry, credential, "")
    assert (status, code) == (401, "SVCSTG.SWR.4000031")
    assert "needs its X-Security-Token" in message
    for wrong in (other["securitytoken"], "wrong"):
        status, code, message = await refusal(ferry, credential, wrong)
        assert (status, code) == (401, "SVCSTG.SWR.4000031")
        assert credential["securitytoken"] not in message
    forged = credential | {"secret": other["secret"]}
    assert (await refusal(ferry, forged))[:2] == (401, "SVCSTG.SWR.4000031")
    assert await namespaces(ferry, credential) == ["team"]
    assert (await refusal(ferry, forged))[0] == 401
    for _ in range(4):
        await refusal(ferry, forged)
    assert (await refusal(ferry, credential))[0] == 429


@pytest.mark.parametrize("seconds", [3600, "3600"])
async def test_a_temporary_key_lasts_as_long_as_asked(ferry: Deployment, carol: str, seconds: int | str) -> None:
    credential = await temporary_key(ferry, carol, duration_seconds=seconds)
    with ferry.later(timedelta(minutes=59)):
        assert await namespaces(ferry, credential) == ["team"]
    with ferry.later(timedelta(minutes=60)):
        assert (await refusal(ferry, credential))[0] == 401


async def test_a_temporary_key_has_its_users_permissions_of_the_moment(ferry: Deployment, carol: str) -> None:
    credential = await temporary_key(ferry, carol)
    await ferry.grant(carol, SOUTH, RELEASE, Permission.READ)
    key = AccessKey(credential["access"], credential["secret"])
    south = ferry.sdk(SOUTH, key, security_token=credential["securitytoken"])
    found = await calling(south.list_namespaces, ListNamespacesRequest())
    assert [one.name for one in found.namespaces] == ["release"]
    user = await ferry.app.accounts.users.find(carol)
    await ferry.app.accounts.users.delete(user.user_id)
    assert (await refusal(ferry, credential))[:2] == (401, "SVCSTG.SWR.4000031")


async def test_a_temporary_key_is_got_by_a_token_in_the_body_too(ferry: Deployment, carol: str) -> None:
    token = {"id": await token_of(ferry, carol), "duration_seconds": 900}
    body = {"auth": {"identity": {"methods": ["token"], "token": token}}}
    answer = await ferry.http("POST", TEMPORARY, body=body)
    assert answer.status == 201
    assert await namespaces(ferry, answer.document["credential"]) == ["team"]
    # Credentials in the headers take precedence; if they are wrong, those in the body are not used.
    answer = await ferry.http("POST", TEMPORARY, body=body, headers={"X-Auth-Token": "unknown"})
    assert answer.refused()[0] == 401


@pytest.mark.parametrize("token", [{}, {"id": ""}, {"id": "unknown"}, {"id": "\ud800"}], ids=str)
async def test_nobody_gets_a_temporary_key(ferry: Deployment, token: dict[str, str]) -> None:
    body = {"auth": {"identity": {"methods": ["token"], "token": token}}}
    assert (await ferry.http("POST", TEMPORARY, body=body)).refused()[:2] == (401, "SVCSTG.SWR.4010000")


@pytest.mark.parametrize(
    ("identity", "names"),
    [
        ({"methods": ["assume_role"]}, "auth.identity.methods"),
        ({"methods": ["token"], "policy": {}}, "auth.identity.policy is not supported"),
        (
            {"methods": ["token"], "token": {"duration_seconds": 899}},
            "auth.identity.token.duration_seconds must be 900",
        ),
        ({"methods": ["token"], "token": {"duration_seconds": 86401}}, "auth.identity.token.duration_seconds must be"),
        ({"methods": ["token"], "token": {"duration_seconds": "9" * 5000}}, "auth.identity.token.duration_seconds"),
        ({"methods": ["token"], "token": {"duration_seconds": "-1"}}, "auth.identity.token.duration_seconds must be"),
        ({"methods": ["token"], "token": {"duration_seconds": True}}, "auth.identity.token.duration_seconds must be"),
        ({"token": {}}, "auth.identity.methods is mandatory"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_temporary_key_request_with_a_wrong_field_names_it(
    ferry: Deployment, identity: dict[str, Any], names: str
) -> None:
    headers = {"X-Auth-Token": await ferry.token()}
    answer = await ferry.http("POST", TEMPORARY, body={"auth": {"identity": identity}}, headers=headers)
    status, _, message = answer.refused()
    assert status == 400
    assert message.startswith(names)


async def test_a_temporary_key_neither_renews_itself_nor_makes_what_lasts(ferry: Deployment, carol: str) -> None:
    credential = await temporary_key(ferry, carol)
    key = AccessKey(credential["access"], credential["secret"])
    sdk = ferry.sdk(key=key, security_token=credential["securitytoken"])
    secret = await calling(sdk.create_secret, CreateSecretRequest())
    assert secret.x_swr_expireat == credential["expires_at"]
    user_id = (await ferry.app.accounts.users.find(carol)).user_id
    refused = []
    for method, path, body in (
        ("POST", CREDENTIALS, {"credential": {"user_id": user_id}}),
        ("DELETE", f"{CREDENTIALS}/{'A' * 20}", None),
        ("POST", TEMPORARY, {"auth": {"identity": {"methods": ["token"], "token": {"duration_seconds": 86400}}}}),
    ):
        answer = await signed(ferry, key, method, path, body, {"X-Security-Token": credential["securitytoken"]})
        refused.append(answer.status)
    assert refused == [403, 403, 201]
    assert answer.document["credential"]["expires_at"] == credential["expires_at"]


async def signed(
    ferry: Deployment, key: AccessKey, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    """A request to IAM, signed."""
    content = b"" if body is None else json.dumps(body).encode()
    sent = {"Host": ferry.urls[NORTH].removeprefix("http://"), **(headers or {})}
    request = signing.Request(method=method, path=path, query="", headers=list(sent.items()), body=content)
    added = signing.sign(request, key.access_key, key.secret_key, now=datetime.now(UTC))
    return await ferry.http(method, path, body=content or None, headers=sent | added)


async def test_a_user_makes_lists_and_deletes_its_own_keys(ferry: Deployment, carol: str) -> None:
    user_id = (await ferry.app.accounts.users.find(carol)).user_id
    headers = {"X-Auth-Token": await token_of(ferry, carol)}
    wanted = {"credential": {"user_id": user_id, "description": "the nightly build"}}
    answer = await ferry.http("POST", CREDENTIALS, body=wanted, headers=headers)
    assert answer.status == 201
    made = answer.document["credential"]
    assert (made["user_id"], made["description"], made["status"]) == (user_id, "the nightly build", "active")

    listed = (await ferry.http("GET", f"{CREDENTIALS}?user_id={user_id}", headers=headers)).document["credentials"]
    assert len(listed) == 2
    assert listed[1] == {field: value for field, value in made.items() if field != "secret"}
    assert (await ferry.http("GET", CREDENTIALS, headers=headers)).document["credentials"] == listed

    key = AccessKey(made["access"], made["secret"])
    assert (await signed(ferry, key, "GET", "/v2/manage/regions")).status == 200
    assert (await signed(ferry, key, "DELETE", f"{CREDENTIALS}/{key.access_key}")).status == 204
    assert (await signed(ferry, key, "GET", "/v2/manage/regions")).refused()[0] == 401
    gone = (await ferry.http("DELETE", f"{CREDENTIALS}/{key.access_key}", headers=headers)).refused()
    assert gone[:2] == (404, "IAM.0004")


async def test_nobody_has_anothers_keys_by_the_api(ferry: Deployment, carol: str) -> None:
    other = await ferry.app.accounts.users.find(ferry.admin.name)
    headers = {"X-Auth-Token": await token_of(ferry, carol)}
    body = {"credential": {"user_id": other.user_id}}
    assert (await ferry.http("POST", CREDENTIALS, body=body, headers=headers)).refused()[0] == 403
    assert (await ferry.http("GET", f"{CREDENTIALS}?user_id={other.user_id}", headers=headers)).refused()[0] == 403
    path = f"{CREDENTIALS}/{ferry.admin.key.access_key}"
    assert (await ferry.http("DELETE", path, headers=headers)).refused()[:2] == (404, "IAM.0004")
    assert await ferry.app.accounts.keys.by_key(ferry.admin.key.access_key) is not None


async def test_a_key_request_with_a_wrong_field_names_it(ferry: Deployment, carol: str) -> None:
    user_id = (await ferry.app.accounts.users.find(carol)).user_id
    headers = {"X-Auth-Token": await token_of(ferry, carol)}
    for wanted, names in (
        ({}, "credential.user_id is mandatory"),
        ({"user_id": user_id, "description": "x" * 256}, "description must be at most 255"),
        ({"user_id": user_id, "description": "\0"}, "description must be at most 255"),
        ({"user_id": user_id, "description": "\ud800"}, "credential.description must be text"),
        ({"user_id": 1}, "credential.user_id must be a string"),
    ):
        answer = await ferry.http("POST", CREDENTIALS, body={"credential": wanted}, headers=headers)
        status, _, message = answer.refused()
        assert status == 400
        assert message.startswith(names)
