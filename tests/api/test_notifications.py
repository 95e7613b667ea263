"""`POST /notifications`: events from a registry about pushes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tagferry.automation.rules.store import RuleSpec
from tagferry.names import RepositoryRef, Tag
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, deployed, eventually, name_in

TOKEN = "t0ken-of-the-registry"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
APP = name_in("team")
SECOND = images.image(seed="second")
V1, V2 = Tag("v1"), Tag("v2")


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[Deployment]:
    """The north takes notifications and has a rule to the south; images come into its store past every API."""
    regions: dict[str, dict[str, Any]] = {NORTH: {"listen": "", "notifications_token": TOKEN}, SOUTH: {"listen": ""}}
    async with deployed(tmp_path / "data", regions=regions) as ferry:
        await images.push(ferry.store(NORTH), APP, images.image(seed="first"), V1)
        source = RepositoryRef(NORTH, TEAM, APP.repository)
        caller = await ferry.app.accounts.users.find("admin")
        await ferry.app.services.swr.rules.put(RuleSpec(caller, source, SOUTH, RELEASE, override=True, sync_auto=True))
        yield ferry


def event(action: str = "push", **target: Any) -> dict[str, Any]:
    """An event as CNCF distribution writes it, with what is of no use here too."""
    return {
        "id": "320678d8-ca14-430f-8bb6-4ca139cd83f7",
        "timestamp": "2026-03-09T14:44:26.402973972-08:00",
        "action": action,
        "target": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 708, "length": 708} | target,
        "request": {"id": "6df24a34", "method": "PUT"},
        "actor": {},
        "source": {"addr": "registry:5000"},
    }


async def notify(ferry: Deployment, *events: Any, headers: dict[str, str] | None = None) -> int:
    kind = {"Content-Type": "application/vnd.docker.distribution.events.v1+json"}
    body = json.dumps({"events": events}).encode()
    answer = await ferry.http("POST", "/notifications", body=body, headers=kind | (AUTHORIZED | (headers or {})))
    return answer.status


async def test_a_push_that_is_told_of_is_synchronized(told: Deployment):
    await images.push(told.store(NORTH), APP, SECOND, V2)

    assert await notify(told, event(repository="team/app", tag="v2", digest=SECOND.digest)) == 202

    assert await eventually(lambda: told.store(SOUTH).head_manifest(name_in("release"), V2))


async def test_a_deletion_that_is_told_of_lets_the_same_image_cross_again(told: Deployment):
    digest = images.image(seed="first").digest

    await notify(told, event("delete", repository="team/app", digest=digest))
    await notify(told, event(repository="team/app", tag="v1", digest=digest))

    assert await eventually(lambda: told.store(SOUTH).head_manifest(name_in("release"), V1))


async def test_what_cannot_be_used_is_passed_over_and_the_rest_is_not(told: Deployment):
    await images.push(told.store(NORTH), APP, SECOND, V2)
    strange = [
        "no object",
        {},
        {"action": "push"},
        {"action": "push", "target": "no object"},
        event("pull", repository="team/app", tag="v1"),
        event("mount", repository="team/app", fromRepository="team/other"),
        event(repository="team/app"),
        event(repository="team/app", tag=["v1"]),
        event(repository="team/app", tag="not a tag"),
        event(repository="UPPER", tag="v1"),
        event(repository=None, tag="v1"),
        event(tag="v1"),
        event("delete", repository="team/app"),
        event("delete", repository="team/app", tag="not a tag"),
        event("delete", repository="nothing-but-a-name", tag="v1"),
    ]

    assert await notify(told, *strange, event(repository="team/app", tag="v2")) == 202

    assert await eventually(lambda: told.store(SOUTH).head_manifest(name_in("release"), V2))


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer t0ken-of-the-registry\xe9"]
)
async def test_nobody_tells_anything_without_the_token(told: Deployment, authorization: str):
    answer = await told.http("POST", "/notifications", body={"events": []}, headers={"Authorization": authorization})
    assert answer.refused()[:2] == (401, "SVCSTG.SWR.4010000")
    assert TOKEN not in answer.content.decode()


async def test_a_region_without_a_token_says_what_to_do(told: Deployment):
    answer = await told.http("POST", "/notifications", region=SOUTH, body={"events": []}, headers=AUTHORIZED)

    status, code, message = answer.refused()
    assert (status, code) == (403, "SVCSTG.SWR.4039002")
    assert "set its notifications_token in the configuration" in message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"events": {}}', b"\xff", b"[" * 100_000])
async def test_a_body_that_holds_no_events_is_refused(told: Deployment, body: bytes):
    answer = await told.http("POST", "/notifications", body=body, headers=AUTHORIZED)
    assert answer.refused()[:2] == (400, "SVCSTG.SWR.4001018")
