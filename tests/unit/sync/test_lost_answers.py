"""A job succeeds at a registry with immutable tags that stores all writes but whose responses are lost."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs

import pytest

from tagferry.names import Digest
from tagferry.oci.model import Manifest
from tagferry.remote import Endpoint, RemoteStore, Retry
from tagferry.sync.jobs.model import JobStatus
from tests.support.images import attestation, attested, image, index, push
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, scripted_registry
from tests.unit.copy.stores import APP, COPY
from tests.unit.sync.conftest import V1, V2, World

UPLOADS = f"/v2/{COPY}/blobs/uploads/"
LOST = {"reset": Reply(drop=True), "500": Reply(status=500), "504": Reply(status=504)}
IMMUTABLE = {"400": error(400, "TAG_INVALID", "immutable"), "403": error(403, "DENIED"), "409": error(409, "CONFLICT")}


async def no_pause(seconds: float) -> None:
    """Never wait."""


@dataclass
class Immutable:
    """A registry that accepts each blob, manifest and tag once.

    Attributes:
        lost: what comes of the first answer to each write, which is done all the same.
        refusal: the answer to a second one.
        refused: manifests that it does not take.
    """

    lost: Reply
    refusal: Reply
    refused: frozenset[Digest] = frozenset()
    manifests: dict[str, Manifest] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def serve(self, script: ScriptedRegistry) -> None:
        script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}1"}))
        script.always("PUT", f"{UPLOADS}1", self.put_blob)
        script.always("PUT", f"/v2/{COPY}/manifests/*", self.put_manifest)
        for method in ("HEAD", "GET"):
            script.always(method, f"/v2/{COPY}/manifests/*", self.manifest)
        script.always("HEAD", f"/v2/{COPY}/blobs/*", self.blob)

    def put_blob(self, asked: Asked) -> Reply:
        digest = parse_qs(asked.query)["digest"][0]
        if digest in self.blobs:
            return self.refusal
        self.blobs[digest] = asked.body
        return self.lost

    def put_manifest(self, asked: Asked) -> Reply:
        reference = asked.path.rpartition("/")[2]
        manifest = Manifest.parse(asked.body, asked.headers["Content-Type"])
        if manifest.digest in self.refused:
            return error(405, "UNSUPPORTED", "no such artifacts")
        if reference in self.manifests:
            return self.refusal
        self.manifests |= {reference: manifest, manifest.digest: manifest}
        return self.lost

    def manifest(self, asked: Asked) -> Reply:
        manifest = self.manifests.get(asked.path.rpartition("/")[2])
        if manifest is None:
            return error(404, "MANIFEST_UNKNOWN")
        told = {"Docker-Content-Digest": manifest.digest, "Content-Type": manifest.media_type}
        return Reply(headers={**told, "Content-Length": str(manifest.size)}, body=manifest.raw)

    def blob(self, asked: Asked) -> Reply:
        content = self.blobs.get(asked.path.rpartition("/")[2])
        return Reply(status=404) if content is None else Reply(headers={"Content-Length": str(len(content))})


@pytest.fixture
async def script(world: World) -> AsyncIterator[ScriptedRegistry]:
    """The target registry."""
    async with scripted_registry() as running:
        retry = Retry(attempts=3, sleep=no_pause, jitter=lambda: 0.0)
        store = RemoteStore(Endpoint(name="target", url=running.url), retry=retry)
        world.target = cast("Any", store)
        await world.start_process()
        yield running
        await store.close()
        world.target = world.source


@pytest.mark.parametrize("refusal", IMMUTABLE.values(), ids=IMMUTABLE)
@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
async def test_a_job_succeeds_although_the_response_of_every_write_is_lost(
    world: World, script: ScriptedRegistry, lost: Reply, refusal: Reply
):
    sample, target = index(), Immutable(lost, refusal)
    target.serve(script)
    await push(world.source, APP, sample, V1)

    assert await world.sync(V1) == []

    (job,) = await world.recorded()
    assert (job.status, job.reason) == (JobStatus.SUCCESS, "copied and verified")
    assert target.manifests[V1].raw == sample.manifest.raw
    assert target.blobs == {str(digest): content for digest, content in sample.all_blobs.items()}


async def test_a_job_that_lost_a_race_ends_as_existed(world: World, script: ScriptedRegistry):
    target = Immutable(Reply(status=201), IMMUTABLE["400"])
    target.serve(script)

    def taken(asked: Asked) -> Reply:
        target.manifests[V1] = image(seed="another").manifest
        return Reply(drop=True)

    script.on("PUT", f"/v2/{COPY}/manifests/{V1}", taken)
    await push(world.source, APP, image(), V1)

    assert await world.sync(V1) == [V1]

    (job,) = await world.recorded()
    assert job.status is JobStatus.EXISTED
    assert "the target holds another image under this tag" in job.reason
    assert target.manifests[V1].digest == image(seed="another").digest


async def test_a_job_that_failed_for_its_attestation_names_the_setting_and_affects_no_other(
    world: World, script: ScriptedRegistry
):
    image_with, image_without = attested(image()), image(seed="without")
    refused = attestation(f"about {image().digest}").digest
    target = Immutable(Reply(status=201), IMMUTABLE["400"], refused=frozenset({refused}))
    target.serve(script)
    await push(world.source, APP, image_with, V1)
    await push(world.source, APP, image_without, V2)

    assert await world.sync(V1) == [V1]
    assert await world.sync(V2) == []

    failed, _ = await world.recorded()
    assert re.search(
        rf"target does not accept manifest {refused} \(a build attestation .*405 UNSUPPORTED: no such artifacts .*; "
        r"set \[regions\.target\.accepts\] attestations = false to copy images without",
        failed.reason,
    )
