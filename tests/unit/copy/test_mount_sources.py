from collections import defaultdict
from collections.abc import Collection

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.estimate import Estimate
from tagferry.copy.mount_sources import MountSources
from tagferry.errors import NotFound
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import BlobOutcome
from tests.support.images import image, index, push
from tests.support.memory_store import MemoryStore
from tests.unit.copy.stores import APP, COPY, V1, ScriptedStore, route

HERE, THERE = MemoryStore("here"), MemoryStore("there")
FIRST, SECOND, THIRD = (Digest.of(content) for content in (b"1", b"2", b"3"))
SIBLING, OTHERS = RepositoryName("release/sibling"), RepositoryName("others/app")


class MemoryLocations:
    """Locations that outlive an engine, with a log of queries."""

    def __init__(self) -> None:
        self.kept: defaultdict[tuple[str, Digest], list[RepositoryName]] = defaultdict(list)
        self.asked: list[set[Digest]] = []

    async def find(self, address: str, digests: Collection[Digest]) -> dict[Digest, list[RepositoryName]]:
        self.asked.append(set(digests))
        return {digest: self.kept[address, digest] for digest in digests if self.kept[address, digest]}

    def add(self, address: str, repository: RepositoryName, digest: Digest) -> None:
        if repository not in self.kept[address, digest]:
            self.kept[address, digest].insert(0, repository)

    def remove(self, address: str, repository: RepositoryName, digest: Digest) -> None:
        if repository in self.kept[address, digest]:
            self.kept[address, digest].remove(repository)


def test_a_source_is_another_repository_of_the_same_store():
    sources = MountSources()
    sources.add(HERE, APP, FIRST)

    assert sources.find(HERE, COPY, FIRST) == APP
    assert sources.find(HERE, APP, FIRST) is None
    assert sources.find(THERE, COPY, FIRST) is None


def test_a_removed_source_is_not_returned_again():
    locations = MemoryLocations()
    sources = MountSources(locations)
    sources.add(HERE, APP, FIRST)
    sources.add(HERE, COPY, FIRST)

    sources.remove(HERE, APP, FIRST)

    assert sources.find(HERE, SIBLING, FIRST) == COPY
    assert locations.kept[HERE.name, FIRST] == [COPY]
    sources.remove(HERE, APP, SECOND)


def test_the_least_recently_used_blob_is_evicted():
    sources = MountSources(limit=2)
    for digest in (FIRST, SECOND, FIRST, THIRD):
        sources.add(HERE, APP, digest)

    assert [sources.find(HERE, COPY, digest) for digest in (FIRST, SECOND, THIRD)] == [APP, None, APP]


def test_a_blob_in_many_repositories_keeps_few_sources():
    locations = MemoryLocations()
    sources = MountSources(locations)

    for number in range(100):
        sources.add(HERE, RepositoryName(f"team/app-{number}"), FIRST)

    assert 1 < len(locations.kept[HERE.name, FIRST]) < 10


async def test_only_unknown_blobs_are_loaded():
    locations = MemoryLocations()
    MountSources(locations).add(HERE, APP, FIRST)
    sources = MountSources(locations)
    sources.add(HERE, APP, SECOND)

    await sources.load(HERE, [FIRST, SECOND])
    await sources.load(HERE, [FIRST, SECOND])

    assert locations.asked == [{FIRST}]
    assert sources.find(HERE, COPY, FIRST) == APP


async def copied(locations: MemoryLocations, source: ScriptedStore, target: ScriptedStore, to: RepositoryName) -> None:
    """Copy `v1` by a new engine that shares only the locations with earlier ones."""
    await CopyEngine(mount_sources=MountSources(locations)).copy(route(source, target, to=to), V1, override=False)


async def test_a_new_engine_mounts_blobs_of_an_earlier_one_and_asks_for_each_once(
    source: ScriptedStore, target: ScriptedStore
):
    sample, locations = index(), MemoryLocations()
    await push(source, APP, sample, V1)
    await copied(locations, source, target, COPY)
    source.counts.clear()
    locations.asked.clear()

    await copied(locations, source, target, SIBLING)

    assert set(target.outcomes.values()) == {BlobOutcome.MOUNTED}
    assert target.outcomes.keys() == sample.all_blobs.keys()
    assert source.counts["read_blob"] == source.counts["stat_blob"] == 0
    assert sorted(digest for asked in locations.asked for digest in asked) == sorted(sample.all_blobs)


async def test_no_locations_are_loaded_if_nothing_is_to_be_copied(source: ScriptedStore, target: ScriptedStore):
    locations = MemoryLocations()
    await push(source, APP, image(), V1)
    engine = CopyEngine(mount_sources=MountSources(locations))
    for _ in range(2):
        await engine.copy(route(source, target), V1, override=True)
    await target.delete_manifest(COPY, V1)
    locations.asked.clear()

    await engine.copy(route(source, target), V1, override=False)
    await engine.copy(route(source, source), V1, override=False)

    assert locations.asked == []


async def test_an_estimate_counts_blobs_of_an_earlier_engine_as_mounted(source: ScriptedStore, target: ScriptedStore):
    sample, locations = image(), MemoryLocations()
    await push(source, APP, sample, V1)
    await copied(locations, source, target, COPY)

    engine = CopyEngine(mount_sources=MountSources(locations))
    estimates = await engine.estimate_all(route(source, target, to=SIBLING), [V1], override=False)

    estimate = estimates[V1]
    assert isinstance(estimate, Estimate)
    assert (estimate.to_mount, estimate.to_copy) == (sum(map(len, sample.blobs.values())), 0)


async def test_wrong_locations_are_removed_and_fail_no_copy(source: ScriptedStore, target: ScriptedStore):
    sample, locations = index(), MemoryLocations()
    await push(source, APP, sample, V1)
    for digest in sample.all_blobs:
        locations.add(target.name, SIBLING, digest)

    await copied(locations, source, target, COPY)

    assert set(target.outcomes.values()) == {BlobOutcome.UPLOADED}
    assert all(locations.kept[target.name, digest] == [COPY] for digest in sample.all_blobs)


async def test_a_blob_missing_at_the_source_is_not_mounted_from_another_organization(
    source: ScriptedStore, target: ScriptedStore
):
    sample, locations = image(), MemoryLocations()
    await push(source, APP, sample, V1)
    await push(target, OTHERS, sample, V1)
    for digest in sample.all_blobs:
        locations.add(target.name, OTHERS, digest)
    stolen = next(iter(sample.blobs))
    await source.delete_blob(APP, stolen)

    with pytest.raises(NotFound):
        await copied(locations, source, target, COPY)

    assert await target.stat_blob(COPY, stolen) is None
    assert await target.tag(COPY, V1) is None
