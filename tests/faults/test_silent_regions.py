"""A region that takes connections and answers nothing keeps no other region, and nobody who asks, waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tagferry.names import RegionId, Tag
from tests.support.deployment import NORTH, SOUTH, TEAM, Answer, Deployment, deployed, name_in
from tests.support.images import image, push
from tests.support.raw_server import listening

EAST = RegionId("cn-east-3")
APP = name_in("team")
TAGS = [Tag(f"v{number}") for number in range(120)]
PATH = "/v2/manage/namespaces/team/repos/app/sync_images"


@dataclass
class BlackHole:
    """Takes connections, and reads what is sent."""

    url: str = ""
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            self.heard.set()


@asynccontextmanager
async def ferry(directory: Path, **settings: Any) -> AsyncIterator[tuple[Deployment, BlackHole]]:
    """Two regions that answer, and one that does not, with 120 tags in the first one."""
    hole = BlackHole()
    async with listening(hole.serve) as url:
        regions: dict[str, Any] = {NORTH: {"listen": ""}, SOUTH: {"listen": ""}, EAST: {"registry": url, "listen": ""}}
        async with deployed(directory, regions=regions, **settings) as deployment:
            for tag in TAGS:
                await push(deployment.store(NORTH), APP, image(), tag)
            yield deployment, hole


async def sync(deployment: Deployment, target: RegionId, *tags: Tag, prefer: str, token: str) -> Answer:
    """Ask for a synchronization; the client gives up after 30 seconds, while a silent region takes minutes."""
    body = {"imageTag": list(tags), "remoteNamespace": TEAM, "remoteRegionId": target}
    headers = {"X-Auth-Token": token, "Content-Type": "application/json", "Prefer": prefer}
    return await deployment.http("POST", PATH, body=body, headers=headers)


@pytest.mark.parametrize("tags_in_flight", [32, 4, 1])
async def test_jobs_for_a_silent_region_leave_the_slots_to_those_of_others(tmp_path: Path, tags_in_flight: int):
    async with ferry(tmp_path, sync={"tags_in_flight": tags_in_flight}) as (deployment, hole):
        token = await deployment.token()
        queued = await sync(deployment, EAST, *TAGS, prefer="respond-async", token=token)
        assert queued.status == 202
        await hole.heard.wait()

        answer = await sync(deployment, SOUTH, TAGS[0], prefer="wait=25", token=token)

        assert (answer.status, answer.document) == (200, [])
        ended = await statuses(deployment, EAST)
        assert set(ended) == {"waiting", "running"}


@pytest.mark.parametrize(("prefer", "status"), [("respond-async", 202), ("wait=2", 504), ("wait=0", 504)])
async def test_a_request_is_recorded_whether_its_registry_answers_or_not(tmp_path: Path, prefer: str, status: int):
    async with ferry(tmp_path) as (deployment, _):
        token = await deployment.token()

        answer = await sync(deployment, EAST, *TAGS, prefer=prefer, token=token)

        assert answer.status == status
        assert len(await statuses(deployment, EAST)) == len(TAGS)


LISTS = [
    "/v2/manage/namespaces/team/repos/app/tags",
    "/v2/manage/repos",
    "/v2/manage/namespaces/team/repos/app",
]


@pytest.mark.parametrize("path", LISTS)
async def test_lists_of_a_silent_region_are_answered_504_and_keep_no_other_region_waiting(tmp_path: Path, path: str):
    async with ferry(tmp_path, limits={"answer_seconds": 8}) as (deployment, hole):
        headers = {"X-Auth-Token": await deployment.token()}
        stuck = [asyncio.create_task(deployment.http("GET", path, region=EAST, headers=headers)) for _ in range(100)]
        await hole.heard.wait()

        beside = await deployment.http("GET", LISTS[0], headers=headers)

        assert beside.status == 200
        assert len(beside.document) > 0
        answers = await asyncio.gather(*stuck)
        assert {answer.status for answer in answers} == {504}
        assert "did not answer within 8 s" in answers[0].refused()[2]


async def statuses(deployment: Deployment, target: RegionId) -> list[str]:
    """The states of the jobs to a region."""
    jobs, _ = await deployment.app.services.sync._jobs.of_repository(NORTH, TEAM, APP.repository, limit=None)
    return [job.status.value for job in jobs if job.target_region == target]
