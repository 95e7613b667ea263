"""A registry that fails optional requests fails no job; the job's record describes the consequences."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.preflight import Verdict
from tagferry.copy.referrers import Gaps
from tagferry.names import Digest
from tagferry.oci.model import OCI_INDEX, Manifest
from tagferry.oci.referrer_tags import cosign_tags, referrers_tag
from tagferry.remote import Endpoint, RemoteStore, Retry
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tagferry.sync.jobs.reasons import describe
from tests.support.images import SampleImage, artifact, image, index, push
from tests.support.scripted_images import hold, hold_manifest
from tests.support.scripted_registry import Answering, Asked, Reply, ScriptedRegistry, error, said, scripted_registry
from tests.unit.copy.stores import APP, COPY
from tests.unit.sync.conftest import V1, World

IMAGE = index()
SIGNATURE = artifact(subject=IMAGE.manifest)
LOST = artifact(subject=IMAGE.manifest, payload=b"lost")
COSIGN = image(seed="cosign signature")
SIG = cosign_tags(IMAGE.digest)[0]
API, LIST = f"/v2/{APP}/referrers/*", f"/v2/{APP}/tags/list"
HTML = Reply(body=b"<html>welcome</html>", headers={"Content-Type": "text/html"})
UNSEARCHED = "signatures and other referrers could not be searched for: "


async def no_pause(seconds: float) -> None:
    """Never wait."""


def opened(script: ScriptedRegistry, name: str) -> Any:
    retry = Retry(attempts=2, sleep=no_pause, jitter=lambda: 0.0)
    return cast("Any", RemoteStore(Endpoint(name=name, url=script.url), retry=retry))


@pytest.fixture
async def script(world: World) -> AsyncIterator[ScriptedRegistry]:
    """The source registry, with an image under v1."""
    async with scripted_registry() as running:
        hold(running, APP, IMAGE, V1)
        store = world.source = opened(running, "source")
        await world.start_process()
        yield running
        await store.close()
        world.source = world.target


def sign(script: ScriptedRegistry, *referrers: SampleImage) -> None:
    """Attach a signature by cosign's tag, and these referrers by the fallback tag of the referrers API."""
    hold(script, APP, COSIGN, SIG)
    for one in referrers:
        hold(script, APP, one)
    list_under_tag(script, *referrers)


def list_under_tag(script: ScriptedRegistry, *referrers: SampleImage) -> None:
    entries = [one.manifest.referrer_descriptor.to_json() for one in referrers]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    listing = Manifest.parse(json.dumps(document).encode(), OCI_INDEX)
    hold_manifest(script, APP, listing, referrers_tag(IMAGE.digest))


async def synced(world: World) -> SyncJob:
    """The job of one synchronization of v1."""
    await world.sync(V1)
    return (await world.recorded())[-1]


async def is_signed(world: World) -> bool:
    listed = {one.digest for one in await world.target.list_referrers(COPY, IMAGE.digest)}
    return listed == {SIGNATURE.digest} and await world.target.tag(COPY, SIG) == COSIGN.digest


REFUSALS: Mapping[str, Answering] = {
    "redirected to a web page": Reply(status=303, headers={"Location": "/web"}),
    "redirected to nowhere": Reply(status=307, headers={"Location": "http://127.0.0.1:1/"}),
    "web page": HTML,
    "400": Reply(status=400),
    "404": Reply(status=404),
    "406": Reply(status=406),
    "cut": Reply(body=b'{"tags": ['),
}


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
async def test_signatures_are_found_by_name_if_neither_referrers_nor_tags_are_listed(
    world: World, script: ScriptedRegistry, answer: Reply
):
    script.always("GET", "/web", HTML)
    script.always("GET", API, answer)
    script.always("GET", LIST, answer)
    sign(script, SIGNATURE)

    first, second = await synced(world), await synced(world)

    assert (first.status, first.reason) == (JobStatus.SUCCESS, "copied and verified")
    assert (second.status, second.reason) == (JobStatus.SUCCESS, "up to date")
    assert await is_signed(world)


@pytest.mark.parametrize(
    "answer", [error(403, "DENIED"), Reply(status=500), Reply(drop=True)], ids=["403", "500", "reset"]
)
async def test_a_failed_search_is_part_of_the_jobs_reason(world: World, script: ScriptedRegistry, answer: Reply):
    script.always("GET", API, answer)
    sign(script, SIGNATURE)

    first, second = await synced(world), await synced(world)

    assert first.status is second.status is JobStatus.SUCCESS
    assert first.reason.startswith(f"copied and verified; {UNSEARCHED}registry source ")
    assert second.reason.startswith(f"up to date; {UNSEARCHED}registry source ")
    assert await is_signed(world), "what was found was copied"


async def test_a_reader_without_access_to_other_tags_learns_that_signatures_may_be_missing(
    world: World, script: ScriptedRegistry
):
    for method in ("HEAD", "GET"):
        for tag in (*cosign_tags(IMAGE.digest), referrers_tag(IMAGE.digest)):
            script.always(method, f"/v2/{APP}/manifests/{tag}", error(403, "DENIED"))
    script.always("GET", LIST, error(403, "DENIED"))

    job = await synced(world)

    assert job.status is JobStatus.SUCCESS
    assert job.reason.startswith(f"copied and verified; {UNSEARCHED}registry source answered 403")


@pytest.mark.parametrize("answer", [error(403, "DENIED"), Reply(status=500)], ids=["403", "500"])
async def test_a_job_fails_if_signatures_are_required_and_cannot_be_searched_for(
    world: World, script: ScriptedRegistry, answer: Reply
):
    script.always("GET", API, answer)
    assert world.process is not None
    engine = CopyEngine(referrers="required")
    service = world.process.service
    world.process.worker._runner._engine = service._engine = service._preflight._engine = engine

    job = await synced(world)

    assert job.status is JobStatus.FAILED
    assert 'sync.referrers is "required": registry source' in job.reason
    assert await world.target.tag(COPY, V1) is None


async def test_referrers_that_the_source_has_lost_are_named_in_the_jobs_reason(world: World, script: ScriptedRegistry):
    hold(script, APP, SIGNATURE)
    hold(script, APP, COSIGN, SIG)
    list_under_tag(script, SIGNATURE, LOST)

    first, second = await synced(world), await synced(world)

    told = (
        f"; 1 referrer could not be copied and stayed behind: {LOST.digest} "
        f'(manifest "{APP}@{LOST.digest}" does not exist'
    )
    assert (first.status, first.reason[:180]) == (JobStatus.SUCCESS, f"copied and verified{told}"[:180])
    assert (second.status, second.reason[:180]) == (
        JobStatus.SUCCESS,
        f"up to date{told}"[:180],
    )
    assert await is_signed(world)


async def test_a_signature_that_cannot_be_read_in_time_is_left_out_and_named(world: World, script: ScriptedRegistry):
    sign(script, SIGNATURE)
    script.on("GET", f"/v2/{APP}/manifests/{SIGNATURE.digest}", *[Reply(status=500)] * 12)

    first, second = await synced(world), await synced(world)

    assert first.status is JobStatus.SUCCESS
    assert f"copied and verified; 1 referrer could not be copied and stayed behind: {SIGNATURE.digest}" in first.reason
    assert second.status is JobStatus.SUCCESS


async def test_a_registry_that_mistakes_the_referrers_tag_for_a_digest_has_no_referrers(
    world: World, script: ScriptedRegistry
):
    hold_manifest(script, APP, IMAGE.manifest, referrers_tag(IMAGE.digest))

    job = await synced(world)

    assert (job.status, job.reason) == (JobStatus.SUCCESS, "copied and verified")
    assert await world.target.list_referrers(COPY, IMAGE.digest) == []


async def test_one_tag_of_very_many_takes_a_handful_of_requests(world: World, script: ScriptedRegistry):
    def page(asked: Asked) -> Reply:
        number = len(script.asked)
        return said(
            {"tags": [f"a{number}-{one}" for one in range(1000)]}, headers={"Link": f"<{LIST}?{number}>; rel=next"}
        )

    script.always("GET", LIST, page)
    hold(script, APP, COSIGN, SIG)
    await push(world.target, COPY, IMAGE, V1)
    await push(world.target, COPY, COSIGN, SIG)

    job = await synced(world)

    assert job.reason == "up to date"
    assert len(script.asked) <= 8, script.lines()


def as_target(script: ScriptedRegistry) -> None:
    """Let a registry accept all content."""
    stored: dict[str, Reply] = {}

    def put(asked: Asked) -> Reply:
        digest = Digest.of(asked.body)
        headers = {
            "Content-Type": asked.headers["Content-Type"],
            "Content-Length": str(len(asked.body)),
            "Docker-Content-Digest": digest,
        }
        reference = asked.path.rpartition("/")[2]
        stored[reference] = stored[digest] = Reply(body=asked.body, headers=headers)
        return Reply(status=201)

    def get(asked: Asked) -> Reply:
        reference = asked.path.rpartition("/")[2]
        if reference.startswith("sha256-") and "." not in reference and reference not in stored:
            reference = reference.replace("-", ":", 1)
        return stored.get(reference, error(404, "MANIFEST_UNKNOWN"))

    script.always("PUT", f"/v2/{COPY}/manifests/*", put)
    for method in ("HEAD", "GET"):
        script.always(method, f"/v2/{COPY}/manifests/*", get)
    script.always("HEAD", f"/v2/{COPY}/blobs/*", Reply(status=404))
    session = {"Location": f"/v2/{COPY}/blobs/uploads/s"}
    script.always("POST", f"/v2/{COPY}/blobs/uploads/", Reply(status=202, headers=session))
    script.always("PUT", f"/v2/{COPY}/blobs/uploads/s", Reply(status=201))


@pytest.mark.parametrize(
    "answer",
    [*REFUSALS.values(), error(403, "DENIED"), Reply(status=500)],
    ids=[*REFUSALS, "403", "500"],
)
async def test_a_target_that_lists_neither_referrers_nor_tags_gets_the_signature_and_its_index(
    world: World, answer: Reply
):
    await push(world.source, APP, IMAGE, V1)
    await push(world.source, APP, SIGNATURE)
    async with scripted_registry() as script:
        as_target(script)
        script.always("GET", "/web", HTML)
        script.always("GET", f"/v2/{COPY}/referrers/*", answer)
        script.always("GET", f"/v2/{COPY}/tags/list", answer)
        store, memory = opened(script, "target"), world.target
        world.target = store
        await world.start_process()

        first, second = await synced(world), await synced(world)

        assert (first.status, first.reason) == (JobStatus.SUCCESS, "copied and verified")
        assert (second.status, second.reason) == (JobStatus.SUCCESS, "up to date")
        tag = referrers_tag(IMAGE.digest)
        written = [asked for asked in script.asked if asked.method == "PUT" and "/manifests/" in asked.path]
        assert [asked.path.rpartition("/")[2] for asked in written][-2:] == [tag, V1]
        assert SIGNATURE.digest.encode() in written[-2].body
        world.target = memory
        await store.close()


def test_of_many_missing_referrers_the_first_are_named():
    gaps = Gaps(
        search_error="it answered 403", left_behind={f"sha256:{number}": f"reason {number}" for number in range(5)}
    )

    assert describe(Verdict.COPY, gaps=gaps)[1] == (
        "copied and verified; signatures and other referrers could not be searched for: it answered 403; 5 referrers "
        "could not be copied and stayed behind: sha256:0, sha256:1, sha256:2 and 2 more (reason 0)"
    )
