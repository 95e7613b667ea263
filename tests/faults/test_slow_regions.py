"""A region that sends very little, and many that never answer, leave slots to others."""

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tagferry.names import RegionId, Tag
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tests.faults.test_silent_regions import BlackHole
from tests.support.deployment import NORTH, SOUTH, TEAM, Answer, Deployment, deployed, eventually, name_in
from tests.support.images import image, push
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.raw_server import listening
from tests.support.serving import serving

EAST = RegionId("cn-east-3")
APP = name_in("team")
SLOTS = 4
PATH = "/v2/manage/namespaces/team/repos/app/sync_images"

pytestmark = pytest.mark.timeout(300)


@dataclass
class Trickling:
    """A registry that sends blobs at 4 KiB a second, more than `min_bytes_per_second`."""

    app: Any

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def slowly(message: dict[str, Any]) -> None:
            body = message.get("body", b"")
            if "/blobs/sha256" in scope.get("path", "") and message["type"] == "http.response.body":
                for start in range(0, len(body), 1024):
                    await send({**message, "body": body[start : start + 1024], "more_body": True})
                    await asyncio.sleep(0.25)
                body = b""
            await send({**message, "body": body} if "body" in message else message)

        await self.app(scope, receive, slowly)


async def sync(
    deployment: Deployment, source: RegionId, target: RegionId, *tags: Tag, prefer: str, token: str
) -> Answer:
    body = {"imageTag": list(tags), "remoteNamespace": TEAM, "remoteRegionId": target}
    headers = {"X-Auth-Token": token, "Content-Type": "application/json", "Prefer": prefer}
    return await deployment.http("POST", PATH, region=source, body=body, headers=headers)


async def test_a_region_that_trickles_delays_no_other(tmp_path: Path):
    store = await DiskStore.open(tmp_path / "east")
    tags = [Tag(f"v{number}") for number in range(4 * SLOTS)]
    for tag in tags:
        await push(store, APP, image(random.Random(tag).randbytes(400_000)), tag)
    async with serving(Trickling(RegistryApp(store, OpenAuthorizer()))) as url:
        regions: dict[str, Any] = {NORTH: {"listen": ""}, SOUTH: {"listen": ""}, EAST: {"registry": url, "listen": ""}}
        async with deployed(tmp_path / "data", regions=regions, sync={"max_concurrent_tags": SLOTS}) as deployment:
            await push(deployment.store(NORTH), APP, image(), Tag("mine"))
            token = await deployment.token()
            queued = await sync(deployment, EAST, SOUTH, *tags, prefer="respond-async", token=token)
            assert queued.status == 202

            async def all_slots_are_held() -> bool:
                running = [job for job in await jobs(deployment, EAST) if job.status.value == "running"]
                return len(running) >= SLOTS

            await eventually(all_slots_are_held)

            answer = await sync(deployment, NORTH, SOUTH, Tag("mine"), prefer="wait=28", token=token)

            assert (answer.status, answer.document) == (200, [])
            assert {job.status.value for job in await jobs(deployment, EAST)} == {"waiting", "running"}
    await store.close()


async def test_ten_silent_regions_of_twenty_do_not_delay_the_others(tmp_path: Path):
    tags = [Tag(f"v{number}") for number in range(8)]
    others = [RegionId(f"other-{number}") for number in range(9)]
    async with AsyncExitStack() as stack:
        silent = {
            RegionId(f"silent-{number}"): await stack.enter_async_context(listening(BlackHole().serve))
            for number in range(10)
        }
        regions: dict[str, dict[str, Any]] = {region: {"listen": ""} for region in (NORTH, *others)}
        regions.update({region: {"registry": url} for region, url in silent.items()})
        deployment = await stack.enter_async_context(deployed(tmp_path, regions=regions))
        for tag in tags:
            await push(deployment.store(NORTH), APP, image(seed=tag), tag)
        token = await deployment.token()
        queued = await asyncio.gather(
            *(sync(deployment, NORTH, region, *tags, prefer="respond-async", token=token) for region in silent)
        )
        assert {answer.status for answer in queued} == {202}

        for other in others:
            await sync(deployment, NORTH, other, *tags, prefer="respond-async", token=token)

        async def others_have_ended() -> bool:
            ended = [job.target_region for job in await jobs(deployment, NORTH) if job.status.value == "success"]
            return ended == [region for region in ended if region in others] and len(ended) == len(others) * len(tags)

        # Silence is noticed after a minute only.
        await eventually(others_have_ended, seconds=50)


async def jobs(deployment: Deployment, source: RegionId) -> list[Any]:
    found, _ = await deployment.app.services.swr.sync._pages.of_repository(source, TEAM, APP.repository, limit=None)
    return found
