"""The audit log has a line for each request that changes something, and for each that was not authorized."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tagferry import bounds
from tagferry.accounts.model import Permission
from tagferry.names import Tag
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tests.support import images
from tests.support.deployment import NORTH, Deployment, name_in
from tests.support.raw_client import connected

ORGANIZATIONS = "/v2/manage/namespaces"


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        yield logged


def told(lines: list[Any], *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(line.get(field) for field in fields) for line in lines if line["event"] == "request"]


async def test_a_change_is_told_with_its_caller_and_the_id_of_its_request(ferry: Deployment, lines: list[Any]):
    token = {"X-Auth-Token": await ferry.token(), "Content-Type": "application/json"}
    lines.clear()

    made = await ferry.http("POST", ORGANIZATIONS, headers=token, body={"namespace": "another"})
    looked = await ferry.http("GET", ORGANIZATIONS, headers=token)

    assert (made.status, looked.status) == (201, 200)
    fields = "user", "method", "path", "status", "region", "address", "request_id"
    expected = (ferry.admin.name, "POST", ORGANIZATIONS, 201, NORTH, "127.0.0.1", made.headers["X-Request-Id"])
    assert told(lines, *fields) == [expected]


async def test_a_pipelined_request_is_not_told_as_its_predecessors(ferry: Deployment, lines: list[Any]):
    token = await ferry.token()
    lines.clear()
    body = b'{"namespace": "pipelined"}'
    head = f"POST {ORGANIZATIONS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
    sized = b"Content-Length: %d\r\n\r\n" % len(body) + body

    async with connected(ferry.urls[NORTH]) as client:
        await client.send(head + f"X-Auth-Token: {token}\r\n".encode() + sized + head + sized)
        assert [(await client.answer()).status for _ in range(2)] == [201, 401]

    assert told(lines, "user", "status") == [(ferry.admin.name, 201), (None, 401)]


@pytest.mark.parametrize("path", ["/v3/auth/tokens", ORGANIZATIONS])
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"-1\r\n", 400), (b"f" * 5000 + b"\r\n", 400), (b"0\r\n" + b"a: b\r\n" * (bounds.HEADERS + 2), 431)],
    ids=["negative", "endless", "trailers"],
)
async def test_a_body_that_is_no_http_is_told_as_it_was_answered(
    ferry: Deployment, lines: list[Any], path: str, body: bytes, status: int
):
    token = await ferry.token()
    lines.clear()

    async with connected(ferry.urls[NORTH]) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\nContent-Type: application/json\r\n"
        await client.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        # The request has begun when the rest arrives.
        await asyncio.sleep(0.1)
        await client.send(body)
        answer = await client.answer()
        await client.rest()

    assert answer.status == status
    assert [line for line in lines if "unexpectedly" in line["event"]] == []
    assert told(lines, "status", "request_id") == [(status, answer.headers["x-request-id"])]


async def test_what_was_refused_is_told_whoever_asked_for_it(ferry: Deployment, lines: list[Any]):
    _, key = await ferry.user("carol", team=Permission.READ)
    lines.clear()

    await ferry.http("GET", ORGANIZATIONS)
    async with ferry.client(key=key) as client:
        with pytest.raises(Exception, match="needs the permission"):
            await client.start_sync(
                name_in("team").namespace,
                name_in("team").repository,
                {"imageTag": ["v1"], "remoteNamespace": "release", "remoteRegionId": "cn-north-208"},
            )

    assert told(lines, "user", "method", "status") == [(None, "GET", 401), ("carol", "POST", 403)]


async def test_a_push_to_the_registry_is_told_by_its_manifests(ferry: Deployment, lines: list[Any]):
    password, _ = await ferry.user("carol", team=Permission.EDIT)
    credentials = Credentials(username="carol", password=password)
    pusher = RemoteStore(Endpoint(name="pusher", url=ferry.urls[NORTH], credentials=credentials))
    lines.clear()

    await images.push(pusher, name_in("team"), images.image(), Tag("v1"))
    await pusher.close()

    changes = [line for line in told(lines, "user", "method", "path", "status") if line[3] != 401]
    assert changes == [("carol", "PUT", "/v2/team/app/manifests/v1", 201)]


async def test_whoever_the_body_proves_is_told_too_and_never_a_secret(ferry: Deployment, lines: list[Any]):
    token = await ferry.token()
    identity = {"methods": ["token"], "token": {"id": token}}
    made = await ferry.http("POST", "/v3.0/OS-CREDENTIAL/securitytokens", body={"auth": {"identity": identity}})
    secret = await ferry.http("POST", "/v2/manage/utils/secret", headers={"X-Auth-Token": token})

    paths = "/v3/auth/tokens", "/v3.0/OS-CREDENTIAL/securitytokens", "/v2/manage/utils/secret"
    assert told(lines, "user", "path") == [(ferry.admin.name, path) for path in paths]
    ((_, login),) = secret.document["auths"].items()
    for shown_once in (token, made.document["credential"]["secret"], login["auth"], ferry.admin.password):
        assert shown_once not in str(lines)


async def test_who_changed_whom_is_told_and_never_a_password(ferry: Deployment, lines: list[Any]):
    token = {"X-Auth-Token": await ferry.token()}
    lines.clear()

    body: dict[str, dict[str, Any]] = {"user": {"name": "carol", "password": "first password"}}
    made = (await ferry.http("POST", "/v3/users", body=body, headers=token)).document["user"]
    (group,) = (await ferry.http("GET", "/v3/groups", headers=token)).document["groups"]
    user, member = f"/v3/users/{made['id']}", f"/v3/groups/{group['id']}/users/{made['id']}"
    keys = "/v3.0/OS-CREDENTIAL/credentials"
    await ferry.http("PUT", member, headers=token)
    body = {"credential": {"user_id": made["id"]}}
    key = (await ferry.http("POST", keys, body=body, headers=token)).document["credential"]
    body = {"credential": {"status": "inactive"}}
    await ferry.http("PUT", f"{keys}/{key['access']}", body=body, headers=token)
    wrong = {"user": {"password": ["second password"], "enabled": False}}
    assert (await ferry.http("PATCH", user, body=wrong, headers=token)).status == 400
    body = {"user": {"password": "second password", "enabled": False}}
    await ferry.http("PATCH", user, body=body, headers=token)
    await ferry.http("DELETE", user, headers=token)

    admin = ferry.admin.name
    assert told(lines, "user", "method", "path", "status", "subject_user", "subject_key") == [
        (admin, "POST", "/v3/users", 201, "carol", None),
        (admin, "PUT", member, 204, "carol", None),
        (admin, "POST", keys, 201, "carol", key["access"]),
        (admin, "PUT", f"{keys}/{key['access']}", 200, "carol", key["access"]),
        (admin, "PATCH", user, 400, None, None),
        (admin, "PATCH", user, 200, "carol", None),
        (admin, "DELETE", user, 204, "carol", None),
    ]
    for secret in ("first password", "second password", key["secret"]):
        assert secret not in str(lines)


async def test_the_revocation_of_a_token_is_told_with_whose_it_was(ferry: Deployment, lines: list[Any]):
    password, _ = await ferry.user("carol")
    admin, own = await ferry.token(), await ferry.token(user="carol", password=password)
    lines.clear()

    for subject, token in ((admin, own), (own, admin)):
        headers = {"X-Auth-Token": token, "X-Subject-Token": subject}
        await ferry.http("DELETE", "/v3/auth/tokens", headers=headers)

    refused, revoked = told(lines, "user", "subject_user", "method", "path", "status")
    assert refused == ("carol", "admin", "DELETE", "/v3/auth/tokens", 403)
    assert revoked == ("admin", "carol", "DELETE", "/v3/auth/tokens", 204)
    assert own not in str(lines)


async def test_a_path_is_told_in_part_and_without_what_a_terminal_obeys(ferry: Deployment, lines: list[Any]):
    await ferry.http("DELETE", "/v2/" + "a" * 60_000)
    await ferry.http("DELETE", "/v2/%1B%5B2Jgone%00")

    ((long,), (odd,)) = told(lines, "path")
    assert (len(long), long[-2:]) == (bounds.AUDITED_PATH_CHARACTERS, "a…")
    assert odd == "/v2/\\x1b[2Jgone\\x00"
