"""A repository is compared with its copies in other regions, tag by tag."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tagferry.accounts.model import AccessKey, Permission
from tagferry.app import DEFAULT_DOMAIN
from tagferry.errors import Unavailable
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.images import TagRecord
from tagferry.oci.model import Descriptor
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, deployed, name_in
from tests.support.memory_store import MemoryStore

APP = name_in("team")
OLD, NEW = images.image(seed="old"), images.image(seed="new")


class UnreliableStore(MemoryStore):
    """A store that does not answer for some tags, or not at all."""

    def __init__(self) -> None:
        super().__init__("unreliable")
        self.silent: set[Reference] = set()
        self.failing = False
        self.lists_nothing = False
        self.is_broken = False

    async def head_manifest(self, repository: RepositoryName, reference: Reference, **terms: Any) -> Descriptor | None:
        if reference in self.silent:
            await asyncio.Event().wait()
        if self.failing:
            raise Unavailable("registry unreliable answered 503")
        return await super().head_manifest(repository, reference, **terms)

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        if self.is_broken:
            raise Unavailable("registry unreliable answered 503")
        return await super().describe_tags(repository, only)

    async def list_tags(self, repository: RepositoryName) -> Any:
        if self.lists_nothing:
            await asyncio.Event().wait()
        if self.is_broken:
            raise Unavailable("registry unreliable answered 503")
        async for tag in super().list_tags(repository):
            yield tag


async def compare(ferry: Deployment, *, key: AccessKey | None = None, **terms: Any) -> dict[str, Any]:
    async with ferry.client(key=key) as client:
        return await client.compare_tags(TEAM, APP.repository, **terms)


def states(page: dict[str, Any], target: str = f"{SOUTH}/{TEAM}") -> dict[str, str]:
    names = [f"{one['region']}/{one['namespace']}" for one in page["targets"]]
    return {row["tag"]: row["targets"][names.index(target)]["state"] for row in page["tags"]}


async def fill(ferry: Deployment) -> None:
    north, south = ferry.store(NORTH), ferry.store(SOUTH)
    for tag, here, there in (
        ("same", OLD, OLD),
        ("moved", NEW, OLD),
        ("new", NEW, None),
        ("only-there", None, OLD),
    ):
        if here is not None:
            await images.push(north, APP, here, Tag(tag))
        if there is not None:
            await images.push(south, APP, there, Tag(tag))


def quick(ferry: Deployment) -> None:
    """Wait for registries only a moment."""
    ferry.app.services.swr.comparison._seconds = ferry.app.services.swr.locations._seconds = 0.2


async def test_each_tag_is_the_same_different_missing_or_extra(ferry: Deployment) -> None:
    await fill(ferry)

    page = await compare(ferry)

    assert [(one["region"], one["namespace"], one["repository"]) for one in page["targets"]] == [(SOUTH, TEAM, "app")]
    assert states(page) == {"moved": "different", "new": "missing", "only-there": "extra", "same": "same"}
    moved = page["tags"][0]
    assert (moved["digest"], moved["targets"][0]["digest"]) == (NEW.digest, OLD.digest)
    assert page["nextMarker"] is None


async def test_a_registry_over_http_is_asked_only_for_the_tags_of_the_page(ferry: Deployment) -> None:
    south = MemoryStore()
    ferry.replace(SOUTH, south)
    for number in range(9):
        await images.push(ferry.store(NORTH), APP, OLD, Tag(f"v{number}"))
        await images.push(south, APP, OLD, Tag(f"v{number}"))
    await images.push(ferry.store(NORTH), APP, OLD, Tag("v9"))
    south.counts.clear()

    first = await compare(ferry, limit="4")
    assert list(states(first)) == ["v0", "v1", "v2", "v3"]
    assert (south.counts["list_tags"], south.counts["head_manifest"]) == (1, 4)

    rest = await compare(ferry, limit="100", marker=first["nextMarker"])
    assert list(states(rest)) == ["v4", "v5", "v6", "v7", "v8", "v9"]
    assert rest["nextMarker"] is None
    # The last tag is not in the list, so it is not asked for.
    assert south.counts["head_manifest"] == 4 + 5


async def test_only_the_differences_are_listed_on_request(ferry: Deployment) -> None:
    await fill(ferry)
    for number in range(20):
        for region in (NORTH, SOUTH):
            await images.push(ferry.store(region), APP, OLD, Tag(f"v{number}"))

    first = await compare(ferry, differences="true", limit="2")
    second = await compare(ferry, differences="true", limit="2", marker=first["nextMarker"])

    assert list(states(first)) == ["moved", "new"]
    assert list(states(second)) == ["only-there"]
    assert states(await compare(ferry, differences="true", tag="mov")) == {"moved": "different"}


async def test_a_page_ends_early_when_its_requests_are_used_up(
    ferry: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagferry.bounds.COMPARED_DIGESTS", 3)
    ferry.replace(SOUTH, MemoryStore())
    for number in range(5):
        for region in (NORTH, SOUTH):
            await images.push(ferry.store(region), APP, OLD, Tag(f"v{number}"))

    first = await compare(ferry, differences="true")
    second = await compare(ferry, differences="true", marker=first["nextMarker"])

    assert (first["tags"], first["nextMarker"]) == ([], "v2")
    assert (second["tags"], second["nextMarker"]) == ([], None)


async def test_targets_of_rules_and_jobs_are_compared_under_their_own_organization(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), APP, OLD, Tag("v1"))
    jobs = await ferry.start_sync(APP, [Tag("v1")], RELEASE)
    await ferry.ended_jobs(APP, jobs)
    rule = {"remoteRegionId": NORTH, "remoteNamespace": RELEASE, "syncAuto": False}
    headers = {"X-Auth-Token": await ferry.token()}
    path = f"/v2/manage/namespaces/{TEAM}/repos/app/sync_repo"
    assert (await ferry.http("POST", path, body=rule, headers=headers)).status == 200

    page = await compare(ferry)

    # The same name in the south has no images and nothing refers to it, so it is no copy.
    names = [f"{one['region']}/{one['namespace']}" for one in page["targets"]]
    assert names == [f"{NORTH}/{RELEASE}", f"{SOUTH}/{RELEASE}"]
    assert states(page, f"{NORTH}/{RELEASE}") == {"v1": "missing"}
    assert states(page, f"{SOUTH}/{RELEASE}") == {"v1": "same"}


async def test_a_target_is_named_by_its_region_or_organization(ferry: Deployment) -> None:
    await fill(ferry)

    assert states(await compare(ferry, to=[SOUTH]))["same"] == "same"
    page = await compare(ferry, to=[f"{SOUTH}/{RELEASE}"])
    assert {one["exists"] for one in page["targets"]} == {False}
    assert states(page, f"{SOUTH}/{RELEASE}")["same"] == "missing"
    for to, status in (
        ("nowhere", 400),
        (f"{SOUTH}/nowhere", 404),
        (f"{NORTH}/{TEAM}", 400),
        ("North!", 400),
    ):
        assert (await answer(ferry, f"to={to}")).status == status


async def answer(ferry: Deployment, query: str, repository: str = "app") -> Any:
    path = f"/v2/manage/namespaces/{TEAM}/repos/{repository}/comparison?{query}"
    return await ferry.http("GET", path, headers={"X-Auth-Token": await ferry.token()})


async def test_a_converted_image_counts_as_the_same(tmp_path: Path) -> None:
    accepts = {"format": "docker", "rewrite": True}
    regions: dict[str, dict[str, Any]] = {NORTH: {"listen": ""}, SOUTH: {"listen": "", "accepts": accepts}}
    async with deployed(tmp_path / "data", regions=regions) as ferry:
        for tag in ("v1", "v2"):
            await images.push(ferry.store(NORTH), APP, OLD, Tag(tag))
        await ferry.ended_jobs(APP, await ferry.start_sync(APP, [Tag("v1"), Tag("v2")], TEAM))
        await images.push(ferry.store(NORTH), APP, NEW, Tag("v2"))

        page = await compare(ferry)

        assert states(page) == {"v1": "converted", "v2": "different"}
        assert page["tags"][0]["targets"][0]["digest"] != OLD.digest
        assert states(await compare(ferry, differences="true")) == {"v2": "different"}


async def test_a_registry_that_does_not_answer_delays_only_what_it_was_asked_for(ferry: Deployment) -> None:
    quick(ferry)
    south = UnreliableStore()
    ferry.replace(SOUTH, south)
    for tag in ("v1", "v2"):
        await images.push(ferry.store(NORTH), APP, OLD, Tag(tag))
        await images.push(south, APP, OLD, Tag(tag))
    south.silent = {Tag("v2")}

    assert states(await compare(ferry)) == {"v1": "same", "v2": "unknown"}

    south.failing = True
    page = await compare(ferry)
    assert states(page) == {"v1": "unknown", "v2": "unknown"}
    assert page["tags"][0]["targets"][0]["reason"] == "registry unreliable answered 503"

    south.lists_nothing = True
    page = await compare(ferry)
    assert page["targets"][0]["reason"] == "registry unreliable did not answer within 0.2 s"
    assert states(page) == {"v1": "unknown", "v2": "unknown"}


async def test_a_source_that_does_not_answer_is_unknown_everywhere(ferry: Deployment) -> None:
    quick(ferry)
    north = UnreliableStore()
    ferry.replace(NORTH, north)
    await images.push(ferry.store(SOUTH), APP, OLD, Tag("v1"))
    north.lists_nothing = True

    page = await compare(ferry)

    assert page["source"]["reason"] == "registry unreliable did not answer within 0.2 s"
    assert states(page) == {"v1": "unknown"}
    assert page["tags"][0]["targets"][0]["digest"] == OLD.digest


async def test_copies_that_the_caller_may_not_read_are_left_out(ferry: Deployment) -> None:
    await fill(ferry)
    _, key = await ferry.user("reader", team=Permission.READ)

    assert (await compare(ferry, key=key))["targets"] == []

    await ferry.grant("reader", SOUTH, TEAM, Permission.READ)
    assert states(await compare(ferry, key=key))["same"] == "same"


async def test_guests_do_not_see_the_targets_of_others(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), APP, OLD, Tag("v1"))
    headers = {"X-Auth-Token": await ferry.token()}
    path = f"/v2/manage/namespaces/{TEAM}/repos"
    for owner in (TEAM, RELEASE):
        body = {"repository": "app", "category": "other", "description": "", "is_public": True}
        url = path.replace(TEAM, owner)
        made = await ferry.http("POST", url, region=SOUTH if owner == RELEASE else NORTH, body=body, headers=headers)
        assert made.status in (201, 409), made.content
    await ferry.http("PATCH", f"{path}/app", body={"is_public": True}, headers=headers)
    rule = {"remoteRegionId": SOUTH, "remoteNamespace": RELEASE, "syncAuto": False}
    assert (await ferry.http("POST", f"{path}/app/sync_repo", body=rule, headers=headers)).status == 200
    _, inside = await ferry.user("inside", domain=DEFAULT_DOMAIN, team=Permission.READ)
    _, guest = await ferry.user("guest", domain="strangers")

    assert [one["namespace"] for one in (await compare(ferry, key=inside))["targets"]] == [RELEASE]
    assert (await compare(ferry, key=guest))["targets"] == []


async def test_a_repository_that_exists_nowhere_is_not_found(ferry: Deployment) -> None:
    assert (await answer(ferry, "", "nothing")).status == 404
    assert (await answer(ferry, "limit=0", "app")).status == 400
    assert (await answer(ferry, "marker=!", "app")).status == 400


async def test_a_repository_whose_name_has_slashes_is_compared(ferry: Deployment) -> None:
    deep = RepositoryName("team/shop/web")
    for region in (NORTH, SOUTH):
        await images.push(ferry.store(region), deep, OLD, Tag("v1"))

    for name in ("shop$web", "shop%24web", "shop%2Fweb", "shop/web"):
        found = await answer(ferry, "", name)
        assert (found.status, states(found.document)) == (200, {"v1": "same"})


async def test_an_image_is_found_wherever_it_is(ferry: Deployment) -> None:
    south = MemoryStore()
    ferry.replace(SOUTH, south)
    await images.push(ferry.store(NORTH), name_in("release", "other"), OLD, Tag("v1"))
    await images.push(south, name_in("release", "other"), OLD, Tag("copy"))
    await images.push(south, name_in("team", "elsewhere"), OLD, Tag("copy"))

    async with ferry.client() as client:
        found = await client.locate(OLD.digest)
        nothing = await client.locate(Digest.of(b"nothing"))
        expected = await client.locate(OLD.digest, "team/elsewhere")

    def names(answer: Any) -> list[str]:
        return [f"{one['region']}/{one['namespace']}/{one['repository']}" for one in answer["found"]]

    # The embedded region is searched; elsewhere, the same name is asked for.
    assert names(found) == [f"{NORTH}/release/other", f"{SOUTH}/release/other"]
    north, away = found["coverage"]
    assert (north["region"], north["isComplete"], north["asked"]) == (NORTH, True, 1)
    assert (away["isComplete"], away["asked"]) == (False, 1)
    assert away["reason"] == "only repositories in which it is expected were asked"
    assert names(nothing) == []
    assert names(expected) == [f"{NORTH}/release/other", f"{SOUTH}/release/other", f"{SOUTH}/team/elsewhere"]


async def test_an_image_is_found_where_jobs_have_copied_it(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), APP, OLD, Tag("v1"))
    south = MemoryStore()
    ferry.replace(SOUTH, south)
    await ferry.ended_jobs(APP, await ferry.start_sync(APP, [Tag("v1")], RELEASE))
    await ferry.store(NORTH).delete_repository(APP)

    async with ferry.client() as client:
        found = await client.locate(OLD.digest)

    assert [(one["region"], one["namespace"]) for one in found["found"]] == [(SOUTH, RELEASE)]


async def test_an_image_is_shown_only_where_the_caller_may_read(ferry: Deployment) -> None:
    for region in (NORTH, SOUTH):
        for owner in (TEAM, RELEASE):
            await images.push(ferry.store(region), name_in(owner), OLD, Tag("v1"))
    _, key = await ferry.user("reader", team=Permission.READ)

    async with ferry.client(key=key) as client:
        found = await client.locate(OLD.digest, "release/app")

    assert [(one["region"], one["namespace"]) for one in found["found"]] == [(NORTH, TEAM)]
    assert all(one["asked"] <= 1 for one in found["coverage"])


async def test_a_region_that_does_not_answer_is_said_not_to_have_been_asked(ferry: Deployment) -> None:
    quick(ferry)
    south = UnreliableStore()
    ferry.replace(SOUTH, south)
    south.silent = {OLD.digest}
    await images.push(ferry.store(NORTH), APP, OLD, Tag("v1"))

    async with ferry.client() as client:
        found = await client.locate(OLD.digest)

    assert [one["region"] for one in found["found"]] == [NORTH]
    assert found["coverage"][1] == {
        "region": SOUTH,
        "asked": 0,
        "isComplete": False,
        "reason": "registry unreliable did not answer within 0.2 s",
    }
