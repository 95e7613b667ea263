"""If a registry does not support HEAD, GET is used, until HEAD works again or a day has passed."""

import asyncio

import pytest

from tagferry.errors import Refused, Unavailable, Unsupported
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import OCI_MANIFEST
from tagferry.remote import RemoteStore
from tagferry.remote.capabilities import HEAD_BLOBS, HEAD_MANIFESTS
from tests.support.images import blob, image, opening
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_capabilities import MemoryCapabilities

APP, V1 = RepositoryName("team/app"), Tag("v1")
MANIFEST = image().manifest
CONTENT = b"content" * 100
TYPED = {"Content-Type": OCI_MANIFEST}
UPLOADS = "/v2/team/app/blobs/uploads/"
NO_HEAD = [400, 403, 405, 406, 501]


@pytest.fixture
def capabilities() -> MemoryCapabilities:
    return MemoryCapabilities()


def serve(script: ScriptedRegistry, head: Reply) -> None:
    """A registry with one manifest and one blob, and these responses to HEAD."""

    def ranged(asked: Asked) -> Reply:
        assert asked.headers["Range"] == "bytes=0-0"
        return Reply(status=206, headers={"Content-Range": f"bytes 0-0/{len(CONTENT)}"}, body=CONTENT[:1])

    def manifest(asked: Asked) -> Reply:
        is_known = asked.headers.get("If-None-Match") == f'"{MANIFEST.digest}"'
        return Reply(status=304) if is_known else Reply(body=MANIFEST.raw, headers=TYPED)

    script.always("HEAD", "/v2/*", head)
    for reference in (V1, MANIFEST.digest):
        script.always("GET", f"/v2/team/app/manifests/{reference}", manifest)
    script.always("GET", f"/v2/team/app/blobs/{Digest.of(CONTENT)}", ranged)


@pytest.mark.parametrize("status", NO_HEAD)
@pytest.mark.parametrize("reference", [V1, MANIFEST.digest], ids=["tag", "digest"])
async def test_get_replaces_head_for_manifests_once_head_is_refused(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities, status: int, reference: Tag | Digest
):
    serve(script, Reply(status=status))

    for _ in range(2):
        assert await opened(capabilities=capabilities).head_manifest(APP, reference) == MANIFEST.descriptor
    assert (
        await opened(capabilities=capabilities).head_manifest(APP, V1, known=MANIFEST.descriptor) == MANIFEST.descriptor
    )
    assert await opened(capabilities=capabilities).head_manifest(APP, Tag("none")) is None

    assert [asked.method for asked in script.asked] == ["HEAD", "GET", "GET", "GET", "GET"]
    assert str(status) in capabilities.stored.unavailable[HEAD_MANIFESTS]


@pytest.mark.parametrize("status", NO_HEAD)
async def test_a_blob_s_size_comes_from_a_one_byte_get_if_head_is_refused(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities, status: int
):
    serve(script, Reply(status=status))

    for _ in range(2):
        assert await opened(capabilities=capabilities).stat_blob(APP, Digest.of(CONTENT)) == len(CONTENT)
    assert await opened(capabilities=capabilities).stat_blob(APP, Digest.of(b"none")) is None

    assert [asked.method for asked in script.asked] == ["HEAD", "GET", "GET", "GET"]
    assert str(status) in capabilities.stored.unavailable[HEAD_BLOBS]


async def test_an_existing_blob_is_not_sent_if_head_is_refused(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    serve(script, Reply(status=405))
    script.always("POST", UPLOADS, Reply(status=400))

    outcome = await opened(capabilities=capabilities).write_blob(APP, blob(CONTENT), opening(CONTENT))

    assert outcome is BlobOutcome.PRESENT


async def test_the_whole_blob_is_not_read_from_a_registry_that_sends_it_instead_of_one_byte(
    script: ScriptedRegistry, opened: Opening
):
    digest = Digest.of(b"large")
    script.always("HEAD", "/v2/*", Reply(status=405))
    script.always("GET", "/v2/*", Reply(headers={"Content-Length": "1000000"}, body=bytes(1000), truncate_to=1000))

    assert await opened().stat_blob(APP, digest) == 1_000_000


async def test_a_refusal_of_head_and_get_is_raised_and_not_recorded(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    script.always("HEAD", "/v2/*", Reply(status=403))
    script.always("GET", "/v2/*", error(403, "DENIED", "not yours"))
    store = opened(capabilities=capabilities)

    with pytest.raises(Refused, match="not yours"):
        await store.head_manifest(APP, V1)
    with pytest.raises(Refused, match="not yours"):
        await store.stat_blob(APP, Digest.of(b""))

    assert capabilities.stored.unavailable == {}


@pytest.mark.parametrize("status", [405, 501])
async def test_a_refused_get_after_a_refused_head_is_the_error(script: ScriptedRegistry, opened: Opening, status: int):
    script.always("HEAD", "/v2/*", Reply(status=status))
    script.always("GET", "/v2/*", Reply(status=status))

    with pytest.raises(Unsupported):
        await opened().head_manifest(APP, V1)


@pytest.mark.parametrize(
    "headers",
    [
        {**TYPED, "Content-Length": "0", "Docker-Content-Digest": MANIFEST.digest},
        {**TYPED, "Transfer-Encoding": "chunked", "Docker-Content-Digest": MANIFEST.digest},
        {**TYPED, "Content-Length": str(MANIFEST.size)},
        {"Content-Length": str(MANIFEST.size), "Docker-Content-Digest": MANIFEST.digest},
    ],
    ids=["length 0", "no length", "no digest", "no type"],
)
async def test_an_incomplete_head_response_disables_head(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities, headers: dict[str, str]
):
    serve(script, Reply(headers=headers))

    for _ in range(2):
        assert await opened(capabilities=capabilities).head_manifest(APP, V1) == MANIFEST.descriptor

    assert [asked.method for asked in script.asked] == ["HEAD", "GET", "GET"]


async def test_a_blob_of_no_bytes_by_head_is_measured_by_get(script: ScriptedRegistry, opened: Opening):
    serve(script, Reply(headers={"Content-Length": "0"}))

    assert await opened().stat_blob(APP, Digest.of(CONTENT)) == len(CONTENT)
    assert await opened().stat_blob(APP, Digest.of(b"")) == 0

    assert [asked.method for asked in script.asked] == ["HEAD", "GET", "HEAD"]


async def test_a_successful_head_makes_head_available_again(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    """Its response is in transit while another request is refused."""
    full = {**TYPED, "Content-Length": str(MANIFEST.size), "Docker-Content-Digest": MANIFEST.digest}
    serve(script, Reply(status=405))
    script.on("HEAD", "/v2/team/app/manifests/v1", Reply(headers=full, delay=0.3))
    store = opened(capabilities=capabilities)

    async def refused() -> bool:
        await store.head_manifest(APP, MANIFEST.digest)
        return HEAD_MANIFESTS in capabilities.stored.unavailable

    _, was_learned = await asyncio.gather(store.head_manifest(APP, V1), refused())

    assert was_learned
    assert HEAD_MANIFESTS not in capabilities.stored.unavailable


@pytest.mark.parametrize("body", [b"<!doctype html><title>Welcome</title>", b"", b"[]", b'"manifest"'])
async def test_a_document_that_is_not_a_manifest_is_rejected(store: RemoteStore, script: ScriptedRegistry, body: bytes):
    script.always("HEAD", "/v2/team/app/manifests/v1", Reply(status=405))
    script.always("GET", "/v2/team/app/manifests/v1", Reply(headers={"Content-Type": "text/html"}, body=body))
    with pytest.raises(Unavailable, match="no manifest when asked to return manifest team/app:v1"):
        await store.head_manifest(APP, V1)
