"""Before a tag is written, its content is verified at the target; missing content is sent once more."""

import asyncio
import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.estimate import Estimate
from tagferry.copy.outcome import Outcome
from tagferry.copy.preflight import Verdict
from tagferry.copy.progress import Progress
from tagferry.copy.rewrite import Acceptance
from tagferry.copy.verify import VerifyMode
from tagferry.errors import Corrupt, Unavailable
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome, OpenBlob
from tagferry.oci.model import Descriptor, Manifest
from tagferry.oci.referrer_tags import cosign_tags
from tests.support.clock import Clock
from tests.support.images import SampleImage, artifact, image, index, layer, push
from tests.unit.copy.stores import APP, COPY, V1, V2, ScriptedStore, route

OLD, NEW = image(seed="old"), image(seed="new")
CHILD = image(seed="child")
INDEX = index(CHILD, image(seed="sibling"))
SIGNATURE = artifact(subject=INDEX.manifest, payload=b"signature")
SBOM = artifact(subject=INDEX.manifest, payload=b"bill of materials")
ALWAYS = 1000


class ForgetfulStore(ScriptedStore):
    """A target that loses content.

    Attributes:
        pretended: blobs that it wrongly reports as present when they are written.
        losses: how often a blob or manifest is lost after it was accepted.
        sizes: the wrong sizes that it reports of blobs.
        held: what is asked for, or pretended, is answered only once its event is set.
        clock: moved on by more than a minute with every manifest below a tag.
    """

    def __init__(self) -> None:
        super().__init__("target")
        self.pretended: set[Digest] = set()
        self.losses: Counter[Digest] = Counter()
        self.sizes: dict[Digest, int] = {}
        self.held: defaultdict[str, asyncio.Event] = defaultdict(_set_event)
        self.clock = Clock()

    async def write_blob(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        mount_from: RepositoryName | None = None,
        force: bool = False,
    ) -> BlobOutcome:
        if descriptor.digest in self.pretended and not force:
            self.log.append(f"pretended {descriptor.digest}")
            await self.held["pretended"].wait()
            return BlobOutcome.PRESENT
        outcome = await super().write_blob(repository, descriptor, source, mount_from=mount_from, force=force)
        if force:
            self.lose(descriptor.digest)
        return outcome

    async def put_manifest(
        self, repository: RepositoryName, manifest: Manifest, tag: Tag | None = None, **terms: Any
    ) -> None:
        await super().put_manifest(repository, manifest, tag, **terms)
        if tag is None:
            self.clock.now += 61
            for digest in list(self.losses):
                self.lose(digest)

    async def stat_blob(self, repository: RepositoryName, digest: Digest) -> int | None:
        await self.held[digest].wait()
        size = await super().stat_blob(repository, digest)
        return size if size is None else self.sizes.get(digest, size)

    def lose(self, digest: Digest) -> None:
        held = self._contents(COPY)
        if self.losses[digest] and (digest in held.blobs or digest in held.manifests):
            self.losses[digest] -= 1
            held.blobs.pop(digest, None)
            held.manifests.pop(digest, None)


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
async def signed(source: ScriptedStore) -> ScriptedStore:
    """A source with a signed index and a bill of materials."""
    await push(source, APP, INDEX, V1)
    for attached in (SIGNATURE, SBOM):
        await push(source, APP, attached)
    return source


@pytest.fixture
def target() -> ForgetfulStore:
    return ForgetfulStore()


def engine(target: ForgetfulStore, verify: VerifyMode = VerifyMode.COPIED) -> CopyEngine:
    return CopyEngine(verify=verify, clock=target.clock)


async def is_whole(target: ForgetfulStore, *samples: SampleImage) -> bool:
    blobs = [await ScriptedStore.stat_blob(target, COPY, blob) for sample in samples for blob in sample.all_blobs]
    manifests = [manifest.digest for sample in samples for manifest in sample.all_manifests]
    return None not in blobs and None not in [await target.head_manifest(COPY, digest) for digest in manifests]


@pytest.mark.parametrize("sample", [NEW, INDEX], ids=["image", "index"])
async def test_a_blob_that_the_target_wrongly_reports_is_sent(
    source: ScriptedStore, target: ForgetfulStore, sample: SampleImage
):
    await push(source, APP, sample, V1)
    target.pretended = set(sample.all_blobs)
    progress = Progress()

    outcome = await engine(target).copy(route(source, target), V1, override=False, progress=progress)

    assert outcome == Outcome(verdict=Verdict.COPY, digest=sample.digest)
    assert await is_whole(target, sample)
    assert set(target.outcomes.values()) == {BlobOutcome.UPLOADED}
    assert source.counts["read_blob"] == len(sample.all_blobs)
    assert progress.bytes_done == progress.bytes_total


LOST = {
    "layer": CHILD.manifest.layers[0].digest,
    "child": CHILD.digest,
    "signature's blob": SIGNATURE.manifest.layers[0].digest,
    "signature": SIGNATURE.digest,
}


@pytest.mark.parametrize("what", LOST)
async def test_content_lost_after_it_was_accepted_is_sent_again(
    signed: ScriptedStore, target: ForgetfulStore, what: str
):
    target.losses[LOST[what]] = 1

    outcome = await engine(target).copy(route(signed, target), V1, override=False)

    assert outcome == Outcome(verdict=Verdict.COPY, digest=INDEX.digest)
    assert await target.tag(COPY, V1) == INDEX.digest
    assert await is_whole(target, INDEX, SIGNATURE, SBOM)
    assert not +target.losses


@pytest.mark.parametrize("standing", [None, OLD])
@pytest.mark.parametrize("what", LOST)
async def test_content_lost_twice_fails_the_copy_and_leaves_the_tag(
    signed: ScriptedStore, target: ForgetfulStore, what: str, standing: SampleImage | None
):
    if standing:
        await push(target, COPY, standing, V1)
    target.losses[LOST[what]] = ALWAYS

    with pytest.raises(Unavailable) as failure:
        await engine(target).copy(route(signed, target), V1, override=True)

    kind = "blob" if what in ("layer", "signature's blob") else "manifest"
    assert f"registry target accepted {kind} {LOST[what]} of {COPY} but does not hold it" in failure.value.message
    assert "check the registry's storage, then synchronize again" in failure.value.message
    assert await target.tag(COPY, V1) == (standing.digest if standing else None)


async def test_a_blob_with_another_size_is_sent_again_and_then_reported(source: ScriptedStore, target: ForgetfulStore):
    await push(source, APP, NEW, V1)
    await push(target, COPY, NEW)
    blob = NEW.manifest.layers[0]
    target.sizes[blob.digest] = blob.size - 1
    source.counts.clear()

    with pytest.raises(Corrupt) as failure:
        await engine(target).copy(route(source, target), V1, override=False)

    told = f"holds blob {blob.digest} of {COPY} with {blob.size - 1} bytes instead of {blob.size}"
    assert told in failure.value.message
    assert source.counts["read_blob"] == 1
    assert await target.tag(COPY, V1) is None


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("verify", [VerifyMode.COPIED, VerifyMode.ALL])
async def test_a_wrong_size_in_a_manifest_is_reported_even_if_another_image_brought_the_blob(
    source: ScriptedStore, target: ForgetfulStore, verify: VerifyMode, together: bool
):
    document = json.loads(NEW.manifest.raw)
    document["layers"][0]["size"] += 1
    wrong = Manifest.parse(json.dumps(document).encode(), NEW.manifest.media_type)
    await push(source, APP, NEW, V1)
    await source.put_manifest(APP, wrong, V2)
    copying = engine(target, verify)
    copies = [copying.copy(route(source, target), tag, override=False) for tag in (V1, V2)]

    if together:
        right, refused = await asyncio.gather(*copies, return_exceptions=True)
    else:
        right, refused = [(await asyncio.gather(one, return_exceptions=True))[0] for one in copies]

    assert not isinstance(right, BaseException)
    assert isinstance(refused, Corrupt)
    assert await target.tag(COPY, V1) == NEW.digest
    assert await target.tag(COPY, V2) is None


@pytest.mark.parametrize("together", [True, False])
async def test_a_hundred_new_tags_with_shared_layers_are_verified_without_requests(
    source: ScriptedStore, target: ForgetfulStore, together: bool
):
    shared = [layer(f"shared {number}") for number in range(6)]
    samples = {Tag(f"v{number}"): image(*shared, seed=str(number)) for number in range(100)}
    for tag, sample in samples.items():
        await push(source, APP, sample, tag)
    copying = engine(target)
    copies = [copying.copy(route(source, target), tag, override=False) for tag in samples]

    if together:
        await asyncio.gather(*copies)
    else:
        for one in copies:
            await one

    assert target.counts["stat_blob"] == 0
    assert target.counts["head_manifest"] == len(samples), "each tag is looked for, and nothing else"
    assert await is_whole(target, *samples.values())


@pytest.mark.parametrize("together", [True, False])
async def test_an_existing_layer_is_verified_once_a_minute_for_all_its_tags(
    source: ScriptedStore, target: ForgetfulStore, together: bool
):
    shared = layer("shared")
    for number in range(20):
        await push(source, APP, image(shared, seed=str(number)), Tag(f"v{number}"))
    await push(target, COPY, image(shared, seed="another"), Tag("another"))
    copying = engine(target)
    copies = [copying.copy(route(source, target), Tag(f"v{number}"), override=False) for number in range(20)]

    if together:
        await asyncio.gather(*copies)
    else:
        for one in copies:
            await one

    assert target.counts["stat_blob"] == 1


async def test_layers_beyond_the_concurrency_limit_are_verified_once(source: ScriptedStore, target: ForgetfulStore):
    shared = [layer(f"shared {number}") for number in range(100)]
    for number in range(5):
        await push(source, APP, image(*shared, seed=str(number)), Tag(f"v{number}"))
    await push(target, COPY, image(*shared, seed="there before"), Tag("before"))
    copying = engine(target)

    await asyncio.gather(
        *(copying.copy(route(source, target), Tag(f"v{number}"), override=False) for number in range(5))
    )

    assert target.counts["stat_blob"] == len(shared)


async def test_content_verified_over_a_minute_ago_is_verified_again(source: ScriptedStore, target: ForgetfulStore):
    child = image(seed="child")
    await push(source, APP, index(child), V1)
    await push(source, APP, index(child, image(seed="other")), V2)
    copying = engine(target)
    await copying.copy(route(source, target), V1, override=False)
    target.counts.clear()

    await copying.copy(route(source, target), V2, override=False)

    # The clock has advanced with the second child, so all entries are stale.
    assert target.counts["stat_blob"] == 4
    assert target.counts["head_manifest"] == 1 + 2


async def test_two_tags_that_lack_the_same_blob_send_it_once(source: ScriptedStore, target: ForgetfulStore):
    shared = layer("shared")
    for tag in (V1, V2):
        await push(source, APP, image(shared, seed=tag), tag)
    target.pretended = {Digest.of(shared)}
    copying = engine(target)

    await asyncio.gather(*(copying.copy(route(source, target), tag, override=False) for tag in (V1, V2)))

    assert target.log.count(f"blob {Digest.of(shared)}") == 1
    assert await target.tag(COPY, V1)
    assert await target.tag(COPY, V2)


@pytest.mark.parametrize("answered_first", [True, False])
async def test_a_repair_does_not_join_a_copy_that_trusts_the_target(
    source: ScriptedStore, target: ForgetfulStore, answered_first: bool
):
    shared, other = layer("shared"), layer("other")
    await push(source, APP, image(shared, other, seed="first"), V1)
    await push(source, APP, image(shared, seed="second"), V2)
    target.pretended = {Digest.of(shared), Digest.of(other)}
    copying, way = engine(target), route(source, target)
    target.held[Digest.of(other)].clear()
    first = asyncio.create_task(copying.copy(way, V1, override=False))
    await settle()
    # The first tag knows that the shared blob is missing, and still waits for the answer for the other one.
    target.held["pretended"].clear()
    second = asyncio.create_task(copying.copy(way, V2, override=False))
    await settle()

    if answered_first:
        target.held[Digest.of(shared)].clear()
        target.held["pretended"].set()
        await settle()
    target.held[Digest.of(other)].set()
    await settle()
    for event in target.held.values():
        event.set()

    assert {(await one).verdict for one in (first, second)} == {Verdict.COPY}
    assert target.log.count(f"blob {Digest.of(shared)}") == 1
    assert target.log.count(f"pretended {Digest.of(shared)}") == 2


async def test_nothing_is_verified_if_verification_is_off(source: ScriptedStore, target: ForgetfulStore):
    await push(source, APP, INDEX, V1)
    await push(target, COPY, CHILD)

    await engine(target, VerifyMode.OFF).copy(route(source, target), V1, override=True)

    assert target.counts["stat_blob"] == 0
    assert target.counts["head_manifest"] == 1


@pytest.mark.parametrize("what", LOST)
async def test_an_incomplete_image_is_repaired_only_if_all_tags_are_verified(
    signed: ScriptedStore, target: ForgetfulStore, what: str
):
    await push(target, COPY, INDEX, V1)
    for attached in (SIGNATURE, SBOM):
        await push(target, COPY, attached)
    target.losses[LOST[what]] = 1
    target.lose(LOST[what])
    way = route(signed, target)

    if what != "signature":
        # A missing signature is detected in any case.
        assert (await engine(target).copy(way, V1, override=False)).verdict is Verdict.UP_TO_DATE
        assert not await is_whole(target, INDEX, SIGNATURE, SBOM)

    planned = (await engine(target, VerifyMode.ALL).estimate_all(way, [V1], override=False))[V1]
    assert isinstance(planned, Estimate)
    assert (planned.verdict, planned.blobs_to_copy) == (Verdict.COPY, what in ("layer", "signature's blob"))

    verifying = engine(target, VerifyMode.ALL)
    assert (await verifying.copy(way, V1, override=False)).verdict is Verdict.COPY
    assert await is_whole(target, INDEX, SIGNATURE, SBOM)
    assert (await verifying.copy(way, V1, override=False)).verdict is Verdict.UP_TO_DATE


async def test_a_missing_cosign_tag_of_a_platform_is_copied_if_all_tags_are_verified(
    source: ScriptedStore, target: ForgetfulStore
):
    signature, tag = image(seed="signature"), cosign_tags(CHILD.digest)[0]
    await push(source, APP, INDEX, V1)
    await push(source, APP, signature, tag)
    await push(target, COPY, INDEX, V1)

    verifying = engine(target, VerifyMode.ALL)

    assert (await verifying.copy(route(source, target), V1, override=False)).verdict is Verdict.COPY
    assert await target.tag(COPY, tag) == signature.digest
    assert (await verifying.copy(route(source, target), V1, override=False)).verdict is Verdict.UP_TO_DATE


async def test_an_incomplete_rewritten_image_is_repaired_too(source: ScriptedStore, target: ForgetfulStore):
    await push(source, APP, INDEX, V1)
    way = route(source, target, accepts=Acceptance(format="docker", rewrite=True))
    verifying = engine(target, VerifyMode.ALL)
    rewritten = (await verifying.copy(way, V1, override=False)).digest
    target.losses[LOST["layer"]] = 1
    target.lose(LOST["layer"])
    target.clock.now += 61

    assert (await verifying.copy(way, V1, override=False)).verdict is Verdict.COPY
    assert await target.stat_blob(COPY, LOST["layer"]) is not None
    assert await target.tag(COPY, V1) == rewritten
    assert (await verifying.copy(way, V1, override=False)).verdict is Verdict.UP_TO_DATE


async def test_a_complete_image_is_verified_and_not_written_if_all_tags_are_verified(
    source: ScriptedStore, target: ForgetfulStore
):
    await push(source, APP, INDEX, V1)
    await push(target, COPY, INDEX, V1)
    target.counts.clear()
    written = len(target.log)

    outcome = await engine(target, VerifyMode.ALL).copy(route(source, target), V1, override=False)

    assert outcome == Outcome(verdict=Verdict.UP_TO_DATE, digest=INDEX.digest)
    assert target.counts["stat_blob"] == len(INDEX.all_blobs)
    assert target.counts["head_manifest"] == 1 + len(INDEX.children)
    assert len(target.log) == written


async def test_a_slow_repair_still_counts_as_a_copy(source: ScriptedStore, target: ForgetfulStore):
    await push(source, APP, INDEX, V1)
    await push(target, COPY, INDEX, V1)
    target.losses[CHILD.digest] = 1
    target.lose(CHILD.digest)

    # The child's manifest is written once more, which advances the clock.
    outcome = await engine(target, VerifyMode.ALL).copy(route(source, target), V1, override=False)

    assert outcome == Outcome(verdict=Verdict.COPY, digest=INDEX.digest)
