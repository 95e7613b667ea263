"""Requests of the API and the console are counted by the template of their path, in a bounded number of series."""

from pathlib import Path

import pytest

from tagferry.metrics import EMBEDDED_BYTES, EMBEDDED_REQUESTS, HTTP_REQUESTS, HTTP_SECONDS, LOCKOUTS, LOGIN_FAILURES
from tagferry.names import RepositoryName, Tag
from tagferry.web.deadline import Deadline
from tests.support.deployment import NORTH, SOUTH, TEAM, Deployment, deployed
from tests.support.images import image, push
from tests.support.metrics import growth

LIST = "/v2/manage/namespaces"


@pytest.fixture
async def deployment(tmp_path: Path):
    async with deployed(tmp_path) as running:
        yield running


async def test_a_request_is_counted_by_its_route_and_not_by_its_path(deployment: Deployment):
    requests, seconds = growth(HTTP_REQUESTS), growth(HTTP_SECONDS)
    headers = {"X-Auth-Token": await deployment.token()}

    for name in ("team", "release"):
        assert (await deployment.http("GET", f"{LIST}/{name}", headers=headers)).status == 200

    route = "/v2/manage/namespaces/{namespace}"
    assert requests() == {("/v3/auth/tokens", "POST", "2xx"): 1, (route, "GET", "2xx"): 2}
    assert seconds() == {("/v3/auth/tokens", "POST"): 1, (route, "GET"): 2}


async def test_paths_that_do_not_exist_are_one_route(deployment: Deployment):
    requests = growth(HTTP_REQUESTS)

    for path in ("/nope/nope", "/v2/manage/nope", "/console/nope/nope"):
        await deployment.http("GET", path)

    assert {(route, method) for route, method, _ in requests()} == {("unknown", "GET")}
    assert sum(requests().values()) == 3


async def test_a_request_that_is_refused_before_it_is_routed_has_no_route(deployment: Deployment):
    requests = growth(HTTP_REQUESTS)

    assert (await deployment.http("GET", LIST)).status == 401

    assert requests() == {("unknown", "GET", "4xx"): 1}


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("HEAD", "/healthz", "/healthz"),
        ("GET", "/console/sign-in", "/console/sign-in"),
        ("GET", "/v2/_token?service=x", "/v2/_token"),
    ],
)
async def test_every_kind_of_path_has_a_route(deployment: Deployment, method: str, path: str, route: str):
    requests = growth(HTTP_REQUESTS)

    await deployment.http(method, path)

    assert [(name, asked) for name, asked, _ in requests()] == [(route, method)]


async def test_a_made_up_method_adds_no_series(deployment: Deployment):
    requests = growth(HTTP_REQUESTS)

    await deployment.http("PROPFIND", "/healthz")

    assert {method for _, method, _ in requests()} == {"other"}


async def test_an_unexpected_error_counts_as_5xx(deployment: Deployment, monkeypatch: pytest.MonkeyPatch):
    async def fail(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(Deadline, "__call__", fail)
    requests = growth(HTTP_REQUESTS)

    assert (await deployment.http("GET", "/healthz")).status == 500

    assert requests() == {("unknown", "GET", "5xx"): 1}


async def test_requests_to_an_embedded_registry_are_counted_by_operation_with_their_bytes(deployment: Deployment):
    name, sample = RepositoryName(f"{TEAM}/app"), image()
    await push(deployment.store(NORTH), name, sample, Tag("v1"))
    requests, moved, api = growth(EMBEDDED_REQUESTS), growth(EMBEDDED_BYTES), growth(HTTP_REQUESTS)
    login = {"Authorization": _basic(deployment)}

    manifest = await deployment.http("GET", f"/v2/{name}/manifests/v1", headers=login)
    await deployment.http("HEAD", f"/v2/{name}/manifests/v1", headers=login)
    await deployment.http("GET", f"/v2/{name}/manifests/v2", headers=login)
    await deployment.http("GET", "/v2/nope", headers=login)
    await deployment.http("PUT", f"/v2/{name}/manifests/v3", headers=login, body=manifest.content)

    counted = {(operation, status): count for (region, operation, status), count in requests().items()}
    assert counted["GET manifest", "2xx"] == 1
    assert counted["HEAD manifest", "2xx"] == 1
    assert counted["GET manifest", "4xx"] == 1
    assert counted["other", "4xx"] == 1
    assert counted["PUT manifest", "2xx"] + counted.get(("PUT manifest", "4xx"), 0) == 1
    assert {region for region, _, _ in requests()} == {NORTH}
    assert moved()[NORTH, "written"] == len(manifest.content)
    assert moved()[NORTH, "read"] >= len(manifest.content)
    assert api() == {}
    assert SOUTH not in {region for region, _ in moved()}


async def test_failed_logins_and_lockouts_are_counted(deployment: Deployment):
    failures, lockouts = growth(LOGIN_FAILURES), growth(LOCKOUTS)
    identity = {"methods": ["password"], "password": {"user": {"name": "admin", "password": "wrong password"}}}

    for _ in range(7):
        await deployment.http("POST", "/v3/auth/tokens", body={"auth": {"identity": identity}})

    attempts = deployment.settings.limits.lockout_failure_attempts
    assert failures() == {(): attempts}
    assert lockouts() == {(): 1}


def _basic(deployment: Deployment) -> str:
    import base64

    return f"Basic {base64.b64encode(f'admin:{deployment.admin.password}'.encode()).decode()}"
