"""Authentication, authorization, names and error responses of the registry."""

import json

import pytest

from tagferry.errors import TagferryError, Throttled, Unavailable
from tagferry.names import Digest
from tagferry.registry.api.access import Action
from tagferry.registry.api.errors import status_and_code
from tests.unit.registry.conftest import Registry

ABSENT = Digest.of(b"absent")


async def test_a_request_without_credentials_is_challenged(registry: Registry) -> None:
    needed = {
        "/v2/": "",
        "/v2/_catalog": "registry:catalog:*",
        "/v2/org/app/tags/list": "repository:org/app:pull",
        "/v2/org/app/manifests/v1": "repository:org/app:pull",
    }
    for path, scope in needed.items():
        response, body = await registry.get(path, Authorization="stranger")
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == f'Bearer realm="{registry.url}/token",scope="{scope}"'
        assert response.headers["Docker-Distribution-API-Version"] == "registry/2.0"
        assert json.loads(body)["errors"][0]["code"] == "UNAUTHORIZED"


async def test_an_authenticated_caller_may_request_the_version(registry: Registry) -> None:
    for path in ("/v2/", "/v2"):
        response, body = await registry.get(path)
        assert (response.status, body) == (200, b"{}")


@pytest.mark.parametrize(
    ("action", "method", "path"),
    [
        (Action.PULL, "GET", "/v2/org/app/manifests/v1"),
        (Action.PULL, "HEAD", f"/v2/org/app/blobs/{ABSENT}"),
        (Action.PULL, "GET", "/v2/org/app/tags/list"),
        (Action.PULL, "GET", f"/v2/org/app/referrers/{ABSENT}"),
        (Action.PUSH, "POST", "/v2/org/app/blobs/uploads/"),
        (Action.PUSH, "PATCH", "/v2/org/app/blobs/uploads/x"),
        (Action.PUSH, "PUT", "/v2/org/app/manifests/v1"),
        (Action.DELETE, "DELETE", "/v2/org/app/manifests/v1"),
        (Action.DELETE, "DELETE", f"/v2/org/app/blobs/{ABSENT}"),
    ],
)
async def test_an_unauthorized_operation_is_denied(registry: Registry, action: Action, method: str, path: str) -> None:
    registry.authorizer.denied.add((action, "org/app"))
    async with registry.http.request(method, path) as response:
        assert response.status == 403
        if method != "HEAD":
            assert (await response.json())["errors"][0]["code"] == "DENIED"


async def test_a_push_to_a_missing_organization_names_it(registry: Registry) -> None:
    registry.authorizer.absent.add("ghost")
    async with registry.http.post("/v2/ghost/app/blobs/uploads/") as response:
        assert response.status == 404
        (error,) = (await response.json())["errors"]
    assert error == {
        "code": "NAME_UNKNOWN",
        "message": 'organization "ghost" does not exist',
        "detail": {"organization": "ghost"},
    }


@pytest.mark.parametrize("name", ["single", "9org/app", "UPPER/app", "org/a..b", f"org/{'x' * 200}"])
async def test_a_push_needs_an_organization_and_a_repository(registry: Registry, name: str) -> None:
    async with registry.http.post(f"/v2/{name}/blobs/uploads/") as response:
        assert response.status == 400
        assert (await response.json())["errors"][0]["code"] == "NAME_INVALID"


async def test_a_wrong_method_is_answered_with_the_supported_ones(registry: Registry) -> None:
    async with registry.http.post("/v2/org/app/manifests/v1") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD, PUT, DELETE"
        assert (await response.json())["errors"][0]["code"] == "UNSUPPORTED"


@pytest.mark.parametrize(
    ("failure", "status", "code", "retry_after"),
    [
        (Throttled("slow down", retry_after=7), 429, "TOOMANYREQUESTS", "7"),
        (Unavailable("the database is away", retry_after=0.2), 503, "UNAVAILABLE", "1"),
        (RuntimeError("a bug"), 500, "UNKNOWN", None),
    ],
)
async def test_every_failure_has_the_same_form(
    registry: Registry, failure: Exception, status: int, code: str, retry_after: str | None
) -> None:
    registry.authorizer.failure = failure
    response, body = await registry.get("/v2/org/app/tags/list")
    assert (response.status, response.headers.get("Retry-After")) == (status, retry_after)
    (error,) = json.loads(body)["errors"]
    assert error["code"] == code
    assert "a bug" not in error["message"]


def test_every_error_is_in_the_table() -> None:
    def descendants(kind: type[TagferryError]) -> set[type[TagferryError]]:
        return {kind}.union(*(descendants(child) for child in kind.__subclasses__()))

    for kind in descendants(TagferryError):
        error = kind.__new__(kind)
        error.__dict__.update(message="", field="", kind="")
        assert status_and_code(error)[0] >= 400
