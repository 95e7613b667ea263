"""A region with a full disk reports it, and continues to serve reads."""

import os
from pathlib import Path

import aiohttp

from tagferry.names import RepositoryName, Tag
from tagferry.registry.storage.store import DiskStore
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, deployed, eventually
from tests.support.images import image, push

APP = RepositoryName(f"{TEAM}/app")


async def test_a_full_disk_is_said_everywhere_and_passes(tmp_path: Path) -> None:
    sample = image()
    disk = os.statvfs(tmp_path)
    async with deployed(tmp_path, sync={"retry_minutes": 15}) as ferry:
        await push(ferry.store(NORTH), APP, sample, Tag("v1"))
        roomy = ferry.store(SOUTH)
        root = tmp_path / "registries" / SOUTH
        crowded = await DiskStore.open(root, name=SOUTH, reserve=disk.f_blocks * disk.f_frsize)
        ferry.replace(SOUTH, crowded)

        probe = await ferry.http("GET", "/readyz")
        assert (probe.status, probe.document["components"][f"disk of {SOUTH}"]) == (
            503,
            "the registry's disk is full; free space or enlarge it, then try again",
        )
        assert (await ferry.http("GET", "/readyz?exclude=disk")).status == 200

        (job,) = await ferry.start_sync(APP, [Tag("v1")], RELEASE)

        async def waiting() -> str:
            async with ferry.client() as client:
                jobs = await client.sync_jobs(APP.namespace, APP.repository, [job])
            return str(jobs[job]) if "disk is full" in str(jobs[job]) else ""

        assert "waiting" in await eventually(waiting)

        login = {"Authorization": aiohttp.encode_basic_auth(ferry.admin.name, ferry.admin.password)}
        assert (await ferry.http("GET", f"/v2/{APP}/manifests/v1", headers=login)).status == 200
        # Once there is space, waiting jobs continue without a new request.
        ferry.replace(SOUTH, roomy)
        (ended,) = await ferry.ended_jobs(APP, [job])
        assert ended["status"] == "success", ended
        assert (await ferry.http("GET", "/readyz")).status == 200
        await crowded.close()
