"""A field that an operation does not know is named, or refused, and never ignored silently by default."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkiam import v3 as iam
from structlog.testing import capture_logs

from tagferry import bounds
from tests.support.deployment import NORTH, Deployment, deployed
from tests.support.sdk_calls import ask_iam

pytestmark = pytest.mark.asyncio(loop_scope="module")
HEADER = "X-Tagferry-Ignored-Fields"
ORGANIZATIONS = "/v2/manage/namespaces"
RETENTIONS = "/v2/manage/namespaces/team/repos/app/retentions"
FOREIGN = {"/notifications"}
"""Registries send more fields to these paths than tagferry reads."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("unknown")) as deployment:
        yield deployment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("strict"), limits={"unknown_fields": "refuse"}) as deployment:
        yield deployment


async def headers(ferry: Deployment) -> dict[str, str]:
    return {"X-Auth-Token": await ferry.token(), "Content-Type": "application/json"}


async def test_a_request_with_an_unknown_field_succeeds_and_its_response_and_the_log_name_the_field(ferry: Deployment):
    with capture_logs() as logged:
        body = {"namespace": "named", "visibility": "secret words"}
        answer = await ferry.http("POST", ORGANIZATIONS, body=body, headers=await headers(ferry))

    assert (answer.status, answer.headers[HEADER]) == (201, "visibility")
    [line] = [line for line in logged if line["event"] == "ignored unknown fields of a request"]
    assert line == {
        "event": line["event"],
        "log_level": "warning",
        "fields": ["visibility"],
        "method": "POST",
        "path": ORGANIZATIONS,
    }


async def test_a_request_without_unknown_fields_has_no_such_header(ferry: Deployment):
    for body in ({"namespace": "plain"}, {"namespace": "Invalid"}, {}, b"", b"{", b"null", b"[]"):
        with capture_logs() as logged:
            answer = await ferry.http("POST", ORGANIZATIONS, body=body, headers=await headers(ferry))
        assert HEADER not in answer.headers
        assert not [line for line in logged if "unknown" in line["event"]]


async def test_a_mistyped_mandatory_field_is_named_beside_the_error(ferry: Deployment):
    body = {"imageTags": ["v1"], "remoteRegionId": "cn-north-208", "remoteNamespace": "team"}
    path = "/v2/manage/namespaces/team/repos/app/sync_images"
    answer = await ferry.http("POST", path, body=body, headers=await headers(ferry))

    assert answer.refused()[1:] == ("SVCSTG.SWR.4001014", "imageTag is mandatory")
    assert answer.headers[HEADER] == "imageTags"


async def test_fields_inside_of_objects_and_lists_are_named_with_their_path(ferry: Deployment):
    selector = {"kind": "label", "pattern": "v1", "patern": "v2"}
    rule = {"template": "tag_rule", "params": {"num": 5, "days_": 1}, "tag_selectors": [selector], "x": 1}
    body = {"algorithm": "or", "rules": [rule], "scope": ""}
    answer = await ferry.http("POST", f"{RETENTIONS}/plan", body=body, headers=await headers(ferry))

    expected = "rules[0].params.days_, rules[0].tag_selectors[0].patern, rules[0].x, scope"
    assert answer.headers[HEADER] == expected


async def test_a_token_request_names_them_before_the_caller_is_authenticated(ferry: Deployment):
    user = {"name": "nobody", "password": "wrong", "domian": {"name": "x"}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}, "totp": {}}}}
    answer = await ferry.http("POST", "/v3/auth/tokens", body=body, headers={"Content-Type": "application/json"})

    assert answer.status == 401
    assert answer.headers[HEADER] == "auth.identity.password.user.domian, auth.identity.totp"


async def test_the_header_is_short_whatever_the_names_are(ferry: Deployment):
    names = [f"{number}\r\nX-Injected: ключ{'a' * 5_000}" for number in range(100)]
    answer = await ferry.http("POST", ORGANIZATIONS, body=dict.fromkeys(names, 1), headers=await headers(ferry))

    assert answer.status == 400
    assert "X-Injected" not in answer.headers
    assert answer.headers[HEADER].count(", ") == bounds.UNKNOWN_FIELDS_REPORTED
    assert answer.headers[HEADER].endswith(", ...")
    assert len(answer.headers[HEADER]) < 1_000


def example(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    """Return a body of this schema with an unknown field; None if it has no fields."""
    for part in schema.get("anyOf", ()):
        if (found := example(part, document)) is not None:
            return found
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if schema.get("type") == "array":
        element = example(schema["items"], document)
        return None if element is None else [element]
    return {"notAField": 1} if schema.get("type") == "object" else None


async def test_every_operation_names_them(ferry: Deployment):
    document = (await ferry.http("GET", "/openapi.json")).document
    asked, silent = 0, []
    for template, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is None or template in FOREIGN or (body := example(content["schema"], document)) is None:
                continue
            path = (
                template.replace("{namespace}", "team").replace("{repository}", "app").replace("{", "").replace("}", "")
            )
            path = path.replace("retention_id", "1")
            answer = await ferry.http(method.upper(), path, body=body, headers=await headers(ferry))
            asked += 1
            if not answer.headers.get(HEADER, "").endswith("notAField"):
                silent.append((operation["operationId"], answer.status))
    assert silent == []
    assert asked >= 25


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        (ORGANIZATIONS, {"namespace": "strict", "visibility": 1}, 'field "visibility"'),
        (RETENTIONS, {"rules": [{"params": {"day": 1}}], "x": 1}, 'fields "rules[0].params.day", "x"'),
        ("/v2/manage/namespaces/team/access", [{"user": "x"}], 'field "body[0].user"'),
        ("/v3/users", {"user": {"name": "strict", "default_project_id": "x"}}, 'field "user.default_project_id"'),
    ],
)
async def test_a_strict_server_refuses_them_before_anything_is_changed(
    strict: Deployment, path: str, body: Any, named: str
):
    answer = await strict.http("POST", path, body=body, headers=await headers(strict))

    expected = f"body must not have the unknown {named}; correct their names or remove them"
    assert answer.refused() == (400, "SVCSTG.SWR.4000014", expected)
    assert HEADER not in answer.headers
    found = await strict.http("GET", f"{ORGANIZATIONS}?namespace=strict", headers=await headers(strict))
    assert found.document["namespaces"] == []


async def test_a_strict_server_reads_everything_that_the_sdk_of_iam_can_send(strict: Deployment):
    everything = iam.CreateUserOption(
        access_mode="default",
        name="ci",
        domain_id=(await strict.app.accounts.users.find("admin")).domain_id,
        password="a long password",
        email="a@example.com",
        areacode="0086",
        phone="12345678",
        enabled=True,
        pwd_status=False,
        xuser_type="",
        xuser_id="",
        description="",
    )
    created = await ask_iam(strict, "create_user", iam.CreateUserRequest(iam.CreateUserRequestBody(everything)))
    option = iam.UpdateUserOption(
        **{name: getattr(everything, name) for name in iam.UpdateUserOption.attribute_map if name != "domain_id"}
    )
    update = iam.UpdateUserRequest(created.user.id, iam.UpdateUserRequestBody(option))
    await ask_iam(strict, "update_user", update)
    key = iam.CreateCredentialOption(user_id=created.user.id, description="a key")
    request = iam.CreatePermanentAccessKeyRequest(iam.CreatePermanentAccessKeyRequestBody(key))
    assert (await ask_iam(strict, "create_permanent_access_key", request)).credential.secret
    user = iam.PwdPasswordUser(domain=iam.PwdPasswordUserDomain(name="tagferry"), name="ci", password="a long password")
    identity = iam.PwdIdentity(methods=["password"], password=iam.PwdPassword(user))
    scope = iam.AuthScope(project=iam.AuthScopeProject(name=NORTH))
    login = iam.KeystoneCreateUserTokenByPasswordRequestBody(iam.PwdAuth(identity, scope))
    token = await ask_iam(
        strict,
        "keystone_create_user_token_by_password",
        iam.KeystoneCreateUserTokenByPasswordRequest(body=login),
    )
    assert token.token.user.name == "ci"


async def test_they_can_be_ignored(tmp_path: Path):
    async with deployed(tmp_path, limits={"unknown_fields": "ignore"}) as ferry:
        with capture_logs() as logged:
            body = {"namespace": "named", "visibility": 1}
            answer = await ferry.http("POST", ORGANIZATIONS, body=body, headers=await headers(ferry))

    assert answer.status == 201
    assert HEADER not in answer.headers
    assert not [line for line in logged if "unknown" in line["event"]]
