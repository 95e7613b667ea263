import asyncio
from typing import Any

import pytest

from tagferry.copy.engine import CopyEngine, Limits
from tagferry.copy.outcome import Outcome
from tagferry.copy.preflight import Finding, Verdict, compare
from tagferry.copy.progress import Progress
from tagferry.errors import Conflict, Corrupt, NotFound, Refused, Unavailable
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import Manifest
from tagferry.oci.referrer_tags import cosign_tags
from tests.support.clock import Clock
from tests.support.images import OCI_ZSTD_LAYER, SampleImage, artifact, attested, image, index, layer, push, read
from tests.support.memory_store import CHUNK
from tests.unit.copy.stores import APP, COPY, V1, V2, ScriptedStore, route

OLD, NEW = image(seed="old"), image(seed="new")


async def copy(source: ScriptedStore, target: ScriptedStore, tag: Tag = V1, *, override: bool = False) -> Outcome:
    return await CopyEngine().copy(route(source, target), tag, override=override)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize(
    "sample",
    [
        NEW,
        index(),
        index(docker=True),
        artifact(),
        artifact(artifact_type="application/vnd.example.chart", payload=b""),
        index(index(), image(seed="x")),
        attested(NEW),
        image(layer_type=OCI_ZSTD_LAYER),
        image(layer_type="application/x-whatever"),
        image(b"", b"", layer("more")),
        image(algorithm="sha512"),
        index(image(algorithm="sha512"), artifact()),
    ],
    ids=[
        "image",
        "index",
        "docker list",
        "artifact",
        "artifact of nothing",
        "nested index",
        "attested index",
        "zstd",
        "layers of any type",
        "empty layers",
        "sha512",
        "sha512 and artifact in an index",
    ],
)
async def test_an_image_arrives_complete_and_bit_identical(
    source: ScriptedStore, target: ScriptedStore, sample: SampleImage
):
    await push(source, APP, sample, V1)

    outcome = await copy(source, target)

    assert outcome == Outcome(verdict=Verdict.COPY, digest=sample.digest)
    assert (await target.get_manifest(COPY, V1)).raw == sample.manifest.raw
    for manifest in sample.all_manifests:
        stored = await target.get_manifest(COPY, manifest.digest)
        assert stored.raw == manifest.raw
        for blob in stored.blobs:
            assert await read(target, COPY, blob) == sample.all_blobs[blob.digest]


async def test_the_tag_comes_last_after_blobs_and_then_manifests(source: ScriptedStore, target: ScriptedStore):
    child, inner = image(seed="child"), index()
    sample = index(child, inner)
    await push(source, APP, sample, V1)

    await copy(source, target)

    kinds = [line.split()[0] for line in target.log]
    assert kinds == ["blob"] * len(sample.all_blobs) + ["manifest"] * 4 + ["tag"]
    assert target.log[-2] in (f"manifest {inner.digest}", f"manifest {child.digest}")
    written = [line.split()[1] for line in target.log]
    assert all(written.index(grandchild.digest) < written.index(inner.digest) for grandchild in inner.children)


@pytest.mark.parametrize("standing", [None, OLD])
async def test_a_failed_blob_leaves_the_tag_unchanged(
    source: ScriptedStore, target: ScriptedStore, standing: SampleImage | None
):
    for blob in NEW.blobs:
        await push(source, APP, NEW, V1)
        if standing:
            await push(target, COPY, standing, V1)
        target.failures = {blob: Unavailable("no space left")}

        with pytest.raises(Unavailable, match="no space left"):
            await copy(source, target, override=True)

        assert await target.tag(COPY, V1) == (standing.digest if standing else None)
        assert not others()


async def test_a_child_that_the_target_refuses_leaves_the_tag_unwritten(source: ScriptedStore, target: ScriptedStore):
    sample = index()
    await push(source, APP, sample, V1)
    target.failures[sample.children[0].digest] = Refused("the registry takes no such image")

    with pytest.raises(Refused, match="takes no such image"):
        await copy(source, target)

    assert await target.tag(COPY, V1) is None


async def test_bytes_that_do_not_match_their_digest_are_corrupt_and_no_tag_is_written(
    source: ScriptedStore, target: ScriptedStore
):
    await push(source, APP, NEW, V1)
    spoiled = next(iter(NEW.blobs))
    source.spoiled.add(spoiled)

    with pytest.raises(
        Corrupt, match=f"^{source.name} holds a blob that does not match its manifest: {spoiled} .*; build the image"
    ):
        await copy(source, target)

    assert await target.tag(COPY, V1) is None
    assert await target.stat_blob(COPY, spoiled) is None


async def test_an_image_whose_blob_the_source_lacks_is_not_copied(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, NEW, V1)
    lost = next(iter(NEW.blobs))
    await source.delete_blob(APP, lost)

    with pytest.raises(NotFound, match=str(lost)):
        await copy(source, target)

    assert await target.tag(COPY, V1) is None


async def test_a_tag_that_the_source_lacks_is_not_found(source: ScriptedStore, target: ScriptedStore):
    with pytest.raises(NotFound):
        await copy(source, target)

    await push(target, COPY, OLD, V1)
    with pytest.raises(NotFound, match='tag "team/app:v1" does not exist'):
        await copy(source, target)
    assert await target.tag(COPY, V1) == OLD.digest


async def test_a_tag_that_is_up_to_date_costs_two_requests(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, NEW, V1)
    await push(target, COPY, NEW, V1)
    source.counts.clear()
    target.counts.clear()

    outcome = await CopyEngine(referrers=False).copy(route(source, target), V1, override=False)

    assert outcome == Outcome(verdict=Verdict.UP_TO_DATE, digest=NEW.digest)
    assert source.counts == target.counts == {"head_manifest": 1}


async def test_another_image_is_replaced_only_by_override(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, NEW, V1)
    await push(target, COPY, OLD, V1)

    assert await copy(source, target) == Outcome(verdict=Verdict.BLOCKED, digest=OLD.digest)
    assert await target.tag(COPY, V1) == OLD.digest

    assert await copy(source, target, override=True) == Outcome(verdict=Verdict.COPY, digest=NEW.digest)
    assert await target.tag(COPY, V1) == NEW.digest


@pytest.mark.parametrize("together", [True, False])
async def test_a_blob_that_many_tags_share_is_copied_once(source: ScriptedStore, target: ScriptedStore, together: bool):
    shared = layer("shared", 100)
    samples = {Tag(f"v{number}"): image(shared, seed=str(number)) for number in range(20)}
    for tag, sample in samples.items():
        await push(source, APP, sample, tag)
    engine = CopyEngine()
    copies = [engine.copy(route(source, target), tag, override=False) for tag in samples]

    if together:
        await asyncio.gather(*copies)
    else:
        for one in copies:
            await one

    different = {digest for sample in samples.values() for digest in sample.blobs}
    assert source.counts["read_blob"] == len(different) == 21
    assert target.counts["write_blob"] == 21
    assert [await target.tag(COPY, tag) for tag in samples] == [sample.digest for sample in samples.values()]


async def test_a_child_that_two_tags_share_is_put_once(source: ScriptedStore, target: ScriptedStore):
    child = image(seed="child")
    await push(source, APP, index(child), V1)
    await push(source, APP, index(child, image(seed="other")), V2)
    engine = CopyEngine()

    await asyncio.gather(*(engine.copy(route(source, target), tag, override=False) for tag in (V1, V2)))

    assert target.log.count(f"manifest {child.digest}") == 1


async def test_blobs_that_the_target_holds_are_not_transferred(source: ScriptedStore, target: ScriptedStore):
    shared = layer("shared")
    old, new = image(shared, seed="old"), image(shared, seed="new")
    await push(target, COPY, old, V2)
    await push(source, APP, new, V1)

    await copy(source, target)

    assert source.counts["read_blob"] == 1
    assert target.outcomes[Digest.of(shared)] is BlobOutcome.PRESENT


async def test_a_blob_is_mounted_from_a_repository_that_is_known_to_hold_it(
    source: ScriptedStore, target: ScriptedStore
):
    await push(source, APP, NEW, V1)
    engine = CopyEngine()
    await engine.copy(route(source, target), V1, override=False)
    source.counts.clear()

    elsewhere = RepositoryName("elsewhere/app")
    await engine.copy(route(source, target, to=elsewhere), V1, override=False)

    assert await target.tag(elsewhere, V1) == NEW.digest
    assert set(target.outcomes.values()) == {BlobOutcome.MOUNTED}
    assert source.counts["read_blob"] == 0


async def test_a_mount_that_is_no_longer_possible_becomes_an_upload(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, NEW, V1)
    engine = CopyEngine()
    await engine.copy(route(source, target), V1, override=False)
    for blob in NEW.blobs:
        await target.delete_blob(COPY, blob)

    elsewhere = RepositoryName("elsewhere/app")
    await engine.copy(route(source, target, to=elsewhere), V1, override=False)

    assert await target.tag(elsewhere, V1) == NEW.digest
    assert set(target.outcomes.values()) == {BlobOutcome.UPLOADED}


async def test_within_one_store_blobs_are_mounted(source: ScriptedStore):
    await push(source, APP, index(), V1)
    moved = source.moved
    source.outcomes.clear()

    await copy(source, source)

    assert await source.tag(COPY, V1) == index().digest
    assert set(source.outcomes.values()) == {BlobOutcome.MOUNTED}
    assert source.moved == moved
    assert source.counts["read_blob"] == 0


@pytest.mark.parametrize("what", ["blob", "child"])
async def test_content_that_the_target_has_lost_is_sent_again(source: ScriptedStore, target: ScriptedStore, what: str):
    child = image(seed="child")
    await push(source, APP, index(child), V1)
    engine = CopyEngine()
    await engine.copy(route(source, target), V1, override=False)
    await target.delete_manifest(COPY, V1)
    await target.delete_manifest(COPY, index(child).digest)
    await target.delete_manifest(COPY, child.digest)
    if what == "blob":
        for blob in child.blobs:
            await target.delete_blob(COPY, blob)

    outcome = await engine.copy(route(source, target), V1, override=False)

    assert outcome.verdict is Verdict.COPY
    assert await target.tag(COPY, V1) == index(child).digest
    for blob in child.blobs:
        assert await target.stat_blob(COPY, blob) is not None


class SlowStore(ScriptedStore):
    """A source during whose reads time passes and another client writes the tag."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("source")
        self.clock = clock
        self.other: tuple[ScriptedStore, SampleImage] | None = None
        self.loses_tag = False

    async def get_manifest(self, repository, reference):
        manifest = await super().get_manifest(repository, reference)
        self.clock.now += 6
        if self.other is not None:
            store, sample = self.other
            await push(store, COPY, sample, V1)
        if self.loses_tag:
            await self.delete_manifest(APP, V1)
        return manifest


@pytest.mark.parametrize(
    ("standing", "override", "verdict", "digest"),
    [
        (OLD, False, Verdict.BLOCKED, OLD.digest),
        (NEW, False, Verdict.UP_TO_DATE, NEW.digest),
        (OLD, True, Verdict.COPY, NEW.digest),
    ],
)
async def test_a_tag_that_another_client_wrote_meanwhile_is_replaced_only_by_override(
    target: ScriptedStore, standing: SampleImage, override: bool, verdict: Verdict, digest: Digest
):
    source = SlowStore(clock := Clock())
    await push(source, APP, NEW, V1)
    source.other = target, standing
    engine = CopyEngine(clock=clock)

    outcome = await engine.copy(route(source, target), V1, override=override)

    assert outcome == Outcome(verdict=verdict, digest=digest)
    assert await target.tag(COPY, V1) == digest


async def test_a_tag_that_the_source_lost_meanwhile_replaces_nothing(target: ScriptedStore):
    source = SlowStore(clock := Clock())
    await push(source, APP, NEW, V1)
    source.other, source.loses_tag = (target, OLD), True
    engine = CopyEngine(clock=clock)

    outcome = await engine.copy(route(source, target), V1, override=False)

    assert outcome == Outcome(verdict=Verdict.BLOCKED, digest=OLD.digest)
    assert await target.tag(COPY, V1) == OLD.digest


async def test_a_recent_comparison_is_not_repeated(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, NEW, V1)
    way = route(source, target)
    finding = await compare(way, V1, override=False)
    target.counts.clear()

    await CopyEngine(clock=Clock()).copy(way, V1, override=False, finding=finding)

    assert target.counts["head_manifest"] == 0


async def test_a_comparison_becomes_stale_while_the_copy_waits_for_a_slot(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, NEW, V1)
    await push(source, APP, image(seed="first"), V2)
    engine, way = CopyEngine(Limits(tags=1), clock=(clock := Clock())), route(source, target)
    finding = await compare(way, V1, override=False)
    source.reading.clear()
    first = asyncio.create_task(engine.copy(way, V2, override=False))
    await source.being_read.wait()
    second = asyncio.create_task(engine.copy(way, V1, override=False, finding=finding))
    await settle()

    clock.now += 60
    await push(target, COPY, OLD, V1)
    source.reading.set()
    await first

    assert await second == Outcome(verdict=Verdict.BLOCKED, digest=OLD.digest)
    assert await target.tag(COPY, V1) == OLD.digest


@pytest.mark.parametrize(
    ("standing", "outcome"),
    [
        (OLD, Outcome(verdict=Verdict.BLOCKED, digest=OLD.digest)),
        (NEW, Outcome(verdict=Verdict.UP_TO_DATE, digest=NEW.digest)),
        (None, Outcome(verdict=Verdict.COPY, digest=NEW.digest)),
    ],
    ids=["another image", "the same image", "nothing"],
)
async def test_a_comparison_becomes_stale_while_the_job_is_queued(
    source: ScriptedStore, target: ScriptedStore, standing: SampleImage | None, outcome: Outcome
):
    await push(source, APP, NEW, V1)
    engine, way = CopyEngine(clock=(clock := Clock())), route(source, target)
    found = (await engine.compare_all(way, [V1], override=False))[V1]
    assert isinstance(found, Finding)
    clock.now += 60
    if standing is not None:
        await push(target, COPY, standing, V1)
    source.counts.clear()

    assert await engine.copy(way, V1, override=False, finding=found) == outcome

    # Only the target's current tag matters by then.
    assert source.counts["head_manifest"] == 0
    assert await target.tag(COPY, V1) == outcome.digest


async def test_progress_has_the_total_while_the_first_blob_is_read(source: ScriptedStore, target: ScriptedStore):
    sample = image(layer("one"), layer("two"), seed="big")
    await push(source, APP, sample, V1)
    source.reading.clear()
    progress = Progress()
    assert (progress.bytes_done, progress.bytes_total) == (0, 0)

    running = asyncio.create_task(CopyEngine().copy(route(source, target), V1, override=False, progress=progress))
    await source.being_read.wait()
    total = sum(map(len, sample.blobs.values()))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (progress.bytes_done, progress.bytes_total) == (0, total)

    source.reading.set()
    await running
    assert (progress.bytes_done, progress.bytes_total) == (total, total)


async def test_progress_counts_the_chunks_of_a_blob_in_transfer(source: ScriptedStore, target: ScriptedStore):
    content = bytes(4 * CHUNK)
    await push(source, APP, image(content), V1)
    progress, seen = Progress(), set()
    running = asyncio.create_task(CopyEngine().copy(route(source, target), V1, override=False, progress=progress))
    while not running.done():
        seen.add(progress.bytes_done)
        await asyncio.sleep(0)

    assert len(seen) > 3
    assert progress.bytes_done == progress.bytes_total > len(content)


async def test_blobs_that_the_target_holds_count_as_done(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, NEW, V1)
    await push(target, COPY, NEW)
    progress = Progress()

    await CopyEngine().copy(route(source, target), V1, override=False, progress=progress)

    assert target.moved == progress.bytes_done == progress.bytes_total
    assert source.counts["read_blob"] == 0


async def test_tags_that_share_a_blob_share_its_progress(source: ScriptedStore, target: ScriptedStore):
    shared = layer("shared")
    for tag in (V1, V2):
        await push(source, APP, image(shared, seed=tag), tag)
    engine, both = CopyEngine(), {V1: Progress(), V2: Progress()}

    await asyncio.gather(*(engine.copy(route(source, target), tag, override=False, progress=both[tag]) for tag in both))

    assert len(set(both[V1].transfers) & set(both[V2].transfers)) == 1
    assert all(progress.bytes_done == progress.bytes_total for progress in both.values())


async def test_concurrent_blobs_are_limited(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, image(*(layer(str(number)) for number in range(10))), V1)

    await CopyEngine(Limits(blobs=3)).copy(route(source, target), V1, override=False)

    assert source.most_reads == 3


async def test_a_copy_that_is_cancelled_leaves_no_task_and_no_tag(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, index(), V1)
    source.reading.clear()
    engine = CopyEngine()
    running = asyncio.create_task(engine.copy(route(source, target), V1, override=False))
    await source.being_read.wait()

    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    assert not others()
    assert source.open_reads == 0
    assert await target.tag(COPY, V1) is None
    source.reading.set()
    assert (await engine.copy(route(source, target), V1, override=False)).verdict is Verdict.COPY


async def test_a_shared_blob_continues_for_the_remaining_tag(source: ScriptedStore, target: ScriptedStore):
    shared = layer("shared")
    for tag in (V1, V2):
        await push(source, APP, image(shared, seed=tag), tag)
    source.reading.clear()
    engine = CopyEngine()
    first, second = (asyncio.create_task(engine.copy(route(source, target), tag, override=False)) for tag in (V1, V2))
    await settle()

    first.cancel()
    await settle()
    source.reading.set()

    assert (await second).verdict is Verdict.COPY
    assert first.cancelled()
    assert await target.tag(COPY, V1) is None
    assert source.counts["read_blob"] == 2
    assert not others()


@pytest.mark.parametrize("seen", [None, NEW], ids=["free", "in place without its signature"])
async def test_a_tag_that_another_client_writes_just_before_is_not_replaced(
    source: ScriptedStore, target: ScriptedStore, seen: SampleImage | None
):
    await push(source, APP, NEW, V1)
    await push(source, APP, artifact(subject=NEW.manifest))
    if seen is not None:
        await push(target, COPY, seen, V1)

    async def others_write() -> None:
        await push(target, COPY, OLD, V1)

    outcome = await CopyEngine().copy(route(source, target), V1, override=False, before_tag=others_write)

    assert outcome.verdict is Verdict.BLOCKED
    assert await target.tag(COPY, V1) == OLD.digest
    assert (await CopyEngine().copy(route(source, target), V1, override=True)).verdict is Verdict.COPY


class TakenReferrersTagStore(ScriptedStore):
    """A target without the referrers API whose referrers tags point to other manifests."""

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        tag: Tag | None = None,
        **terms: Any,
    ) -> None:
        await super().put_manifest(repository, manifest, tag, **terms)
        if manifest.subject is not None:
            raise Conflict("referrers tag", "the tag of the referrers is taken; delete that tag there")


@pytest.mark.parametrize("override", [False, True])
async def test_a_referrer_that_cannot_be_listed_fails_with_its_own_reason(override: bool):
    source, target = ScriptedStore("source"), TakenReferrersTagStore("target")
    await push(source, APP, artifact(subject=NEW.manifest), V1)
    with pytest.raises(Conflict, match="delete that tag there"):
        await copy(source, target, override=override)


@pytest.mark.parametrize("override", [False, True])
async def test_a_signature_that_cannot_be_listed_is_reported(override: bool):
    source, target = ScriptedStore("source"), TakenReferrersTagStore("target")
    await push(source, APP, NEW, V1)
    await push(source, APP, artifact(subject=OLD.manifest), cosign_tags(NEW.digest)[0])
    with pytest.raises(Conflict, match="delete that tag there"):
        await copy(source, target, override=override)
