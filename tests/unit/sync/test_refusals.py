"""Requests that are refused as a whole: nothing is recorded, and nothing changes at the target."""

from typing import Any

import pytest

from tagferry.accounts.model import Permission
from tagferry.errors import Denied, Invalid, NotFound, TagferryError, TooLarge
from tagferry.names import Namespace, RegionId, Tag
from tests.support.images import image, push
from tests.unit.copy.stores import APP
from tests.unit.sync.conftest import NORTH, RELEASE, SOUTH, TEAM, V1, World

GHOST = Namespace("ghost")


async def refused(world: World, *tags: Tag, kind: type[TagferryError], **other: Any) -> str:
    """Return the error, after a check that the refusal had no effect."""
    await push(world.source, APP, image(), V1)
    service = await world.start_process(max_tags_per_request=2)
    with pytest.raises(kind) as raised:
        await service.start(world.request(*tags, **other))
    assert type(raised.value) is kind
    assert await world.recorded() == []
    assert world.target.log == []
    assert not world.target.counts, "the target is not even asked"
    return raised.value.message


async def test_no_tags(world: World):
    assert await refused(world, kind=Invalid) == "imageTag must name at least one tag"


async def test_too_many_tags(world: World):
    told = await refused(world, V1, Tag("v2"), Tag("v3"), kind=TooLarge)

    assert told == "imageTag must name at most 2 tags: got 3"


async def test_an_unknown_target_region(world: World):
    told = await refused(world, V1, kind=Invalid, target_region=RegionId("mars-1"))

    assert told == 'remoteRegionId must be one of the known regions (cn-north-4, cn-south-1): got "mars-1"'


async def test_a_target_that_is_the_source(world: World):
    told = await refused(world, V1, kind=Invalid, target_region=NORTH, target_namespace=TEAM)

    rule = "must be another region than the source's, or remoteNamespace another organization"
    assert told == f'remoteRegionId {rule}: got "cn-north-4/team"'


async def test_a_source_organization_that_does_not_exist(world: World):
    told = await refused(world, V1, kind=NotFound, namespace=GHOST)

    assert told == 'organization "ghost" in cn-north-4 does not exist; create it first, or check its name'


async def test_a_target_organization_that_does_not_exist(world: World):
    told = await refused(world, V1, kind=NotFound, target_namespace=GHOST)

    assert told.startswith('organization "ghost" in cn-south-1 does not exist')
    assert "remoteNamespace" in told


async def test_a_caller_who_may_not_read_the_source(world: World):
    stranger = await world.users.create("stranger", "correct horse", domain="acme")
    await world.organizations.grant(SOUTH, RELEASE, "stranger", Permission.EDIT)

    told = await refused(world, V1, kind=Denied, caller=stranger)

    assert (
        told == 'user "stranger" needs the permission to read in the organization "team" of cn-north-4, '
        'or in its repository "app"'
    )


@pytest.mark.parametrize("permission", [None, Permission.READ])
async def test_a_caller_who_may_not_write_the_target(world: World, permission: Permission | None):
    reader = await world.users.create("reader", "correct horse", domain="acme")
    await world.organizations.grant(NORTH, TEAM, "reader", Permission.MANAGE)
    if permission:
        await world.organizations.grant(SOUTH, RELEASE, "reader", permission)

    told = await refused(world, V1, kind=Denied, caller=reader)

    assert (
        told == 'user "reader" needs the permission to edit in the organization "release" of cn-south-1, '
        'or in its repository "app"'
    )


async def test_jobs_are_shown_only_to_readers_of_the_repository(world: World):
    await push(world.source, APP, image(), V1)
    await world.sync(V1)
    assert world.process is not None
    service = world.process.service
    terms: dict[str, Any] = {"limit": 10, "offset": 0, "descending": True}

    jobs, total = await service.jobs_of(world.caller, NORTH, TEAM, APP.repository, **terms)
    assert ([job.tag for job in jobs], total) == ([V1], 1)

    stranger = await world.users.create("stranger", "correct horse", domain="acme")
    with pytest.raises(Denied):
        await service.jobs_of(stranger, NORTH, TEAM, APP.repository, **terms)
    with pytest.raises(NotFound):
        await service.jobs_of(world.caller, NORTH, GHOST, APP.repository, **terms)
