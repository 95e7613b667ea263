"""The first blobs of an image are copied while its other manifests and its referrers are read."""

import asyncio

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.outcome import Outcome
from tagferry.copy.preflight import Verdict
from tagferry.copy.progress import Progress
from tagferry.copy.rewrite import Acceptance
from tagferry.copy.tag_blobs import KEPT, MOST
from tagferry.copy.timeline import Step
from tagferry.errors import NotFound, Unavailable
from tagferry.names import Digest, Reference, RepositoryName
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import Manifest
from tests.support.images import SampleImage, artifact, image, index, layer, push
from tests.unit.copy.stores import APP, COPY, V1, ScriptedStore, route

READY, LATE = image(layer("ready"), seed="ready"), image(layer("late"), seed="late")
BOTH = index(READY, LATE)


class SlowSource(ScriptedStore):
    """A source that returns some manifests only while `answering` is set."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.late: set[Digest] = set()
        self.answering = asyncio.Event()
        self.free_requests: int | None = None

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        if reference in self.late:
            await self.answering.wait()
        return await super().get_manifest(repository, reference)


@pytest.fixture
def slow() -> SlowSource:
    return SlowSource("source")


async def start(
    source: SlowSource,
    target: ScriptedStore,
    *,
    sample: SampleImage = BOTH,
    progress: Progress | None = None,
    accepts: Acceptance | None = None,
    is_last: bool = False,
) -> "asyncio.Task[Outcome]":
    """Begin the copy of an image of which one manifest is late, and let it do all that it can."""
    await push(source, APP, sample, V1)
    source.late.add(LATE.digest)
    copying = CopyEngine().copy(
        route(source, target, accepts=accepts), V1, override=False, progress=progress, is_last=lambda _: is_last
    )
    running = asyncio.create_task(copying)
    for _ in range(200):
        await asyncio.sleep(0)
    assert not running.done()
    return running


def written(target: ScriptedStore) -> set[str]:
    return {line.removeprefix("blob ") for line in target.log if line.startswith("blob ")}


async def test_blobs_of_a_manifest_do_not_wait_for_the_other_manifests(slow: SlowSource, target: ScriptedStore):
    running = await start(slow, target)
    assert written(target) == set(READY.blobs)

    slow.answering.set()

    assert await running == Outcome(verdict=Verdict.COPY, digest=BOTH.digest)
    assert written(target) == set(BOTH.all_blobs)
    assert slow.counts["read_blob"] == len(BOTH.all_blobs)


async def test_blobs_do_not_wait_for_referrers(slow: SlowSource, target: ScriptedStore):
    signature = artifact(subject=READY.manifest)
    await push(slow, APP, signature)
    slow.late.add(signature.digest)

    running = await start(slow, target, sample=READY)
    assert written(target) == set(READY.blobs)

    slow.answering.set()
    await running
    assert written(target) == {*READY.blobs, *signature.blobs}


async def test_the_plan_counts_blobs_that_began_before_it(slow: SlowSource, target: ScriptedStore):
    progress = Progress()
    running = await start(slow, target, progress=progress)

    slow.answering.set()
    await running

    size = sum(map(len, BOTH.all_blobs.values()))
    assert progress.bytes_done == progress.bytes_read == progress.timeline.uploaded.size == size
    steps = [event.step for event in progress.timeline.events]
    assert steps[:2] == [Step.COMPARED, Step.PLANNED]
    outcomes = [event.outcome for event in progress.timeline.events if event.step is Step.BLOB]
    assert outcomes == [BlobOutcome.UPLOADED] * len(BOTH.all_blobs)


async def test_a_layer_that_is_listed_twice_is_copied_and_counted_once(slow: SlowSource, target: ScriptedStore):
    same = image(layer("empty"), layer("other"), layer("empty"), seed="same")
    progress = Progress()
    running = await start(slow, target, sample=index(same, LATE), progress=progress)
    assert slow.counts["read_blob"] == len(same.blobs)

    slow.answering.set()
    await running

    blobs = same.all_blobs | LATE.all_blobs
    assert progress.timeline.uploaded == (len(blobs), sum(map(len, blobs.values())))
    assert progress.timeline.present.blobs == 0


async def test_early_blobs_show_that_the_copy_moves(slow: SlowSource, target: ScriptedStore):
    progress = Progress()
    before = progress.state
    running = await start(slow, target, progress=progress)
    assert progress.state != before
    assert progress.bytes_total == 0
    running.cancel()
    await asyncio.wait([running])


async def test_a_plan_that_may_succeed_later_lets_the_blobs_arrive(slow: SlowSource, target: ScriptedStore):
    slow.reading.clear()
    progress = Progress()
    running = await start(slow, target, progress=progress)
    slow.failures[LATE.digest] = Unavailable("the source is overloaded")
    slow.answering.set()
    await asyncio.sleep(0.01)
    assert not running.done()

    slow.reading.set()

    with pytest.raises(Unavailable, match="overloaded"):
        await running
    assert written(target) == set(READY.blobs)
    assert progress.timeline.uploaded.blobs == len(READY.blobs)


async def test_the_last_attempt_waits_for_no_blob(slow: SlowSource, target: ScriptedStore):
    slow.reading.clear()
    running = await start(slow, target, is_last=True)
    slow.failures[LATE.digest] = Unavailable("the source is overloaded")
    slow.answering.set()

    with pytest.raises(Unavailable, match="overloaded"):
        await asyncio.wait_for(running, 5.0)
    assert slow.open_reads == 0


async def test_blobs_that_arrived_before_a_plan_failed_are_recorded(slow: SlowSource, target: ScriptedStore):
    progress = Progress()
    running = await start(slow, target, progress=progress)
    await slow.delete_manifest(APP, LATE.digest)
    slow.answering.set()

    with pytest.raises(NotFound):
        await running
    assert progress.timeline.uploaded == (len(READY.blobs), sum(map(len, READY.blobs.values())))


async def test_a_plan_that_fails_ends_the_blobs_that_began(slow: SlowSource, target: ScriptedStore):
    slow.reading.clear()
    running = await start(slow, target)
    assert slow.open_reads == len(READY.blobs)

    await slow.delete_manifest(APP, LATE.digest)
    slow.answering.set()

    with pytest.raises(NotFound, match=LATE.digest):
        await running
    assert slow.open_reads == 0
    assert target.log == []


async def test_a_cancelled_copy_ends_the_blobs_that_began(slow: SlowSource, target: ScriptedStore):
    slow.reading.clear()
    running = await start(slow, target)

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert slow.open_reads == 0


async def test_the_error_of_an_early_blob_is_that_of_the_copy(slow: SlowSource, target: ScriptedStore):
    failing = next(iter(READY.blobs))
    target.failures[failing] = Unavailable("the disk is full")
    failed: list[str] = []
    target.on_failure = failed.append
    running = await start(slow, target)
    assert failed == [failing]

    slow.answering.set()

    with pytest.raises(Unavailable, match="the disk is full"):
        await running
    assert failed == [failing]
    assert await target.tag(COPY, V1) is None


async def test_the_other_connections_are_left_for_manifests(slow: SlowSource, target: ScriptedStore):
    large = image(*(layer(f"layer {number}") for number in range(MOST + 5)), seed="large")

    running = await start(slow, target, sample=index(large, LATE))
    assert len(written(target)) == MOST

    slow.answering.set()
    await running
    assert written(target) == set(large.all_blobs) | set(LATE.all_blobs)


async def test_a_busy_source_reads_the_manifests_first(slow: SlowSource, target: ScriptedStore):
    slow.free_requests = KEPT + 1
    running = await start(slow, target)
    assert len(written(target)) == 1

    slow.free_requests = 0
    slow.answering.set()
    await running
    assert written(target) == set(BOTH.all_blobs)


@pytest.mark.parametrize(
    "accepts",
    [
        Acceptance(platforms=("linux/arm64",), rewrite=True),
        Acceptance(platforms=("linux/arm64",)),
        Acceptance(format="oci"),
        Acceptance(attestations=False),
        Acceptance(foreign_layers=True),
    ],
)
async def test_nothing_begins_if_only_a_part_may_be_copied(
    slow: SlowSource, target: ScriptedStore, accepts: Acceptance
):
    running = await start(slow, target, accepts=accepts)
    assert target.log == []
    running.cancel()
    await asyncio.wait([running])


class Refusing(ScriptedStore):
    """A target that is known to refuse one manifest."""

    def __init__(self, refused: Digest) -> None:
        super().__init__("target")
        self.refused = refused

    async def refuses(self, manifest: Manifest) -> bool:
        return manifest.digest == self.refused


async def test_nothing_begins_if_the_target_is_known_to_refuse_the_image(slow: SlowSource):
    refusing = Refusing(BOTH.digest)
    running = await start(slow, refusing)
    assert refusing.log == []
    running.cancel()
    await asyncio.wait([running])


async def test_blobs_end_if_the_target_is_known_to_refuse_another_manifest(slow: SlowSource):
    slow.reading.clear()
    third = image(layer("third"), seed="third")
    running = await start(slow, Refusing(third.digest), sample=index(READY, third, LATE))
    assert slow.open_reads == 0
    running.cancel()
    await asyncio.wait([running])
