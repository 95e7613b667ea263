"""A reload changes a running server: all of a configuration, or nothing, and no job is lost."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tagferry.accounts.key_file import new_key
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.vault import Vault
from tagferry.errors import Invalid, NotFound
from tagferry.names import RegionId, Tag
from tests.support.browser import Browser
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, deployed, eventually, name_in
from tests.support.images import image, push
from tests.support.processes import free_port

WEST = RegionId("west")
APP = name_in(TEAM)


@pytest.fixture
async def ferry(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path / "data", sync={"retry_minutes": 0}) as running:
        yield running


def west(ferry: Deployment, **changed: Any) -> dict[str, Any]:
    """A region that reaches the registry of the south over HTTP, whose organizations it uses."""
    return {
        "registry": ferry.urls[SOUTH],
        "username": ferry.admin.name,
        "password": ferry.admin.password,
        "organizations": "open",
        **changed,
    }


def regions(ferry: Deployment, **changed: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The configured regions with some changed, added, or removed (None)."""
    document = {name: one.model_dump(exclude_unset=True) for name, one in ferry.settings.regions.items()}
    merged = {**document, **changed}
    return {name: region for name, region in merged.items() if region is not None}


async def copied(ferry: Deployment, *tags: str, region: RegionId = WEST) -> list[dict[str, Any]]:
    """Synchronize tags to the organization `release` of a region; returns their ended jobs."""
    ids = await started(ferry, *tags, region=region)
    return sorted(await ferry.ended_jobs(APP, ids), key=lambda job: str(job["tag"]))


async def started(ferry: Deployment, *tags: str, region: RegionId = WEST) -> list[int]:
    body = {"imageTag": list(tags), "remoteNamespace": RELEASE, "remoteRegionId": region, "override": True}
    async with ferry.client() as client:
        return list((await client.start_sync(APP.namespace, APP.repository, body)).tags)


async def test_a_region_that_was_added_is_used_without_a_restart(ferry: Deployment):
    sample = image(seed="first")
    await push(ferry.store(NORTH), APP, sample, Tag("v1"))

    changed = await ferry.reload(regions=regions(ferry, west=west(ferry)))
    jobs = await copied(ferry, "v1")

    assert changed == ["regions.west"]
    assert [job["status"] for job in jobs] == ["success"], jobs
    found = await ferry.store(SOUTH).head_manifest(name_in(RELEASE), Tag("v1"))
    assert found is not None
    assert found.digest == sample.digest


async def test_credentials_that_were_corrected_are_used_by_the_next_job(ferry: Deployment):
    await push(ferry.store(NORTH), APP, image(seed="first"), Tag("v1"))
    await ferry.reload(regions=regions(ferry, west=west(ferry, password="wrong")))
    before = await copied(ferry, "v1")

    changed = await ferry.reload(regions=regions(ferry, west=west(ferry)))
    after = await copied(ferry, "v1")

    assert changed == ["regions.west.password"]
    assert ([job["status"] for job in before], [job["status"] for job in after]) == (["failed"], ["success"])


async def test_a_running_copy_ends_with_the_registry_that_it_began_with(ferry: Deployment):
    await push(ferry.store(NORTH), APP, image(seed="first"), Tag("v1"))
    await ferry.reload(regions=regions(ferry, west=west(ferry)))
    held = ferry.hold(WEST)
    ids = await started(ferry, "v1")

    await ferry.reload(regions=regions(ferry, west=west(ferry, max_connections=7)))
    assert ferry.store(WEST) is not held
    held.released.set()

    assert [job["status"] for job in await ferry.ended_jobs(APP, ids)] == ["success"]
    assert await held.head_manifest(name_in(RELEASE), Tag("v1")) is not None


async def test_a_region_whose_registry_is_reached_as_before_keeps_its_connections(ferry: Deployment):
    await ferry.reload(regions=regions(ferry, west=west(ferry)))
    before = ferry.store(WEST), ferry.store(NORTH)

    await ferry.reload(regions=regions(ferry, west=west(ferry, max_bytes_per_second=1_000_000)), log_level="debug")

    assert (ferry.store(WEST), ferry.store(NORTH)) == before


async def test_waiting_jobs_of_a_removed_region_say_so_and_fail(ferry: Deployment):
    await push(ferry.store(NORTH), APP, image(seed="first"), Tag("v1"))
    await ferry.reload(regions=regions(ferry, west=west(ferry, max_concurrent_tags=1)), sync={"retry_minutes": 15})
    held = ferry.hold(WEST)
    (first,) = await started(ferry, "v1")
    await push(ferry.store(NORTH), APP, image(seed="second"), Tag("v2"))
    (second,) = await started(ferry, "v2")

    await ferry.reload(regions=regions(ferry, west=None))
    async with ferry.client() as client:
        shown = await client.show_job(second)
        with pytest.raises(Exception, match="west"):
            await started(ferry, "v1")
    held.released.set()
    (running,) = await ferry.ended_jobs(APP, [first])
    await ferry.reload(sync={"retry_minutes": 0})
    (waiting,) = await ferry.ended_jobs(APP, [second])

    assert (shown["status"], shown["reason"]) == ("waiting", "waiting: region west is no longer configured")
    assert running["status"] == "success"
    assert (waiting["status"], waiting["reason"]) == ("failed", "region west is no longer configured")


async def test_jobs_of_a_region_that_is_configured_again_continue(ferry: Deployment):
    await push(ferry.store(NORTH), APP, image(seed="first"), Tag("v1"))
    await ferry.reload(regions=regions(ferry, west=west(ferry, max_concurrent_tags=1)), sync={"retry_minutes": 15})
    held = ferry.hold(WEST)
    (first,) = await started(ferry, "v1")
    await push(ferry.store(NORTH), APP, image(seed="second"), Tag("v2"))
    (second,) = await started(ferry, "v2")
    await ferry.reload(regions=regions(ferry, west=None))

    held.released.set()
    await ferry.reload(regions=regions(ferry, west=west(ferry)))

    jobs = await ferry.ended_jobs(APP, [first, second])
    assert [job["status"] for job in jobs] == ["success", "success"]


async def test_a_refused_change_leaves_everything_as_it_was(ferry: Deployment):
    before = ferry.settings, {region.id: region for region in ferry.app.services.swr.regions}

    with pytest.raises(Invalid) as refused:
        await ferry.reload(
            data_dir=Path("elsewhere"), limits={"body_bytes": 7}, regions=regions(ferry, west=west(ferry))
        )

    assert refused.value.message == "data_dir cannot change while running; restart to apply it"
    assert (ferry.settings, {region.id: region for region in ferry.app.services.swr.regions}) == before
    with pytest.raises(NotFound):
        ferry.store(WEST)


async def test_a_file_that_cannot_be_read_leaves_everything_as_it_was(ferry: Deployment, tmp_path: Path):
    before = ferry.settings
    missing = tmp_path / "missing.pem"

    with pytest.raises(Invalid) as refused:
        await ferry.reload(
            regions=regions(ferry, west=west(ferry, registry="https://example.com", ca_file=missing)),
            limits={"body_bytes": 7},
        )

    assert refused.value.field == "region west: ca_file"
    assert ferry.settings is before
    assert (await ferry.http("GET", "/v2/manage/regions")).status == 401


async def test_new_limits_apply_to_new_requests(ferry: Deployment):
    headers = {"X-Auth-Token": await ferry.token()}
    body = {"namespace": "a" * 100}

    await ferry.reload(limits={"body_bytes": 50})
    too_large = await ferry.http("POST", "/v2/manage/namespaces", headers=headers, body=body)
    await ferry.reload(limits={"body_bytes": 5000})
    invalid = await ferry.http("POST", "/v2/manage/namespaces", headers=headers, body=body)

    assert "body" in too_large.refused()[2]
    assert "namespace" in invalid.refused()[2]


async def test_organizations_of_a_region_become_open(ferry: Deployment):
    access, unrecorded = ferry.app.accounts.access, SOUTH

    await ferry.reload(regions=regions(ferry, **{SOUTH: ferry_region(ferry, organizations="open")}))

    assert access.is_open(unrecorded)


def ferry_region(ferry: Deployment, **changed: Any) -> dict[str, Any]:
    return {**ferry.settings.regions[SOUTH].model_dump(exclude_unset=True), **changed}


async def test_a_region_that_was_added_is_checked(tmp_path: Path):
    async with deployed(tmp_path / "data", health={"check_interval_seconds": 0.2}) as ferry:
        await ferry.reload(regions=regions(ferry, west={"registry": f"http://127.0.0.1:{free_port()}"}))
        headers = {"X-Auth-Token": await ferry.token()}

        async def state() -> str | None:
            listed = (await ferry.http("GET", "/v2/manage/regions", headers=headers)).document
            (found,) = [one for one in listed if one["regionID"] == WEST]
            return found["health"]["state"] if "health" in found else None

        assert await eventually(state) == "unreachable"


async def test_the_processes_of_the_database_know_the_new_regions(ferry: Deployment):
    await ferry.reload(regions=regions(ferry, west=west(ferry)))

    (process,) = await ferry.app.services.swr.processes.load()
    assert process.configured is not None
    assert [(one["id"], one["registry"]) for one in process.configured][-1] == (WEST, ferry.urls[SOUTH])


async def test_keys_that_do_not_decrypt_the_stored_secrets_are_refused(ferry: Deployment):
    former = ferry.app.accounts.vault.key_ids

    with pytest.raises(Invalid, match="secret_key must decrypt all stored secrets"):
        await ferry.reload(secret_key=new_key())

    assert ferry.app.accounts.vault.key_ids == former
    async with ferry.client() as client:
        assert await client.list_regions()


async def test_a_new_key_in_front_of_the_former_one_is_used_from_then_on(ferry: Deployment, tmp_path: Path):
    former, newest = (tmp_path / "data" / "secret.key").read_text().strip(), new_key()

    changed = await ferry.reload(secret_key=f"{newest},{former}")

    key = await ferry.key(ferry.admin.name)
    assert changed == ["secret_key"]
    assert await AccessKeys(ferry.app.accounts.database, Vault([newest])).by_key(key.access_key) is not None


async def test_pages_and_lists_show_jobs_of_a_removed_region(ferry: Deployment):
    await push(ferry.store(NORTH), APP, image(seed="first"), Tag("v1"))
    await ferry.reload(regions=regions(ferry, west=west(ferry)))
    (job,) = [one["id"] for one in await copied(ferry, "v1")]
    browser = Browser(ferry.urls[NORTH])
    await browser.sign_in(ferry.admin.name, ferry.admin.password)

    await ferry.reload(regions=regions(ferry, west=None))

    pages = ("/console/", "/console/jobs", f"/console/jobs/{job}", "/console/regions")
    assert [(await browser.get(path)).status for path in pages] == [200] * len(pages)
    async with ferry.client() as client:
        assert [one["id"] for one in await client.list_all_jobs(limit=10)] == [job]
        assert (await client.show_job(job))["status"] == "success"
