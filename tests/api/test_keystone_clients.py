"""OpenStack's own client library, unmodified, finds IAM by itself, gets tokens and reads errors."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import generic, v3

from tests.support.deployment import NORTH, SOUTH, Deployment, calling, deployed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("keystone"), limits={"unknown_fields": "refuse"}) as deployment:
        yield deployment


def login(ferry: Deployment, **given: Any) -> dict[str, Any]:
    return {
        "username": ferry.admin.name,
        "password": ferry.admin.password,
        "user_domain_name": "tagferry",
        "project_name": NORTH,
        "project_domain_name": "tagferry",
    } | given


def call(client: session.Session, method: str, path: str, service: str = "identity") -> Any:
    """A request to a service that is found in the catalog."""
    endpoint = {"service_type": service, "interface": "public", "region_name": NORTH}
    return client.request(path, method, endpoint_filter=endpoint, connect_retries=0)


@pytest.mark.parametrize("path", ["", "/", "/v3", "/v3/", "/v3//"])
async def test_the_default_plugin_finds_iam_from_any_of_its_addresses(ferry: Deployment, path: str) -> None:
    plugin = generic.Password(f"{ferry.urls[NORTH]}{path}", **login(ferry))
    client = session.Session(plugin, timeout=30)
    access = await calling(plugin.get_access, client)
    assert (access.username, access.project_name, access.role_names) == ("admin", NORTH, ["te_admin"])
    for endpoint, service in ((f"{ferry.urls[NORTH]}/v3", "identity"), (ferry.urls[NORTH], "swr")):
        found = await calling(lambda name=service: client.get_endpoint(service_type=name, interface="public"))
        assert found == endpoint
    users = await calling(call, client, "GET", "/users")
    assert [user["name"] for user in users.json()["users"]] == ["admin"]
    organizations = await calling(call, client, "GET", "/v2/manage/namespaces", "swr")
    assert [one["name"] for one in organizations.json()["namespaces"]] == ["release", "team"]


@pytest.mark.parametrize("path", ["/identity", "/identity/v3", "/v2.0", "/v2.0/", "/v3.0", "/v3/unknown", "/v4"])
async def test_an_address_that_is_not_iams_is_not_found_without_credentials(ferry: Deployment, path: str) -> None:
    # A 401 makes the default plugin authenticate, for which it looks for the versions again, without end.
    for method in ("GET", "HEAD"):
        assert (await ferry.http(method, path)).status == 404
    plugin = generic.Password(f"{ferry.urls[NORTH]}{path}", **login(ferry))
    with pytest.raises(exceptions.ClientException):
        await calling(plugin.get_access, session.Session(timeout=30))


async def test_what_exists_needs_credentials_still(ferry: Deployment) -> None:
    for path in ("/v3/auth/catalog", "/v3/users", "/v3/users/", "/v2/manage/namespaces", "/v2/manage/namespaces/team"):
        for method in ("GET", "HEAD", "PUT", "OPTIONS"):
            assert (await ferry.http(method, path)).status == 401
    for path in ("/", "/v3/unknown"):
        assert (await ferry.http("GET", path, headers={"X-Auth-Token": "unknown"})).status == 401


@pytest.mark.parametrize("path", ["/", "/v3", "/v3/", "/healthz", "/v3/regions", "/v2/manage/namespaces/team", "/v2"])
async def test_head_answers_as_get_does_without_a_body(ferry: Deployment, path: str) -> None:
    headers = {} if path == "/" else {"X-Auth-Token": await ferry.token()}
    got, asked = [await ferry.http(method, path, headers=headers) for method in ("GET", "HEAD")]
    assert (asked.status, asked.headers["Content-Type"]) == (got.status, got.headers["Content-Type"])
    assert (asked.headers["Content-Length"], asked.content) == (got.headers["Content-Length"], b"")


async def test_a_wrong_method_is_told_all_that_the_path_takes(ferry: Deployment) -> None:
    headers = {"X-Auth-Token": await ferry.token()}
    for path, methods in (
        ("/v3", "GET, HEAD"),
        ("/v3/auth/tokens", "DELETE, GET, HEAD, POST"),
        ("/v2/manage/namespaces", "GET, HEAD, POST"),
        ("/v2/manage/namespaces/team/repos/app/access", "DELETE, GET, HEAD, PATCH, POST"),
    ):
        answer = await ferry.http("PUT", path, headers=headers)
        assert (answer.status, answer.headers["Allow"]) == (405, methods)
        assert answer.refused()[2] == f"there is no API PUT {path}; the path allows {methods}"


async def test_iams_paths_may_end_with_a_slash(ferry: Deployment) -> None:
    user = {"name": "admin", "password": ferry.admin.password}
    identity = {"methods": ["password"], "password": {"user": user}}
    got = await ferry.http("POST", "/v3/auth/tokens/", body={"auth": {"identity": identity}})
    assert got.status == 201
    headers = {"X-Auth-Token": got.headers["X-Subject-Token"]}
    for path in ("/v3/users/", "/v3/auth/catalog/", "/v3/regions//", "/v3.0/OS-CREDENTIAL/credentials/"):
        assert (await ferry.http("GET", path, headers=headers)).status == 200


async def test_versions_are_told_to_anybody_with_the_address_that_was_asked(ferry: Deployment) -> None:
    many = await ferry.http("GET", "/")
    assert many.status == 300
    (version,) = many.document["versions"]["values"]
    assert (version["id"].partition(".")[0], version["status"]) == ("v3", "stable")
    assert version["links"] == [{"rel": "self", "href": f"{ferry.urls[NORTH]}/v3/"}]
    for path in ("/v3", "/v3/"):
        for headers in ({}, {"X-Auth-Token": "unknown"}, {"Authorization": "Basic eDp4"}):
            answer = await ferry.http("GET", path, headers=headers)
            assert (answer.status, answer.document) == (200, {"version": version})
    named = await ferry.http("GET", "/v3", headers={"Host": "iam.example.com:8443"})
    assert named.document["version"]["links"][0]["href"] == "http://iam.example.com:8443/v3/"


async def test_swrs_clients_sign_the_same_request_and_get_swrs_versions(ferry: Deployment) -> None:
    token = {"X-Auth-Token": await ferry.token()}
    assert [one["id"] for one in (await ferry.http("GET", "/", headers=token)).document["versions"]] == ["v2"]
    assert (await ferry.http("GET", "/", headers={"X-Auth-Token": "unknown"})).refused()[0] == 401
    assert (await ferry.http("GET", "/v2/")).status == 401
    for path in ("/v1", "/v4"):
        assert (await ferry.http("GET", path, headers=token)).refused()[2].endswith("the only version is v2")
    assert (await ferry.http("POST", "/")).refused()[0] == 401


async def test_links_and_endpoints_have_the_regions_public_address(tmp_path: Path) -> None:
    regions: dict[str, dict[str, Any]] = {
        NORTH: {"listen": "", "public_url": "https://north.example.com"},
        SOUTH: {"listen": "", "registry": "http://registry.example:5000"},
    }
    async with deployed(tmp_path / "data", regions=regions) as ferry:
        version = (await ferry.http("GET", "/v3")).document["version"]
        assert version["links"][0]["href"] == "https://north.example.com/v3/"
        south = (await ferry.http("GET", "/v3", region=SOUTH)).document["version"]
        assert south["links"][0]["href"] == f"{ferry.urls[SOUTH]}/v3/"
        headers = {"X-Auth-Token": await ferry.token()}
        catalog = (await ferry.http("GET", "/v3/auth/catalog", headers=headers)).document["catalog"]
        assert catalog[0]["endpoints"][0]["url"] == "https://north.example.com/v3"


async def test_every_plugin_that_has_its_method_here_gets_a_token(ferry: Deployment) -> None:
    url = f"{ferry.urls[NORTH]}/v3"
    admin = await ferry.app.accounts.users.find(ferry.admin.name)
    token = await ferry.token()
    named: dict[str, Any] = {"username": "admin", "password": ferry.admin.password, "user_domain_name": "tagferry"}
    password = v3.PasswordMethod(**named)
    plugins = [
        v3.Password(url, **named, project_name=NORTH, project_domain_id=admin.domain_id),
        v3.Password(url, user_id=admin.user_id, password=ferry.admin.password, domain_name="tagferry"),
        v3.Password(url, **named, unscoped=True),
        v3.Token(url, token, project_name=SOUTH, project_domain_name="tagferry"),
        generic.Token(url, token=token, project_name=SOUTH, project_domain_name="tagferry"),
        v3.Auth(url, [password, v3.TokenMethod(token=token)], project_name=NORTH),
    ]
    for plugin in plugins:
        client = session.Session(plugin, timeout=30)
        access = await calling(plugin.get_access, client)
        assert (access.username, access.user_id) == ("admin", admin.user_id)
        got = {"X-Auth-Token": str(access.auth_token)}
        assert (await ferry.http("GET", "/v2/manage/regions", headers=got)).status == 200
        assert access.scoped is not (plugin is plugins[2])


async def test_errors_are_read_as_keystones(ferry: Deployment) -> None:
    url = f"{ferry.urls[NORTH]}/v3"
    wrong = v3.Password(url, username="admin", password="wrong", user_domain_name="tagferry")
    with pytest.raises(exceptions.Unauthorized, match="the user name or the password is wrong"):
        await calling(wrong.get_access, session.Session(timeout=30))
    client = session.Session(generic.Password(url, **login(ferry)), timeout=30)
    for method, path, error, message in (
        ("GET", "/nothing/here", exceptions.NotFound, "there is no API GET /v3/nothing/here"),
        ("PUT", "/users", exceptions.MethodNotAllowed, "the path allows"),
        ("GET", "/users/unknown", exceptions.NotFound, 'user "unknown" does not exist'),
    ):
        with pytest.raises(error, match=message):
            await calling(call, client, method, path)


async def test_every_error_of_iam_has_both_forms_and_swrs_have_one(ferry: Deployment) -> None:
    token = {"X-Auth-Token": await ferry.token()}
    wrong = {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "bob", "password": "x"}}}}}
    answers = [
        await ferry.http("GET", "/v3/users"),
        await ferry.http("GET", "/v3/users", headers={"X-Auth-Token": "unknown"}),
        await ferry.http("GET", "/v3.0/unknown", headers=token),
        await ferry.http("GET", "/v3/", headers={"Content-Length": "1000000000"}),
        await ferry.http("PUT", "/v3"),
        await ferry.http("POST", "/v3/auth/tokens", body=b"\xff{"),
        await ferry.http("POST", "/v3/users", body={"user": {}}, headers=token),
        *[await ferry.http("POST", "/v3/auth/tokens", body=wrong) for _ in range(6)],
    ]
    told = []
    for answer in answers:
        status, _, message = answer.refused()
        error = answer.document["error"]
        assert (error["code"], error["message"]) == (status, message)
        told.append((status, error["title"]))
    assert told[:7] == [
        (401, "Unauthorized"),
        (401, "Unauthorized"),
        (404, "Not Found"),
        (413, HTTPStatus(413).phrase),
        (405, "Method Not Allowed"),
        (400, "Bad Request"),
        (400, "Bad Request"),
    ]
    assert told[7:] == [(401, "Unauthorized")] * 5 + [(429, "Too Many Requests")]
    for path in ("/v2/manage/namespaces/none", "/v3/manage/unknown", "/unknown"):
        answer = await ferry.http("GET", path, headers=token)
        assert answer.refused()[0] == 404
        assert "error" not in answer.document


async def test_a_token_is_revoked_by_the_client_that_has_it(ferry: Deployment) -> None:
    plugin = generic.Password(ferry.urls[NORTH], **login(ferry))
    client = session.Session(plugin, timeout=30)
    token = str(await calling(client.get_token))
    endpoint = {"service_type": "identity", "interface": "public"}
    revoked = await calling(
        lambda: client.delete("/auth/tokens", endpoint_filter=endpoint, headers={"X-Subject-Token": token})
    )
    assert revoked.status_code == 204
    assert (await ferry.http("GET", "/v3/users", headers={"X-Auth-Token": token})).status == 401
    # The session gets another token by itself.
    assert (await calling(call, client, "GET", "/users")).status_code == 200
    assert await calling(client.get_token) != token


async def test_a_method_that_is_not_supported_is_refused_with_those_that_are(tmp_path: Path) -> None:
    async with deployed(tmp_path) as ferry:
        plugin = v3.ApplicationCredential(
            f"{ferry.urls[NORTH]}/v3", application_credential_id="x", application_credential_secret="y"
        )
        with pytest.raises(exceptions.BadRequest, match=r"auth\.identity\.methods must be"):
            await calling(plugin.get_access, session.Session(timeout=30))
