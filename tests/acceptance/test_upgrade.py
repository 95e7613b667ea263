"""Jobs that an earlier version accepted and did not end are ended by this one."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import text

from tagferry.app import App, open_app
from tagferry.names import Namespace, RegionId, Repository, RepositoryName, Tag
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import Endpoint, RemoteStore
from tagferry.settings import Settings
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tests.support import images
from tests.support.deployment import eventually
from tests.support.docker_registry import DockerRegistry, docker_registry
from tests.support.processes import free_port
from tests.support.schemas import JOBS, add_accounts, add_jobs, inspected, migrate_to

NORTH, TEAM, APP = RegionId("north"), Namespace("team"), Repository("app")
SHARED, LARGE = images.layer("shared"), images.layer("large", repeat=1000)
SAMPLES = {Tag("v1"): images.image(SHARED, LARGE), Tag("v2"): images.image(SHARED, seed="v2")}
TARGETS = (RepositoryName("release/app"), RepositoryName("other/app"))


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The location of the database: beside the images, or in PostgreSQL."""
    if request.param == "sqlite":
        return {}
    server = request.getfixturevalue("postgres")
    return {"database_url": server.url(server.new_database())}


async def leave_unfinished(registry: DockerRegistry) -> None:
    """A blob that the earlier version copied, and a session with half of another."""
    target = RemoteStore(Endpoint(name="target", url=registry.url))
    await target.write_blob(TARGETS[0], images.blob(SHARED), images.opening(SHARED))
    await target.close()
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{registry.url}/v2/{TARGETS[0]}/blobs/uploads/") as begun:
            assert begun.status == 202
            location = begun.headers["Location"]
        async with http.patch(location, data=LARGE[: len(LARGE) // 2]) as half:
            assert half.status == 202
    registry.forget_requests()


async def all_ended(app: App) -> list[SyncJob]:
    """Return the jobs, oldest first, once all of them have ended."""
    admin = await app.accounts.users.find("admin")

    async def ended() -> list[SyncJob]:
        jobs, _ = await app.services.swr.sync.jobs_of(admin, NORTH, TEAM, APP, limit=100, offset=0, descending=False)
        return jobs if all(job.status.has_ended for job in jobs) else []

    return await eventually(ended)


async def test_open_jobs_of_the_version_before_the_queue_are_ended_by_this_one(
    tmp_path: Path, settings: dict[str, Any]
):
    source = await DiskStore.open(tmp_path / "data" / "registries" / NORTH)
    for tag, sample in SAMPLES.items():
        await images.push(source, RepositoryName("team/app"), sample, tag)
    await source.close()
    with docker_registry(tmp_path) as registry:
        await leave_unfinished(registry)
        regions = {
            "north": {"listen": f"127.0.0.1:{free_port()}"},
            "south": {"registry": registry.url, "organizations": "open"},
        }
        parsed = Settings.parse({"data_dir": tmp_path / "data", "regions": regions, **settings})
        inspected(parsed.effective_database_url, lambda connection: migrate_to(connection, "0004"))
        inspected(parsed.effective_database_url, add_accounts)
        # Nothing in this site has encrypted them, and a start without their key is refused.
        inspected(parsed.effective_database_url, lambda connection: connection.execute(text("DELETE FROM access_keys")))
        inspected(parsed.effective_database_url, add_jobs)

        async with open_app(parsed) as app:
            await app.accounts.users.create("admin", None, domain="acme", is_admin=True)
            jobs = await all_ended(app)

        uploaded = [seen.path for seen in await registry.requests() if seen.method == "PUT" and "/blobs/" in seen.path]
        target = RemoteStore(Endpoint(name="target", url=registry.url))
        arrived = {
            (repository, tag): (await target.get_manifest(repository, tag)).digest
            for repository, tag in ((TARGETS[0], Tag("v1")), (TARGETS[0], Tag("v2")), (TARGETS[1], Tag("v1")))
        }
        await target.close()

    assert [(job.tag, job.status) for job in jobs] == [(job.tag, JobStatus.SUCCESS) for job in JOBS]
    assert [job.attempts for job in jobs] == [0, 1, 1, 1, 1, 1]
    assert [job.reason for job in jobs[1:]] == [
        "copied and verified",
        "copied and verified",
        "up to date",
        "up to date",
        "copied and verified",
    ]
    assert arrived == {
        (TARGETS[0], "v1"): SAMPLES[Tag("v1")].digest,
        (TARGETS[0], "v2"): SAMPLES[Tag("v2")].digest,
        (TARGETS[1], "v1"): SAMPLES[Tag("v1")].digest,
    }
    again = [path for path in uploaded if path.startswith(f"/v2/{TARGETS[0]}") and images.blob(SHARED).digest in path]
    assert again == []
