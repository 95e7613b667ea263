"""The log has an event for the end of each request."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tagferry.accounts.model import Permission
from tagferry.names import Tag
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tagferry.web.access_log import EVENT
from tests.support import images
from tests.support.deployment import NORTH, Deployment, deployed, eventually, name_in
from tests.support.raw_client import connected

ORGANIZATIONS = "/v2/manage/namespaces"


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        yield logged


@pytest.fixture
async def complete(tmp_path: Path) -> AsyncIterator[Deployment]:
    """An installation that logs all requests."""
    async with deployed(tmp_path / "complete", access_log="all") as deployment:
        yield deployment


def ends(lines: list[Any], *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(line.get(field) for field in fields) for line in lines if line["event"] == EVENT]


async def pull(ferry: Deployment) -> None:
    """Push and pull an image as a user."""
    password, _ = await ferry.user("carol", team=Permission.EDIT)
    credentials = Credentials(username="carol", password=password)
    store = RemoteStore(Endpoint(name="puller", url=ferry.urls[NORTH], credentials=credentials))
    await images.push(store, name_in("team"), images.image(), Tag("v1"))
    await store.get_manifest(name_in("team"), Tag("v1"))
    await store.close()


async def test_a_request_is_logged_at_its_end_with_what_matters(ferry: Deployment, lines: list[Any]):
    token = {"X-Auth-Token": await ferry.token(), "Content-Type": "application/json"}
    lines.clear()

    made = await ferry.http("POST", f"{ORGANIZATIONS}?secret=hidden", headers=token, body={"namespace": "another"})

    (line,) = [line for line in lines if line["event"] == EVENT]
    assert 0 < line.pop("seconds") < 60
    assert line == {
        "event": EVENT,
        "log_level": "info",
        "method": "POST",
        "path": ORGANIZATIONS,
        "status": 201,
        "region": NORTH,
        "address": "127.0.0.1",
        "user": ferry.admin.name,
        "request_id": made.headers["X-Request-Id"],
        "bytes_in": len('{"namespace": "another"}'),
        "bytes_out": len(made.content),
    }


async def test_what_a_user_did_wrong_is_no_warning(ferry: Deployment, lines: list[Any]):
    token = {"X-Auth-Token": await ferry.token(), "Content-Type": "application/json"}
    lines.clear()

    await ferry.http("GET", ORGANIZATIONS)
    await ferry.http("POST", ORGANIZATIONS, headers=token, body={"namespace": "-"})
    await ferry.http("GET", "/v2/manage/namespaces/nope", headers=token)

    assert ends(lines, "status", "log_level") == [(401, "info"), (400, "info"), (404, "info")]
    assert {line["log_level"] for line in lines} <= {"info", "debug"}


async def test_pushes_pulls_and_probes_are_logged_only_on_request(
    ferry: Deployment, complete: Deployment, lines: list[Any]
):
    await pull(ferry)
    await ferry.http("GET", "/healthz")
    assert ends(lines, "path") == []

    await pull(complete)
    await complete.http("GET", "/healthz")
    found = ends(lines, "method", "path", "status", "user")
    assert ("PUT", "/v2/team/app/manifests/v1", 201, "carol") in found
    assert ("GET", "/v2/team/app/manifests/v1", 200, "carol") in found
    assert found[-1] == ("GET", "/healthz", 200, None)


async def test_bytes_of_blobs_are_counted_in_both_directions(complete: Deployment, lines: list[Any]):
    sample = images.image(bytes(3_000_000))
    credentials = Credentials(username=complete.admin.name, password=complete.admin.password)
    store = RemoteStore(Endpoint(name="puller", url=complete.urls[NORTH], credentials=credentials))
    await images.push(store, name_in("team"), sample, Tag("v1"))
    (layer,) = sample.manifest.layers
    async with store.read_blob(name_in("team"), layer) as chunks:
        read = sum([len(chunk) async for chunk in chunks])
    await store.close()
    assert read == 3_000_000

    # The client may have all content before the server has counted the last of it.
    async def are_logged() -> bool:
        found = ends(lines, "bytes_in", "bytes_out")
        return bool(max(received for received, _ in found) == max(sent for _, sent in found) == 3_000_000)

    await eventually(are_logged)


async def test_a_failure_of_the_server_is_a_warning_also_of_a_pull(
    ferry: Deployment, lines: list[Any], monkeypatch: pytest.MonkeyPatch
):
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tagferry.web.authorizer.AccountsAuthorizer.authorize", fail)
    for _ in range(3):
        assert (await ferry.http("GET", "/v2/team/app/manifests/v1")).status == 500

    assert ends(lines, "path", "status", "log_level", "times") == [
        ("/v2/team/app/manifests/v1", 500, "warning", 1),
    ]
    # The traceback is there once.
    assert [line["times"] for line in lines if line["event"] == "a registry request failed unexpectedly"] == [1]


async def test_a_request_whose_client_left_has_no_status(ferry: Deployment, lines: list[Any]):
    token = await ferry.token()
    lines.clear()

    async with connected(ferry.urls[NORTH]) as client:
        head = f"POST {ORGANIZATIONS} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\nContent-Length: 100\r\n\r\n{{"
        await client.send(head.encode())

    async def is_logged() -> bool:
        return bool(ends(lines, "status"))

    await eventually(is_logged)
    assert ends(lines, "method", "status", "log_level") == [("POST", None, "info")]


async def test_nothing_is_logged_if_it_is_off(tmp_path: Path, lines: list[Any]):
    async with deployed(tmp_path / "data", access_log="off") as ferry:
        await ferry.http("GET", ORGANIZATIONS)
        await pull(ferry)
    assert ends(lines, "path") == []


async def test_a_reload_changes_which_requests_are_logged(tmp_path: Path, lines: list[Any]):
    async with deployed(tmp_path / "data", access_log="off") as ferry:
        for mode in ("all", "api", "off"):
            assert await ferry.reload(access_log=mode) == ["access_log"]
            await ferry.http("GET", "/v2/")
            await ferry.http("GET", ORGANIZATIONS)

    assert ends(lines, "path") == [("/v2/",), (ORGANIZATIONS,), (ORGANIZATIONS,)]
