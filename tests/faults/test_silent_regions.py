"""A region that accepts connections and never answers delays no other region and no caller."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Scope

from tagferry import bounds
from tagferry.names import Namespace, RegionId, Repository, Tag
from tests.support.deployment import NORTH, SOUTH, TEAM, Answer, Deployment, deployed, eventually, name_in
from tests.support.images import image, push
from tests.support.raw_server import listening

EAST = RegionId("cn-east-3")
APP = name_in("team")
TAGS = [Tag(f"v{number}") for number in range(120)]
PATH = "/v2/manage/namespaces/team/repos/app/sync_images"


@dataclass
class BlackHole:
    """Accepts connections, and reads what is sent."""

    url: str = ""
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while await reader.read(65536):
            self.heard.set()


@asynccontextmanager
async def ferry(
    directory: Path, *, patience: float = 60.0, **settings: Any
) -> AsyncIterator[tuple[Deployment, BlackHole]]:
    """Two regions that answer, and one that does not, with 120 tags in the first one."""
    hole = BlackHole()
    async with listening(hole.serve) as url:
        silent = {"registry": url, "listen": "", "stall_timeout_seconds": patience}
        regions: dict[str, Any] = {NORTH: {"listen": ""}, SOUTH: {"listen": ""}, EAST: silent}
        async with deployed(directory, regions=regions, **settings) as deployment:
            for tag in TAGS:
                await push(deployment.store(NORTH), APP, image(), tag)
            yield deployment, hole


async def sync(deployment: Deployment, target: RegionId, *tags: Tag, prefer: str, token: str) -> Answer:
    """Request a sync; the client gives up after 30 seconds, while a silent region takes minutes."""
    body = {"imageTag": list(tags), "remoteNamespace": TEAM, "remoteRegionId": target}
    headers = {"X-Auth-Token": token, "Content-Type": "application/json", "Prefer": prefer}
    return await deployment.http("POST", PATH, body=body, headers=headers)


@pytest.mark.parametrize("max_concurrent_tags", [32, 4, 1])
async def test_jobs_for_a_silent_region_leave_slots_to_others(tmp_path: Path, max_concurrent_tags: int):
    async with ferry(tmp_path, sync={"max_concurrent_tags": max_concurrent_tags}) as (deployment, hole):
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
async def test_lists_of_a_silent_region_are_answered_504_and_delay_no_other_region(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
):
    async with ferry(tmp_path, limits={"response_timeout_seconds": 20, "concurrent_requests": 16}) as (
        deployment,
        hole,
    ):
        headers = {"X-Auth-Token": await deployment.token()}
        stuck: list[asyncio.Task[Answer]] = []
        load, arrived = deployment.app.services.load, []
        admits = load.admits

        def counted(scope: Scope, source: str) -> bool:
            arrived.append(source)
            return admits(scope, source)

        monkeypatch.setattr(load, "admits", counted)

        async def all_wait() -> bool:
            return len(arrived) >= len(stuck) and hole.connections >= bounds.CONCURRENT_LISTS and load.busy == 0

        # More than the limit of requests, including those that are admitted because of their credentials.
        for _ in range(3):
            stuck += [
                asyncio.create_task(deployment.http("GET", path, region=EAST, headers=headers)) for _ in range(20)
            ]
            await eventually(all_wait)

        beside = await deployment.http("GET", LISTS[0], headers=headers)

        assert beside.status == 200
        assert len(beside.document) > 0
        answers = await asyncio.gather(*stuck)
        assert {answer.status for answer in answers} == {504}
        assert "did not answer within 20 s" in answers[0].refused()[2]


async def test_a_paused_region_is_reported_to_operators_and_readiness_stays_200(tmp_path: Path):
    async with ferry(tmp_path, patience=1.0) as (deployment, _):
        token = await deployment.token()
        headers = {"X-Auth-Token": token}
        ready = await deployment.http("GET", "/readyz")
        assert (ready.status, ready.document["status"], "paused" in ready.document) == (200, "ok", False)
        await sync(deployment, EAST, *TAGS, prefer="respond-async", token=token)

        async def has_paused() -> bool:
            return "paused" in (await deployment.http("GET", "/readyz")).document

        await eventually(has_paused, seconds=60)

        ready = await deployment.http("GET", "/readyz")
        assert (ready.status, ready.document["status"], ready.document["paused"]) == (200, "ok", [EAST])
        regions = (await deployment.http("GET", "/v2/manage/regions", headers=headers)).document
        assert [region["regionID"] for region in regions if "pausedSince" in region] == [EAST]
        others = [region.keys() - {"health"} for region in regions if region["regionID"] != EAST]
        assert others == [{"regionID"}] * len(others)
        async with deployment.client() as client:
            assert await client.list_regions() == regions


async def test_the_reason_of_a_waiting_job_names_no_image_of_another_organization(tmp_path: Path):
    async with ferry(tmp_path, patience=1.0) as (deployment, _):
        await push(deployment.store(NORTH), name_in("release", "secret"), image(), TAGS[0])
        async with deployment.client() as client:
            body = {"imageTag": [TAGS[0]], "remoteNamespace": "release", "remoteRegionId": EAST}
            await client.start_sync(Namespace("release"), Repository("secret"), body)

            async def has_paused() -> bool:
                return bool(deployment.app.services.swr.sync.paused_regions)

            await eventually(has_paused, seconds=60)
            await sync(deployment, EAST, *TAGS[:4], prefer="respond-async", token=await deployment.token())
            jobs = await client.list_jobs(TEAM, APP.repository, limit=4, status="waiting")

        assert jobs
        assert all("waiting: region cn-east-3 has not answered since" in job["reason"] for job in jobs)
        assert all("secret" not in job["reason"] for job in jobs)


RULE = {"remoteRegionId": SOUTH, "remoteNamespace": "team", "syncAuto": True, "override": False}
CHANGES: list[tuple[str, str, Any]] = [
    ("DELETE", "/v2/manage/namespaces/team/repos/app/tags/v1", None),
    ("DELETE", "/v2/manage/namespaces/team/repos/app", None),
    ("POST", "/v2/manage/namespaces/team/repos/app/tags", {"source_tag": "v1", "destination_tag": "v2"}),
    ("POST", "/v2/manage/namespaces/team/repos", {"repository": "app", "is_public": False}),
    ("PATCH", "/v2/manage/namespaces/team/repos/app", {"is_public": False, "description": "new"}),
    ("POST", "/v2/manage/namespaces/team/repos/app/sync_repo", RULE),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES, ids=[f"{method} {path}" for method, path, _ in CHANGES])
async def test_a_change_at_a_silent_region_is_answered_504_and_reported_to_continue(
    tmp_path: Path, method: str, path: str, body: Any
):
    async with ferry(tmp_path, patience=4.0, limits={"response_timeout_seconds": 2}) as (deployment, _):
        headers = {"X-Auth-Token": await deployment.token(), "Content-Type": "application/json"}

        answer = await deployment.http(method, path, region=EAST, body=body, headers=headers)

        status, _, message = answer.refused()
        assert (status, "the change continues" in message) == (504, True), message


async def test_continuing_changes_at_a_silent_region_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "BACKGROUND_CHANGES", 3)
    async with ferry(tmp_path, patience=4.0, limits={"response_timeout_seconds": 1}) as (deployment, _):
        headers = {"X-Auth-Token": await deployment.token()}
        method, path, _ = CHANGES[0]

        first = [await deployment.http(method, path, region=EAST, headers=headers) for _ in range(3)]
        next_one = await deployment.http(method, path, region=EAST, headers=headers)

        assert [answer.status for answer in first] == [504, 504, 504]
        assert (next_one.status, next_one.headers["Retry-After"]) == (503, "5")


async def statuses(deployment: Deployment, target: RegionId) -> list[str]:
    """Return the states of the jobs to a region."""
    jobs, _ = await deployment.app.services.swr.sync._pages.of_repository(NORTH, TEAM, APP.repository, limit=None)
    return [job.status.value for job in jobs if job.target_region == target]
