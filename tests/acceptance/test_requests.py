"""The requests in both registries' access logs: each blob is copied once, and no request is repeated."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from huaweicloudsdkswr.v2 import CreateManualImageSyncRepoRequest, CreateManualImageSyncRepoRequestBody
from requests.exceptions import ReadTimeout

from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import Manifest
from tagferry.oci.referrer_tags import referrers_tag
from tagferry.remote import Endpoint, RemoteStore
from tagferry.remote.blobs.stagger import LARGE
from tagferry.sync.service import StartedSync
from tests.support.access_log import Seen
from tests.support.deployment import NORTH, SOUTH, TEAM, Deployment, calling, deployed
from tests.support.docker_registry import DockerRegistry, docker_registry
from tests.support.images import artifact, image, index, layer, push

# Each is a time after which tagferry rightly asks a registry again, or asks the other one meanwhile.
TIMES = [
    "tagferry.sync.service.PREFLIGHT_SECONDS",
    "tagferry.sync.service.BRIEF_PREFLIGHT_SECONDS",
    "tagferry.web.swr.synchronization.BRIEF_PREFLIGHT_SECONDS",
    "tagferry.sync.jobs.slots.QUIET_SECONDS",
    "tagferry.copy.preflight._HEAD_START_SECONDS",
    "tagferry.copy.held_content._FRESH_SECONDS",
    "tagferry.copy.tag_copy._STALE_SECONDS",
    "tagferry.copy.tag_lists._FRESH_SECONDS",
    "tagferry.remote.transport.requests.HIGH_LATENCY_SECONDS",
]
APP = RepositoryName("team/app")
SHARED = [layer(f"shared {number}", 1000) for number in range(6)]
PLAIN = {
    Tag(f"v{number}"): image(*SHARED, layer(f"first of {number}"), layer(f"second of {number}"), seed=str(number))
    for number in range(20)
}
MULTI, INDEX = Tag("multi"), index()
SIGNATURE = artifact(subject=INDEX.manifest)
TAGS = [*PLAIN, MULTI]
SAMPLES = [*PLAIN.values(), INDEX, SIGNATURE]
BLOBS = {digest for sample in SAMPLES for digest in sample.all_blobs}


@dataclass(frozen=True)
class Ferry:
    """A running tagferry between two of CNCF's docker-registry."""

    deployment: Deployment
    source: DockerRegistry
    target: DockerRegistry

    async def sync(self, tags: Iterable[Tag]) -> None:
        """Synchronize these tags successfully."""
        jobs = await self.deployment.ended_jobs(APP, await self.deployment.start_sync(APP, tags, TEAM))
        assert {job["status"] for job in jobs} == {"success"}


class HeldRegistry(RemoteStore):
    """The target, which gets no manifest before it is released."""

    def __init__(self, url: str) -> None:
        super().__init__(Endpoint(name=SOUTH, url=url))
        self.released = asyncio.Event()

    async def put_manifest(
        self, repository: RepositoryName, manifest: Manifest, tag: Tag | None = None, **terms: Any
    ) -> None:
        await self.released.wait()
        await super().put_manifest(repository, manifest, tag, **terms)


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass that costs requests, however slow this machine is."""
    for name in TIMES:
        monkeypatch.setattr(name, 600.0)


@pytest.fixture
def sync() -> dict[str, Any]:
    """The settings of syncs."""
    return {}


@pytest.fixture
async def ferry(tmp_path: Path, sync: dict[str, Any]) -> AsyncIterator[Ferry]:
    folders = tmp_path / "source", tmp_path / "target"
    for folder in folders:
        folder.mkdir()
    with docker_registry(folders[0]) as source, docker_registry(folders[1]) as target:
        pusher = RemoteStore(Endpoint(name="pusher", url=source.url))
        for tag, sample in {**PLAIN, MULTI: INDEX}.items():
            await push(pusher, APP, sample, tag)
        await push(pusher, APP, SIGNATURE)
        await pusher.close()
        regions: dict[str, dict[str, Any]] = {
            NORTH: {"listen": "", "registry": source.url},
            SOUTH: {"listen": "", "registry": target.url},
        }
        async with deployed(tmp_path / "data", regions=regions, sync=sync) as deployment:
            source.forget_requests()
            target.forget_requests()
            yield Ferry(deployment, source, target)


def asked(requests: Sequence[Seen], kind: str) -> Counter[str]:
    """Return the number of requests of a kind, such as `GET blob`, by path."""
    return Counter(urlsplit(seen.path).path for seen in requests if seen.kind.startswith(kind))


def named(requests: Sequence[Seen], kind: str, parameter: str) -> Counter[str]:
    """Return how often each digest was in this parameter of the query."""
    queries = [parse_qs(urlsplit(seen.path).query) for seen in requests if seen.kind.startswith(kind)]
    return Counter(digest for query in queries for digest in query.get(parameter, ["none"]))


def once(names: Iterable[str]) -> Counter[str]:
    return Counter(dict.fromkeys(names, 1))


def repeated(requests: Sequence[Seen]) -> dict[tuple[str, str], int]:
    """Return the requests that were sent more than once."""
    counted = Counter((seen.method, seen.path) for seen in requests)
    return {request: times for request, times in counted.items() if times > 1}


def blob_path(digest: Digest) -> str:
    return f"/v2/{APP}/blobs/{digest}"


def manifest_path(reference: str) -> str:
    return f"/v2/{APP}/manifests/{reference}"


async def test_each_blob_is_copied_once_and_no_request_is_sent_twice(ferry: Ferry):
    held = HeldRegistry(ferry.target.url)
    ferry.deployment.replace(SOUTH, held)
    # A request after a tag's end rightly asks the target again; these all arrive before.
    wanted = (TAGS, TAGS[:14], TAGS[7:], TAGS[::-1], [MULTI])
    started = await asyncio.gather(*(ferry.deployment.start_sync(APP, tags, TEAM) for tags in wanted))
    job_ids = {job_id for jobs in started for job_id in jobs}
    assert len(job_ids) == len(TAGS), "each tag has one job, which the other requests join"
    held.released.set()
    jobs = await ferry.deployment.ended_jobs(APP, list(job_ids))
    assert {job["status"] for job in jobs} == {"success"}
    await held.close()

    source, target = await ferry.source.requests(), await ferry.target.requests()
    assert {seen.status for seen in source + target} <= {200, 201, 202, 404}
    assert asked(source, "GET blob") == once(map(blob_path, BLOBS))
    assert named(target, "POST upload", "mount") == named(target, "PUT upload", "digest") == once(BLOBS)
    assert asked(target, "HEAD blob") == {}, "what was just sent is not asked for"

    below = [child.digest for child in INDEX.children] + [SIGNATURE.digest]
    # The signed index is written once without its tag, since its signature is written before the tag. CNCF
    # distribution 2.8 does not list referrers, so an index of them has its own tag.
    written = [*TAGS, *below, INDEX.digest, referrers_tag(INDEX.digest)]
    assert asked(target, "PUT manifest") == once(map(manifest_path, written))
    assert asked(source, "GET manifest") == once(map(manifest_path, [*TAGS, *below, referrers_tag(INDEX.digest)]))
    assert repeated(source) == repeated(target) == {}


async def test_a_client_that_timed_out_gets_the_result_by_the_same_call_without_a_second_copy(
    ferry: Ferry, monkeypatch: pytest.MonkeyPatch
):
    held = HeldRegistry(ferry.target.url)
    ferry.deployment.replace(SOUTH, held)
    sync = ferry.deployment.app.services.swr.sync
    begun, joined, wait = asyncio.Event(), asyncio.Event(), sync.wait

    async def noticed(started: StartedSync, *, seconds: float) -> list[Tag]:
        is_joined = all(place.is_joined for place in started.jobs.values())
        (joined if is_joined else begun).set()
        return await wait(started, seconds=seconds)

    monkeypatch.setattr(sync, "wait", noticed)
    body = CreateManualImageSyncRepoRequestBody(
        image_tag=list(TAGS), override=True, remote_namespace=TEAM, remote_region_id=SOUTH
    )
    request = CreateManualImageSyncRepoRequest(namespace=TEAM, repository=APP.repository, body=body)
    impatient, patient = ferry.deployment.sdk(seconds=1), ferry.deployment.sdk()

    # On a slow machine the client may give up before its request has started the jobs.
    while not begun.is_set():
        with pytest.raises(ReadTimeout):
            await calling(impatient.create_manual_image_sync_repo, request)
    joined.clear()
    again = asyncio.create_task(calling(patient.create_manual_image_sync_repo, request))
    async with asyncio.timeout(60):
        await joined.wait()
    held.released.set()
    response = await again
    await held.close()

    # The SDK returns the response `[]` in this form.
    assert (response.status_code, response.body) == (200, None)
    source, target = await ferry.source.requests(), await ferry.target.requests()
    assert asked(source, "GET blob") == once(map(blob_path, BLOBS))
    assert named(target, "PUT upload", "digest") == once(BLOBS)
    assert set(asked(target, "PUT manifest").values()) == {1}
    async with ferry.deployment.client() as client:
        jobs = await client.list_jobs(APP.namespace, APP.repository, limit=100)
    assert sorted((job["tag"], job["status"]) for job in jobs) == sorted((tag, "success") for tag in TAGS)


async def test_up_to_date_tags_cost_two_requests_each_and_a_few_for_the_repository(ferry: Ferry):
    await ferry.sync(TAGS)
    first = [*await ferry.source.requests(), *await ferry.target.requests()]
    assert named(first, "PUT upload", "digest") == once(BLOBS)
    ferry.source.forget_requests()
    ferry.target.forget_requests()

    await ferry.sync(TAGS)

    for requests in (await ferry.source.requests(), await ferry.target.requests()):
        assert asked(requests, "HEAD manifest") == once(map(manifest_path, TAGS))
        others = {urlsplit(seen.path).path for seen in requests if seen.method != "HEAD"}
        # The repository's tags, the referrers API's support, and the signed image's signatures.
        assert {path.rpartition("/")[0] for path in others} <= {
            f"/v2/{APP}/tags",
            f"/v2/{APP}/referrers",
            f"/v2/{APP}/manifests",
        }
        assert [path for path in others if "/manifests/" in path] == [manifest_path(referrers_tag(INDEX.digest))]
        assert {seen.method for seen in requests} <= {"HEAD", "GET"}
        assert len(requests) <= len(TAGS) + 3
        assert repeated(requests) == {}
    agreed = asked(await ferry.source.requests(), "HEAD manifest 304")
    # For the first tag both are asked at once, since the source must have the repository.
    assert agreed == once(map(manifest_path, TAGS[1:])), "the source gets the digest of the target and confirms it"


async def test_layers_that_the_target_held_before_are_mounted_once_and_verified_once(ferry: Ferry):
    pusher = RemoteStore(Endpoint(name="pusher", url=ferry.target.url))
    await push(pusher, APP, image(*SHARED, seed="there before"), Tag("before"))
    await pusher.close()
    ferry.target.forget_requests()

    await ferry.sync(PLAIN)

    source, target = await ferry.source.requests(), await ferry.target.requests()
    there = {Digest.of(content) for content in SHARED}
    brought = {digest for sample in PLAIN.values() for digest in sample.blobs} - there
    assert asked(source, "GET blob") == once(map(blob_path, brought))
    assert named(target, "POST upload 201", "mount") == once(there)
    assert asked(target, "HEAD blob 200") == once(map(blob_path, there))
    assert named(target, "PUT upload", "digest") == once(brought)
    assert repeated(source) == repeated(target) == {}


@pytest.mark.parametrize(
    ("sync", "tried"),
    [
        ({}, ["POST upload 201", "POST upload 202", "PUT upload 400", "DELETE upload 404"]),
        ({"splice": False}, ["POST upload 201"]),
    ],
    ids=["spliced", "seen"],
)
async def test_a_target_is_tested_once_with_wrong_bytes_before_large_blobs_are_spliced(ferry: Ferry, tried: list[str]):
    large = [random.Random(seed).randbytes(LARGE) for seed in range(3)]
    pusher = RemoteStore(Endpoint(name="pusher", url=ferry.source.url))
    await push(pusher, APP, image(*large), Tag("large"))
    await pusher.close()
    ferry.source.forget_requests()

    await ferry.sync([Tag("large")])

    source, target = await ferry.source.requests(), await ferry.target.requests()
    digests = [*map(Digest.of, large), *image(*large).blobs]
    assert asked(source, "GET blob") == once({blob_path(digest) for digest in digests})
    assert named(target, "PUT upload 201", "digest") == once(set(digests))
    needed = Counter({"POST upload 202": len(set(digests)), "PUT upload 201": len(set(digests))})
    # A 201 without bytes is one mount of a blob that exists by then, which shows that mounts work.
    assert Counter(seen.kind for seen in target if "upload" in seen.kind) - needed == Counter(tried)
