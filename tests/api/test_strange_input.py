"""Whatever bytes come, the answer is an error of the client's in the documented form, and never a server's."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.support.deployment import NORTH, SOUTH, Deployment, deployed
from tests.support.memory_store import MemoryStore

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEAM = "/v2/manage/namespaces/team"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("strange")) as deployment:
        yield deployment


async def raw(ferry: Deployment, request: bytes) -> tuple[int, dict[str, Any]]:
    """Send these bytes as they are; gives the status and the body."""
    host, _, port = ferry.urls[NORTH].removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), timeout=60)
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    "credentials",
    [
        b"X-Auth-Token: \xff\xfe",
        b"Authorization: \xff",
        b"Authorization: SDK-HMAC-SHA256 Access=\xff, SignedHeaders=x-sdk-date, Signature=0",
        b"Authorization: SDK-HMAC-SHA256 Access=A, SignedHeaders=\xff, Signature=\xfe\r\nX-Sdk-Date: \xff",
        b"Authorization: Basic \xff",
    ],
)
async def test_credentials_of_any_bytes_are_refused(ferry: Deployment, credentials: bytes) -> None:
    request = b"GET /v2/manage/regions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + credentials + b"\r\n\r\n"
    status, document = await raw(ferry, request)
    assert status == 401, document
    assert document["error_code"].startswith("SVCSTG.SWR.40")


@pytest.mark.parametrize(
    "user",
    [
        {"name": "\ud800", "password": "password"},
        {"name": "admin", "password": "\udfff"},
        {"name": "\x00", "password": "\x00"},
        {"name": "x" * 100_000, "password": "x" * 100_000},
        {"name": "admin", "password": "wrong", "domain": {"name": "\ud800"}},
    ],
    ids=["name", "password", "nul", "long", "domain"],
)
async def test_a_login_of_any_text_is_refused(ferry: Deployment, user: dict[str, Any]) -> None:
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    status, _, message = (await ferry.http("POST", "/v3/auth/tokens", body=body)).refused()
    assert status in (400, 401)
    assert message


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "auth is mandatory"),
        ({"auth": {}}, "auth.identity is mandatory"),
        ({"auth": {"identity": {"methods": ["token"]}}}, "auth.identity.token is mandatory"),
        ({"auth": {"identity": {"methods": []}}}, "auth.identity.methods"),
        ({"auth": {"identity": {"methods": ["password"]}}}, "auth.identity.password is mandatory"),
        ({"auth": {"identity": {"methods": "password"}}}, "auth.identity.methods must be an array"),
    ],
    ids=str,
)
async def test_a_token_request_with_a_wrong_field_names_it(ferry: Deployment, body: dict[str, Any], names: str) -> None:
    status, _, message = (await ferry.http("POST", "/v3/auth/tokens", body=body)).refused()
    assert status == 400
    assert message.startswith(names)


async def test_a_password_is_never_repeated_in_an_error(ferry: Deployment) -> None:
    for secret in (12345678, ["12345678"], "12345678\ud800"):
        user = {"name": "admin", "password": secret}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        answer = await ferry.http("POST", "/v3/auth/tokens", body=body)
        status, _, message = answer.refused()
        assert (status, message.partition(" ")[0]) == (400, "auth.identity.password.user.password")
        assert b"1234" not in answer.content


async def test_a_secret_key_or_token_is_never_repeated_in_an_error(ferry: Deployment) -> None:
    for secret in (12345678, ["12345678"], "12345678\ud800"):
        key = {"access": {"key": "A"}, "secret": {"key": secret}}
        for part in (key, secret):
            body = {"auth": {"identity": {"methods": ["hw_ak_sk"], "hw_ak_sk": part}}}
            answer = await ferry.http("POST", "/v3/auth/tokens", body=body)
            assert answer.refused()[2].startswith("auth.identity.hw_ak_sk")
            assert b"1234" not in answer.content
    token = {"methods": ["token"], "token": {"id": 12345678}}
    answer = await ferry.http("POST", "/v3.0/OS-CREDENTIAL/securitytokens", body={"auth": {"identity": token}})
    assert answer.refused()[2].startswith("auth.identity.token.id must be a string")
    assert b"1234" not in answer.content


@pytest.mark.parametrize(
    "path",
    [
        f"{TEAM}/repos/app/sync_job?filter=limit::0",
        f"{TEAM}/repos/app/sync_job?filter=limit::1001",
        f"{TEAM}/repos/app/sync_job?filter=limit::-1",
        f"{TEAM}/repos/app/sync_job?filter=offset::x",
        f"{TEAM}/repos/app/sync_job?filter=order::up",
        f"{TEAM}/repos/app/sync_job?limit=0",
        f"{TEAM}/repos/app/sync_job?offset=x",
        f"{TEAM}/repos/app/sync_job?order=up",
        f"{TEAM}/repos/app/sync_job?filter=limit",
        f"{TEAM}/repos/app/sync_job?filter=::5",
        f"{TEAM}/repos/app/sync_job?filter=jobs::1,x",
        f"{TEAM}/repos/app/sync_job?filter=limit::{quote('٣')}",
        f"{TEAM}/repos/app/sync_job?filter=offset::9999999999999999999999",
        f"{TEAM}/repos/app/tags?order_column=size",
        f"{TEAM}/repos/app/tags?order_type=random",
        "/v2/manage/repos?limit=0",
        "/v2/manage/repos?order_column=stars",
        "/v2/manage/namespaces?filter=mode::hidden",
    ],
)
async def test_a_query_that_cannot_be_read_is_refused(ferry: Deployment, path: str) -> None:
    status, code, message = (await ferry.http("GET", path, headers={"X-Auth-Token": await ferry.token()})).refused()
    assert status == 400
    assert code in ("SVCSTG.SWR.4000014", "SVCSTG.SWR.4001035")
    assert message


@pytest.mark.parametrize(
    "path",
    [
        f"{TEAM}/repos/app/sync_job?filter=jobs::999999999999999999",
        f"{TEAM}/repos/app/sync_job?filter=jobs::{','.join(map(str, range(8_000)))}",
        f"{TEAM}/repos/app/sync_job?filter=%FF::%00",
        f"{TEAM}/repos/app/sync_job?filter=offset::999999999",
        f"{TEAM}/repos/app/sync_job?filter=|||",
        f"{TEAM}/repos/app/sync_job?filter=&filter=limit::5&unknown=%",
        "/v2/manage/namespaces?namespace=%00",
        "/v2/manage/namespaces?namespace=%FF&filter=namespace::%ED%A0%80",
        "/v2/manage/repos?name=%FF&namespace=%00&category=",
        "/v3/projects?name=%FF",
    ],
    ids=lambda path: path[:60],
)
async def test_an_odd_query_finds_nothing(ferry: Deployment, path: str) -> None:
    answer = await ferry.http("GET", path, headers={"X-Auth-Token": await ferry.token()})
    assert answer.status == 200, answer.content
    found = answer.document if isinstance(answer.document, list) else next(
        value for name, value in answer.document.items() if name != "links"
    )  # fmt: skip
    assert found == []


@pytest.mark.parametrize("name", ["\ud800", "\x00", "", "a" * 65, "manage", "a/b", 5, None, ["team"]], ids=repr)
async def test_an_organization_of_a_bad_name_is_refused(ferry: Deployment, name: Any) -> None:
    headers = {"X-Auth-Token": await ferry.token()}
    status, _, message = (
        await ferry.http("POST", "/v2/manage/namespaces", body={"namespace": name}, headers=headers)
    ).refused()
    assert status == 400
    assert message.startswith("namespace ")


@pytest.mark.parametrize("name", ["%00", "%FF", "%2e%2e", "..", "%2F", "a%2Fb", "%ED%A0%80"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_organization_that_cannot_be_is_refused(ferry: Deployment, method: str, name: str) -> None:
    headers = {"X-Auth-Token": await ferry.token()}
    answer = await ferry.http(method, f"/v2/manage/namespaces/{name}", headers=headers)
    assert answer.refused()[0] in (400, 404)


async def test_a_thousand_headers_or_a_huge_one_do_no_harm(ferry: Deployment) -> None:
    for headers in ([(f"X-{number}", "1") for number in range(1_000)], [("X-Long", "x" * 60_000)]):
        answer = await ferry.http("GET", "/v2/manage/regions", headers=headers)
        assert answer.status in (400, 401, 431)


async def test_an_unexpected_failure_has_the_documented_form_and_tells_no_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(MemoryStore):
        async def _enter(self, operation: str) -> None:
            raise RuntimeError("a secret of the inside")

    async with deployed(tmp_path) as ferry:
        ferry.replace(NORTH, Failing())
        body = {"imageTag": ["V1"], "remoteNamespace": "release", "remoteRegionId": SOUTH}
        headers = {"X-Auth-Token": await ferry.token()}
        answer = await ferry.http("POST", f"{TEAM}/repos/app/sync_images", body=body, headers=headers)
        status, code, message = answer.refused()
        assert (status, code) == (500, "SVCSTG.SWR.5000007")
        assert "secret" not in message
        assert (await ferry.http("GET", "/healthz")).status == 200
    assert "uvicorn.error" not in {record.name for record in caplog.records}


async def test_probes_need_no_login_and_tell_nothing(ferry: Deployment) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await ferry.http("GET", path)
        assert (answer.status, answer.document["status"]) == (200, "ok")
        assert set(answer.document["components"].values()) == {"ok"}


@pytest.mark.parametrize("text", ["\ud800", "a\0b"], ids=["half a character", "NUL"])
async def test_text_that_no_database_holds_is_refused_in_permissions_and_shares(ferry: Deployment, text: str) -> None:
    headers = {"X-Auth-Token": await ferry.token()}
    body = {"repository": f"odd{ord(text[0])}", "is_public": False}
    assert (await ferry.http("POST", f"{TEAM}/repos", body=body, headers=headers)).status == 201
    repository = f"{TEAM}/repos/{body['repository']}"
    share = {"permit": "read", "deadline": "forever", "access_domain": "tagferry", "description": "x"}
    shares = f"{TEAM}/repositories/{body['repository']}/access-domains"
    known = {"user_id": (await ferry.app.accounts.users.find("admin")).user_id, "auth": 1}
    calls: list[tuple[str, str, Any, str]] = [
        (method, f"{where}/access", [known, {"user_id": text, "auth": 1}], "body[1].user_id must be text")
        for method in ("POST", "PATCH")
        for where in (TEAM, repository)
    ]
    calls += [("DELETE", f"{where}/access", ["a", text], "body[1] must be text") for where in (TEAM, repository)]
    calls += [
        ("POST", shares, share | {field: text}, f"{field} must be text") for field in ("access_domain", "description")
    ]
    calls.append(("PATCH", f"{shares}/tagferry", share | {"description": text}, "description must be text"))
    for method, path, wrong, told in calls:
        status, _, message = (await ferry.http(method, path, body=wrong, headers=headers)).refused()
        assert (status, message.startswith(told)) == (400, True), message
    odd = [known | {"user_name": text}]
    assert (await ferry.http("POST", f"{TEAM}/access", body=odd, headers=headers)).status in (400, 404)
    path = f"{shares}/{quote(text.encode('utf-8', 'surrogatepass'))}"
    for method in ("GET", "PATCH", "DELETE"):
        assert (await ferry.http(method, path, body=share, headers=headers)).status in (400, 404)
