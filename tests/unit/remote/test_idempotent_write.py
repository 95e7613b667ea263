"""A write whose response was lost is looked up before it is sent again, since immutable tags refuse a second one."""

from collections.abc import Awaitable, Callable

import pytest

from tagferry.errors import NotFound, TagferryError, Unavailable
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import OCI_MANIFEST, Manifest
from tagferry.remote import RemoteStore
from tests.support.images import blob, image, opening
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error
from tests.unit.remote.conftest import IMPATIENCE, Opening

APP, V1 = RepositoryName("team/app"), Tag("v1")
MANIFEST, OTHER = image().manifest, image(seed="other").manifest
AT_V1 = "/v2/team/app/manifests/v1"
UPLOADS = "/v2/team/app/blobs/uploads/"
SESSION = Reply(status=202, headers={"Location": f"{UPLOADS}s"})
CONTENT = b"content"
BLOB = f"/v2/team/app/blobs/{Digest.of(CONTENT)}"
LOST = {
    "reset": Reply(drop=True),
    "time-out": Reply(status=201, delay=5 * IMPATIENCE),
    "500": Reply(status=500),
    "502": Reply(status=502),
    "503": Reply(status=503),
    "504": Reply(status=504),
}
IMMUTABLE = {
    "400": error(400, "TAG_INVALID", "the tag is immutable"),
    "403": error(403, "DENIED", "the tag is immutable"),
    "405": error(405, "UNSUPPORTED", "the tag is immutable"),
    "409": error(409, "CONFLICT", "the tag is immutable"),
    "412": error(412, "PRECONDITION", "the tag is immutable"),
}


@pytest.fixture
def impatient(opened: Opening) -> RemoteStore:
    return opened(request_timeout=IMPATIENCE)


def has(manifest: Manifest) -> Reply:
    """Return the response to HEAD for a manifest."""
    return Reply(
        headers={
            "Content-Type": OCI_MANIFEST,
            "Content-Length": str(manifest.size),
            "Docker-Content-Digest": manifest.digest,
        }
    )


def then(
    script: ScriptedRegistry, path: str, reply: Reply, after: Reply, method: str = "HEAD"
) -> Callable[[Asked], Reply]:
    """A reply that also changes the later replies at a path."""

    def answer(asked: Asked) -> Reply:
        script.always("HEAD", path, after)
        return reply

    return answer


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize("tag", [V1, None], ids=["by tag", "by digest"])
async def test_a_manifest_that_was_stored_is_not_sent_again(
    script: ScriptedRegistry, impatient: RemoteStore, lost: Reply, tag: Tag | None
):
    path = f"/v2/team/app/manifests/{tag or MANIFEST.digest}"
    script.on("PUT", path, lost)
    script.always("PUT", path, IMMUTABLE["400"])
    script.always("HEAD", path, has(MANIFEST))

    await impatient.put_manifest(APP, MANIFEST, tag)

    assert [asked.method for asked in script.asked] == ["PUT", "HEAD"]


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
async def test_a_manifest_that_was_not_stored_is_sent_again(
    script: ScriptedRegistry, impatient: RemoteStore, lost: Reply
):
    script.on("PUT", AT_V1, lost, Reply(status=201))

    await impatient.put_manifest(APP, MANIFEST, V1)

    assert [asked.method for asked in script.asked] == ["PUT", "HEAD", "GET", "PUT"]


@pytest.mark.parametrize("refusal", IMMUTABLE.values(), ids=IMMUTABLE)
async def test_a_manifest_that_was_stored_late_is_found_after_the_second_one_is_refused(
    script: ScriptedRegistry, store: RemoteStore, refusal: Reply
):
    script.on("PUT", AT_V1, Reply(status=504), refusal)
    script.on("HEAD", AT_V1, Reply(status=404), has(MANIFEST))

    await store.put_manifest(APP, MANIFEST, V1)

    assert [asked.method for asked in script.asked] == ["PUT", "HEAD", "GET", "PUT", "HEAD"]


async def test_a_manifest_that_only_get_finds_was_stored(script: ScriptedRegistry, store: RemoteStore):
    script.on("PUT", AT_V1, Reply(drop=True), IMMUTABLE["400"])
    script.always("GET", AT_V1, Reply(body=MANIFEST.raw, headers={"Content-Type": OCI_MANIFEST}))

    await store.put_manifest(APP, MANIFEST, V1)

    assert [asked.method for asked in script.asked] == ["PUT", "HEAD", "GET"]


@pytest.mark.parametrize("refusal", IMMUTABLE.values(), ids=IMMUTABLE)
async def test_a_tag_that_has_another_image_after_all_is_the_registry_s_refusal(
    script: ScriptedRegistry, store: RemoteStore, refusal: Reply
):
    script.on("PUT", AT_V1, Reply(drop=True), refusal)
    script.always("HEAD", AT_V1, has(OTHER))

    with pytest.raises(TagferryError, match="the tag is immutable") as raised:
        await store.put_manifest(APP, MANIFEST, V1)

    assert not isinstance(raised.value, Unavailable)


@pytest.mark.parametrize("refusal", IMMUTABLE.values(), ids=IMMUTABLE)
async def test_a_refusal_is_no_failure_where_the_tag_points_to_the_image_already(
    script: ScriptedRegistry, store: RemoteStore, refusal: Reply
):
    script.always("PUT", AT_V1, refusal)
    script.always("GET", AT_V1, Reply(body=MANIFEST.raw, headers={"Content-Type": OCI_MANIFEST}))

    await store.put_manifest(APP, MANIFEST, V1)

    assert [asked.method for asked in script.asked] == ["PUT", "HEAD", "GET"]


@pytest.mark.parametrize("refusal", IMMUTABLE.values(), ids=IMMUTABLE)
async def test_a_refusal_for_a_missing_manifest_is_a_refusal(
    script: ScriptedRegistry, store: RemoteStore, refusal: Reply
):
    script.always("PUT", "/v2/team/app/manifests/*", refusal)

    with pytest.raises(TagferryError, match="the tag is immutable"):
        await store.put_manifest(APP, MANIFEST, V1)
    with pytest.raises(TagferryError, match="the tag is immutable"):
        await store.put_manifest(APP, MANIFEST)

    assert [asked.method for asked in script.asked] == ["PUT", "HEAD", "GET", "PUT"]


@pytest.mark.parametrize("override", [True, False])
@pytest.mark.parametrize("refusal", [error(404, "BLOB_UNKNOWN"), error(400, "MANIFEST_BLOB_UNKNOWN")])
async def test_an_image_with_lost_content_does_not_exist_although_its_tag_does(
    script: ScriptedRegistry, store: RemoteStore, refusal: Reply, override: bool
):
    script.always("PUT", AT_V1, refusal)
    script.always("HEAD", AT_V1, has(MANIFEST))

    with pytest.raises(NotFound):
        await store.put_manifest(APP, MANIFEST, V1, override=override, seen=MANIFEST.digest)


async def test_what_the_last_attempt_stored_is_a_success(script: ScriptedRegistry, store: RemoteStore):
    script.on("PUT", AT_V1, Reply(status=503), Reply(status=503), then(script, AT_V1, Reply(drop=True), has(MANIFEST)))

    await store.put_manifest(APP, MANIFEST, V1)

    assert [asked.method for asked in script.asked] == [*["PUT", "HEAD", "GET"] * 2, "PUT", "HEAD"]


async def test_a_failed_lookup_costs_one_request_and_the_write_s_error_is_raised(
    script: ScriptedRegistry, store: RemoteStore
):
    script.always("PUT", AT_V1, Reply(status=503))
    script.always("HEAD", AT_V1, Reply(status=503))

    with pytest.raises(Unavailable, match="store manifest team/app:v1"):
        await store.put_manifest(APP, MANIFEST, V1)

    assert [asked.method for asked in script.asked] == ["PUT", "HEAD"] * 3


async def test_a_rate_limited_write_is_not_looked_up(script: ScriptedRegistry, store: RemoteStore):
    script.on("PUT", AT_V1, Reply(status=429, headers={"Retry-After": "1"}), Reply(status=201))

    await store.put_manifest(APP, MANIFEST, V1)

    assert [asked.method for asked in script.asked] == ["PUT", "PUT"]


async def test_a_write_over_a_connection_that_was_used_before_is_looked_up_too(
    script: ScriptedRegistry, store: RemoteStore
):
    script.always("GET", "/v2/", Reply())
    script.on("PUT", AT_V1, Reply(drop=True), IMMUTABLE["403"])
    script.always("HEAD", AT_V1, has(MANIFEST))
    await store.ping()

    await store.put_manifest(APP, MANIFEST, V1)

    assert [asked.method for asked in script.asked] == ["GET", "PUT", "HEAD"]


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_success_is_one(script: ScriptedRegistry, store: RemoteStore, status: int):
    script.always("PUT", AT_V1, Reply(status=status))

    await store.put_manifest(APP, MANIFEST, V1)

    assert len(script.asked) == 1


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize("size", [len(CONTENT), 100_000], ids=["small", "large"])
async def test_a_blob_that_was_stored_is_not_sent_again(
    script: ScriptedRegistry, opened: Opening, lost: Reply, size: int
):
    content = CONTENT if size == len(CONTENT) else bytes(size)
    path = f"/v2/team/app/blobs/{Digest.of(content)}"
    there = Reply(headers={"Content-Length": str(size)})
    script.always("POST", UPLOADS, SESSION)
    script.on("PUT", f"{UPLOADS}s", then(script, path, lost, there))

    outcome = await opened(read_timeout=IMPATIENCE).write_blob(APP, blob(content), opening(content))

    assert outcome is BlobOutcome.UPLOADED
    assert [asked.method for asked in script.asked].count("PUT") == 1


async def test_a_blob_whose_parts_were_stored_is_not_sent_again(script: ScriptedRegistry, opened: Opening):
    there = Reply(headers={"Content-Length": str(len(CONTENT))})
    script.always("POST", UPLOADS, SESSION)
    script.on("PUT", f"{UPLOADS}s", Reply(status=413), then(script, BLOB, Reply(drop=True), there))
    script.always("PATCH", f"{UPLOADS}s", Reply(status=202, headers={"Location": f"{UPLOADS}s"}))

    assert await opened().write_blob(APP, blob(CONTENT), opening(CONTENT)) is BlobOutcome.UPLOADED

    assert [asked.method for asked in script.asked].count("PATCH") == 1


async def test_a_blob_of_another_size_is_sent_again(script: ScriptedRegistry, store: RemoteStore):
    script.always("POST", UPLOADS, SESSION)
    script.on("PUT", f"{UPLOADS}s", Reply(drop=True), Reply(status=201))
    script.always("HEAD", BLOB, Reply(headers={"Content-Length": "3"}))

    await store.write_blob(APP, blob(CONTENT), opening(CONTENT))

    assert [asked.method for asked in script.asked].count("PUT") == 2


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
async def test_an_upload_whose_beginning_was_lost_begins_once_more(
    script: ScriptedRegistry, impatient: RemoteStore, lost: Reply
):
    script.on("POST", UPLOADS, lost)
    script.always("POST", UPLOADS, SESSION)
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))

    assert await impatient.write_blob(APP, blob(CONTENT), opening(CONTENT)) is BlobOutcome.UPLOADED


async def delete_tag(store: RemoteStore) -> None:
    await store.delete_manifest(APP, V1)


async def delete_manifest(store: RemoteStore) -> None:
    await store.delete_manifest(APP, MANIFEST.digest)


async def delete_blob(store: RemoteStore) -> None:
    await store.delete_blob(APP, Digest.of(CONTENT))


Deleting = Callable[[RemoteStore], Awaitable[None]]
DELETIONS = [(delete_tag, AT_V1), (delete_manifest, f"/v2/team/app/manifests/{MANIFEST.digest}"), (delete_blob, BLOB)]


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize(("delete", "path"), DELETIONS, ids=["tag", "manifest", "blob"])
async def test_what_was_deleted_is_not_missed_by_the_second_attempt(
    script: ScriptedRegistry,
    impatient: RemoteStore,
    lost: Reply,
    delete: Deleting,
    path: str,
):
    script.on("DELETE", path, lost)

    await delete(impatient)

    assert script.lines()[0] == f"DELETE {path}"


@pytest.mark.parametrize(("delete", "path"), DELETIONS, ids=["tag", "manifest", "blob"])
async def test_what_was_deleted_late_counts_as_deleted(
    script: ScriptedRegistry, store: RemoteStore, delete: Deleting, path: str
):
    script.on("DELETE", path, Reply(drop=True))
    script.on("HEAD", path, has(MANIFEST))

    await delete(store)

    assert script.lines().count(f"DELETE {path}") == 2


@pytest.mark.parametrize(("delete", "path"), DELETIONS, ids=["tag", "manifest", "blob"])
async def test_what_was_never_there_is_not_found(
    script: ScriptedRegistry, store: RemoteStore, delete: Deleting, path: str
):
    with pytest.raises(NotFound):
        await delete(store)

    assert script.lines().count(f"DELETE {path}") == 1
