"""The effect of an existing tag at the target on its sync, and on the other tags of the request."""

from typing import Any

import pytest

from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Deployment, name_in

SOURCE, TARGET = name_in("team"), name_in("release")
OLD, NEW = images.index(images.image(seed="old")), images.index(images.image(seed="new"))


async def sync(ferry: Deployment, *tags: str, **more: Any) -> list[str]:
    body = {"imageTag": tags, "remoteNamespace": "release", "remoteRegionId": SOUTH, **more}
    path = "/v2/manage/namespaces/team/repos/app/sync_images"
    answer = await ferry.http("POST", path, body=body, headers={"X-Auth-Token": await ferry.token()})
    assert answer.status == 200, answer.content
    failed: list[str] = answer.document
    return failed


async def jobs(ferry: Deployment) -> dict[str, dict[str, Any]]:
    """The latest job of every tag."""
    path = "/v2/manage/namespaces/team/repos/app/sync_job?filter=order::asc"
    answer = await ferry.http("GET", path, headers={"X-Auth-Token": await ferry.token()})
    return {job["tag"]: job for job in answer.document}


async def put(ferry: Deployment, *tags: str, sample: images.SampleImage = NEW) -> None:
    for tag in tags:
        await images.push(ferry.store(NORTH), SOURCE, sample, Tag(tag))


async def at_target(ferry: Deployment, tag: str) -> str | None:
    found = await ferry.store(SOUTH).head_manifest(TARGET, Tag(tag))
    return found.digest if found else None


@pytest.mark.parametrize("override", [False, True])
async def test_an_identical_tag_is_in_place_and_no_failure(ferry: Deployment, override: bool) -> None:
    await put(ferry, "V1")
    await images.push(ferry.store(SOUTH), TARGET, NEW, Tag("V1"))

    assert await sync(ferry, "V1", override=override) == []

    job = (await jobs(ferry))["V1"]
    assert (job["status"], job["digest"]) == ("success", NEW.digest)
    assert job["reason"] == "up to date"


@pytest.mark.parametrize("more", [{}, {"override": False}, {"override": None}])
async def test_a_different_image_is_kept_and_listed_without_override(ferry: Deployment, more: dict[str, Any]) -> None:
    await put(ferry, "V1")
    await images.push(ferry.store(SOUTH), TARGET, OLD, Tag("V1"))

    assert await sync(ferry, "V1", **more) == ["V1"]

    job = (await jobs(ferry))["V1"]
    assert (job["status"], job["override"]) == ("existed", False)
    assert "override=true" in job["reason"]
    assert await at_target(ferry, "V1") == OLD.digest


async def test_a_different_image_is_replaced_with_override(ferry: Deployment) -> None:
    await put(ferry, "V1")
    await images.push(ferry.store(SOUTH), TARGET, OLD, Tag("V1"))

    assert await sync(ferry, "V1", override=True) == []

    job = (await jobs(ferry))["V1"]
    assert (job["status"], job["override"], job["digest"]) == ("success", True, NEW.digest)
    assert await at_target(ferry, "V1") == NEW.digest
    assert (await ferry.store(SOUTH).get_manifest(TARGET, OLD.digest)).raw == OLD.manifest.raw


async def test_a_moved_tag_is_seen_at_the_next_call(ferry: Deployment) -> None:
    await put(ferry, "V1", sample=OLD)
    assert await sync(ferry, "V1") == []
    await put(ferry, "V1", sample=NEW)
    assert await sync(ferry, "V1") == ["V1"]
    assert await sync(ferry, "V1", override=True) == []
    assert await at_target(ferry, "V1") == NEW.digest


async def test_the_tags_that_can_be_synchronized_are_whatever_becomes_of_the_others(ferry: Deployment) -> None:
    await put(ferry, "good", "blocked", "same", "better")
    await images.push(ferry.store(SOUTH), TARGET, OLD, Tag("blocked"))
    await images.push(ferry.store(SOUTH), TARGET, NEW, Tag("same"))
    await images.push(ferry.store(SOUTH), TARGET, OLD, Tag("untouched"))

    failed = await sync(ferry, "missing", "good", "blocked", "same", "absent", "better")

    assert failed == ["missing", "blocked", "absent"]
    assert {tag: job["status"] for tag, job in (await jobs(ferry)).items()} == {
        "missing": "failed",
        "good": "success",
        "blocked": "existed",
        "same": "success",
        "absent": "failed",
        "better": "success",
    }
    assert (await jobs(ferry))["missing"]["reason"] == "the tag does not exist in the source repository"
    standing = {tag: await at_target(ferry, tag) for tag in ("good", "blocked", "same", "better", "untouched")}
    assert standing == {
        "good": NEW.digest,
        "blocked": OLD.digest,
        "same": NEW.digest,
        "better": NEW.digest,
        "untouched": OLD.digest,
    }
    assert await at_target(ferry, "missing") is None


async def test_an_image_that_lacks_a_part_fails_and_says_so_without_a_tag_at_the_target(ferry: Deployment) -> None:
    await put(ferry, "whole")
    broken = images.image(seed="broken")
    await images.push(ferry.store(NORTH), SOURCE, broken, Tag("broken"))
    (layer,) = (blob.digest for blob in broken.manifest.blobs[1:])
    await ferry.store(NORTH).delete_blob(SOURCE, layer)

    assert await sync(ferry, "broken", "whole") == ["broken"]

    job = (await jobs(ferry))["broken"]
    assert job["status"] == "failed"
    assert layer in job["reason"]
    assert await at_target(ferry, "broken") is None
    assert await at_target(ferry, "whole") == NEW.digest


async def test_every_job_tells_how_many_bytes_there_were(ferry: Deployment) -> None:
    await put(ferry, "V1")
    await sync(ferry, "V1")
    job = (await jobs(ferry))["V1"]
    size = sum(len(content) for content in NEW.all_blobs.values())
    assert (job["bytesDone"], job["bytesTotal"]) == (size, size)
