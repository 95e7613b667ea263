"""A dry run shows what a synchronization would copy, and changes nothing."""

from typing import Any

from tagferry.names import RepositoryName, Tag
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Deployment, name_in

SOURCE, TARGET = name_in("team"), name_in("release")
SHARED = images.layer("shared", repeat=1000)
OLD, NEW = images.image(SHARED, seed="old"), images.image(SHARED, images.layer("new"), seed="new")


async def plan(ferry: Deployment, *tags: str, override: bool = False, **fields: Any) -> Any:
    body = {
        "imageTag": list(tags),
        "override": override,
        "remoteNamespace": "release",
        "remoteRegionId": SOUTH,
        **fields,
    }
    return await ferry.http(
        "POST",
        "/v2/manage/namespaces/team/repos/app/sync_plan",
        body=body,
        headers={"X-Auth-Token": await ferry.token()},
    )


async def test_each_tag_is_told_what_would_be_done(ferry: Deployment) -> None:
    for tag, sample in (("same", OLD), ("other", NEW), ("new", NEW)):
        await images.push(ferry.store(NORTH), SOURCE, sample, Tag(tag))
    for tag in ("same", "other"):
        await images.push(ferry.store(SOUTH), TARGET, OLD, Tag(tag))

    answer = await plan(ferry, "same", "other", "new", "missing")

    assert answer.status == 200
    told = {tag["tag"]: tag for tag in answer.document["tags"]}
    assert {tag: one["action"] for tag, one in told.items()} == {
        "same": "up_to_date",
        "other": "existed",
        "new": "copy",
        "missing": "failed",
    }
    size = sum(map(len, NEW.all_blobs.values()))
    assert told["new"]["bytesPresent"] == len(SHARED)
    assert told["new"]["bytesToCopy"] == answer.document["bytesToCopy"] == size - len(SHARED)
    # Deprecated names of the same numbers.
    assert told["new"]["bytesToMove"] == answer.document["bytesToMove"] == size - len(SHARED)
    assert all(tag["blobsToMove"] == tag["blobsToCopy"] for tag in answer.document["tags"])
    assert told["new"]["sourceDigest"] == NEW.digest
    assert told["other"]["targetDigest"] == OLD.digest


async def test_what_tags_share_is_counted_once(ferry: Deployment) -> None:
    for tag in ("v1", "v2"):
        await images.push(ferry.store(NORTH), SOURCE, OLD, Tag(tag))

    first, second = (await plan(ferry, "v1", "v2")).document["tags"]

    assert first["bytesToCopy"] == second["bytesPresent"] == sum(map(len, OLD.all_blobs.values()))
    assert second["bytesToCopy"] == 0


async def test_within_a_region_blobs_are_mounted(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), SOURCE, OLD, Tag("v1"))

    (told,) = (await plan(ferry, "v1", remoteRegionId=NORTH)).document["tags"]

    assert (told["bytesToCopy"], told["bytesToMount"]) == (0, sum(map(len, OLD.all_blobs.values())))


async def test_nothing_is_changed(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), SOURCE, OLD, Tag("v1"))

    await plan(ferry, "v1")

    assert [name async for name in ferry.store(SOUTH).list_repositories()] == []
    jobs = await ferry.http(
        "GET", "/v2/manage/namespaces/team/repos/app/sync_job", headers={"X-Auth-Token": await ferry.token()}
    )
    assert jobs.document == []


async def test_a_plan_is_refused_as_the_synchronization_would_be(ferry: Deployment) -> None:
    assert (await plan(ferry, "v1", remoteRegionId="nowhere")).status == 400
    assert (await plan(ferry, "v1", remoteNamespace="nowhere")).status == 404
    assert (await plan(ferry, "v1")).status == 404
    assert await ferry.store(NORTH).head_manifest(RepositoryName(SOURCE), Tag("v1")) is None
