"""The status and the reason of each tag."""

from datetime import UTC, datetime, timedelta

import pytest

from tagferry.errors import NotFound, Refused, Unavailable
from tagferry.names import Tag
from tagferry.sync.jobs.model import JobStatus
from tests.support.images import image, index, push
from tests.unit.copy.stores import APP, COPY
from tests.unit.sync.conftest import NORTH, RELEASE, REPO, SOUTH, TEAM, V1, V2, V3, World

OLD, NEW = image(seed="old"), image(seed="new")


async def test_a_tag_that_was_copied_is_a_success_with_its_digest_and_bytes(world: World):
    await push(world.source, APP, index(), V1)

    assert await world.sync(V1) == []

    (job,) = await world.recorded()
    assert (job.status, job.reason, job.digest) == (JobStatus.SUCCESS, "copied and verified", index().digest)
    assert job.bytes_done == job.bytes_total == sum(map(len, index().all_blobs.values()))
    assert await world.target.tag(COPY, V1) == index().digest


async def test_a_job_records_its_requester_and_times(world: World):
    await push(world.source, APP, NEW, V1)
    before = datetime.now(UTC)

    await world.sync(V1, override=True, id="call-7")

    (job,) = await world.recorded()
    assert (job.request_id, job.operator_id, job.operator_name) == ("call-7", world.caller.user_id, "carol")
    assert (job.domain_id, job.domain_name) == (world.caller.domain_id, "acme")
    assert (job.source_region, job.namespace, job.repository, job.tag) == (NORTH, TEAM, REPO, V1)
    assert (job.target_region, job.target_namespace, job.override) == (SOUTH, RELEASE, True)
    assert before - timedelta(seconds=1) < job.created_at <= job.updated_at <= datetime.now(UTC)


@pytest.mark.parametrize("override", [False, True])
async def test_a_tag_that_is_up_to_date_is_a_success_without_a_copy(world: World, override: bool):
    await push(world.source, APP, NEW, V1)
    await push(world.target, COPY, NEW, V1)
    world.target.log.clear()

    assert await world.sync(V1, override=override) == []

    (job,) = await world.recorded()
    assert job.status is JobStatus.SUCCESS
    assert (job.reason, job.digest) == ("up to date", NEW.digest)
    assert world.target.log == []


async def test_another_image_at_the_target_is_listed_as_failed_and_recorded_as_existed(world: World):
    await push(world.source, APP, NEW, V1)
    await push(world.target, COPY, OLD, V1)

    assert await world.sync(V1) == [V1]

    (job,) = await world.recorded()
    assert (job.status, job.digest) == (JobStatus.EXISTED, OLD.digest)
    assert job.reason == "the target holds another image under this tag; send override=true to replace it"
    assert await world.target.tag(COPY, V1) == OLD.digest


async def test_another_image_at_the_target_is_replaced_by_override(world: World):
    await push(world.source, APP, NEW, V1)
    await push(world.target, COPY, OLD, V1)

    assert await world.sync(V1, override=True) == []

    assert await world.statuses() == [("v1", "success")]
    assert await world.target.tag(COPY, V1) == NEW.digest


@pytest.mark.parametrize("exists_at_target", [False, True])
async def test_a_missing_tag_fails_beside_good_ones(world: World, exists_at_target: bool):
    await push(world.source, APP, NEW, V1)
    await push(world.source, APP, OLD, V3)
    if exists_at_target:
        await push(world.target, COPY, OLD, V2)

    assert await world.sync(V1, V2, V3) == [V2]

    jobs = {job.tag: job for job in await world.recorded()}
    assert [jobs[tag].status for tag in (V1, V2, V3)] == ["success", "failed", "success"]
    assert jobs[V2].reason == "the tag does not exist in the source repository"


async def test_an_existing_repository_that_lacks_every_tag_fails_them_all(world: World):
    await push(world.source, APP, NEW, V3)

    assert await world.sync(V1, V2) == [V1, V2]

    assert sorted(await world.statuses()) == [("v1", "failed"), ("v2", "failed")]


async def test_a_repository_that_does_not_exist_is_not_found_and_nothing_is_recorded(world: World):
    with pytest.raises(NotFound, match='repository "team/app" does not exist'):
        await world.sync(V1, V2)

    assert await world.recorded() == []
    assert world.target.log == []


async def test_failed_tags_are_returned_in_the_order_of_the_request(world: World):
    await push(world.source, APP, NEW, V2)

    assert await world.sync(V3, V2, V1) == [V3, V1]


async def test_a_tag_that_is_named_twice_is_one_job(world: World):
    await push(world.source, APP, NEW, V1)

    assert await world.sync(V1, V1) == []
    assert await world.statuses() == [("v1", "success")]


@pytest.mark.parametrize("error", [Refused("the registry says no"), Unavailable("the registry is down")])
@pytest.mark.parametrize("where", ["source", "target"])
async def test_a_refusal_of_a_store_fails_only_that_tag_with_its_reason(world: World, error: Exception, where: str):
    await push(world.source, APP, NEW, V1)
    await push(world.source, APP, OLD, V2)
    store = world.source if where == "source" else world.target
    store.failures[NEW.digest if where == "target" else V1] = error

    assert await world.sync(V1, V2) == [V1]

    jobs = {job.tag: job for job in await world.recorded()}
    assert (jobs[V1].status, jobs[V1].reason) == (JobStatus.FAILED, str(error))
    assert jobs[V2].status is JobStatus.SUCCESS
    assert await world.target.tag(COPY, V1) is None


async def test_a_target_that_fails_during_preflight_is_checked_again_by_the_job(world: World):
    await push(world.source, APP, NEW, V1)
    world.target.failures[V1] = Unavailable("the registry is down")

    assert await world.sync(V1) == [V1]

    (job,) = await world.recorded()
    assert (job.status, job.reason) == (JobStatus.FAILED, "the registry is down")


async def test_an_unexpected_error_fails_only_that_tag_as_an_internal_error(world: World):
    await push(world.source, APP, NEW, V1)
    await push(world.source, APP, OLD, V2)
    world.target.failures[NEW.digest] = ZeroDivisionError("secret detail")

    assert await world.sync(V1, V2) == [V1]

    jobs = {job.tag: job for job in await world.recorded()}
    assert jobs[V1].status is JobStatus.FAILED
    assert jobs[V1].reason == "internal error (ZeroDivisionError); see the server's log"
    assert jobs[V2].status is JobStatus.SUCCESS


async def test_many_tags_are_recorded_in_the_order_of_the_request(world: World):
    tags = [Tag(f"t{number}") for number in range(300)]
    for tag in tags:
        await push(world.source, APP, NEW, tag)

    assert await world.sync(*tags) == []

    assert [job.tag for job in await world.recorded()] == tags
    assert world.source.counts["read_blob"] == len(NEW.blobs)
