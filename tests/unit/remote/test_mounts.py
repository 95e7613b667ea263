"""A mount is optional: the blob arrives whatever its outcome, and it is not requested in vain for each blob."""

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.route import Route
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome
from tagferry.remote import RemoteStore
from tagferry.remote.blobs.mounts import REFUSED_SECONDS, MountHistory
from tests.support.images import blob, image, opening, push
from tests.support.memory_store import MemoryStore
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_capabilities import MemoryCapabilities

APP, BASE, OTHER = RepositoryName("team/app"), RepositoryName("team/base"), RepositoryName("team/other")
UPLOADS = "/v2/team/app/blobs/uploads/"
SESSION = Reply(status=202, headers={"Location": f"{UPLOADS}s"})
WRONG = Reply(status=201, headers={"Docker-Content-Digest": Digest.of(b"something else")})
ANSWERS = {
    **{str(status): Reply(status=status) for status in (400, 401, 403, 404, 405, 409, 422, 500, 501, 502, 503, 504)},
    "redirect": Reply(status=301, headers={"Location": "/login"}),
    "a page": Reply(status=200, body=b"<html>"),
    "no session": Reply(status=202),
    "broken": Reply(drop=True),
    "another digest": WRONG,
}


def answering(script: ScriptedRegistry, mount: Reply, *origins: RepositoryName) -> None:
    """A registry that accepts every blob, with these responses to mounts, or to mounts from these repositories."""

    def post(asked: Asked) -> Reply:
        is_asked = any(f"from={origin.replace('/', '%2F')}" in asked.query for origin in origins or (APP, BASE, OTHER))
        return mount if is_asked else SESSION

    script.always("POST", UPLOADS, post)
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))


def mounts(script: ScriptedRegistry) -> int:
    return sum("mount=" in asked.query for asked in script.asked)


@pytest.mark.parametrize("mount", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("origin", [BASE, None], ids=["from another repository", "from itself"])
async def test_a_blob_whose_mount_fails_is_uploaded(
    script: ScriptedRegistry, store: RemoteStore, mount: Reply, origin: RepositoryName | None
):
    answering(script, mount)

    for content in (b"one", b"two"):
        outcome = await store.write_blob(APP, blob(content), opening(content), mount_from=origin)
        assert outcome is BlobOutcome.UPLOADED


@pytest.mark.parametrize("mount", ANSWERS.values(), ids=ANSWERS)
async def test_an_existing_blob_is_not_sent_if_its_mount_fails(
    script: ScriptedRegistry, store: RemoteStore, mount: Reply
):
    answering(script, mount)
    script.always("HEAD", "/v2/team/app/blobs/*", Reply(headers={"Content-Length": "3"}))

    assert await store.write_blob(APP, blob(b"one"), opening(b"one"), mount_from=BASE) is BlobOutcome.PRESENT


@pytest.mark.parametrize("name", [name for name in ANSWERS if name not in ("404", "no session", "redirect")])
async def test_a_refused_mount_source_is_not_requested_for_each_blob(
    script: ScriptedRegistry, store: RemoteStore, name: str
):
    answering(script, ANSWERS[name], BASE)
    contents = [bytes([number]) for number in range(10)]

    for content in contents:
        await store.write_blob(APP, blob(content), opening(content), mount_from=BASE)

    from_base = sum("from=team%2Fbase" in asked.query for asked in script.asked)
    assert from_base <= 3


async def test_a_refused_mount_source_does_not_affect_others(script: ScriptedRegistry, store: RemoteStore):
    answering(script, error(403, "DENIED"), BASE)
    script.always("POST", UPLOADS, Reply(status=201))
    await store.write_blob(APP, blob(b"one"), opening(b"one"), mount_from=BASE)
    script.on("POST", UPLOADS, Reply(status=201))

    assert await store.write_blob(APP, blob(b"two"), opening(b"two"), mount_from=OTHER) is BlobOutcome.MOUNTED


async def test_a_missing_blob_does_not_affect_mounts_of_other_blobs(script: ScriptedRegistry, store: RemoteStore):
    answering(script, SESSION)
    script.on("POST", UPLOADS, error(404, "BLOB_UNKNOWN"))
    await store.write_blob(APP, blob(b"one"), opening(b"one"), mount_from=BASE)
    script.on("POST", UPLOADS, Reply(status=201))

    assert await store.write_blob(APP, blob(b"two"), opening(b"two"), mount_from=BASE) is BlobOutcome.MOUNTED


async def test_one_fault_does_not_disable_mounts(script: ScriptedRegistry, opened: Opening):
    capabilities = MemoryCapabilities()
    store = opened(capabilities=capabilities)
    answering(script, SESSION)
    script.on("POST", UPLOADS, Reply(status=503))
    await store.write_blob(APP, blob(b"one"), opening(b"one"))
    assert capabilities.stored.mounts_from_itself is None
    script.on("POST", UPLOADS, Reply(status=201))

    assert await store.write_blob(APP, blob(b"two"), opening(b"two"), mount_from=BASE) is BlobOutcome.MOUNTED
    assert capabilities.stored.unavailable == {}


async def test_a_rate_limited_mount_is_retried(script: ScriptedRegistry, opened: Opening):
    capabilities = MemoryCapabilities()
    store = opened(capabilities=capabilities)
    limited = Reply(status=429, headers={"Retry-After": "1"})
    for content in (b"one", b"two", b"three"):
        script.on("POST", UPLOADS, *[limited] * 4, Reply(status=201))

        written = await store.write_blob(APP, blob(content), opening(content), mount_from=BASE)

        assert written is BlobOutcome.MOUNTED
    assert capabilities.stored.unavailable == {}


def test_a_refused_repository_is_requested_again_after_a_while():
    now = 0.0
    origins = MountHistory(clock=lambda: now)
    origins.record_refusal(BASE)
    origins.record_fault(OTHER)
    assert not origins.may_succeed(BASE)
    assert origins.may_succeed(OTHER)

    origins.record_fault(OTHER)
    assert not origins.may_succeed(OTHER)
    now = REFUSED_SECONDS
    assert origins.may_succeed(BASE)
    origins.record_success(OTHER)
    origins.record_fault(OTHER)
    assert origins.may_succeed(OTHER)


async def test_a_false_mount_is_detected_before_the_tag_is_written(script: ScriptedRegistry, store: RemoteStore):
    """The registry returns 201 to every mount, and has the blobs only once they are sent."""
    sample, tag = image(), Tag("v1")
    sent: set[str] = set()

    def post(asked: Asked) -> Reply:
        return Reply(status=201) if "mount=" in asked.query else SESSION

    def put(asked: Asked) -> Reply:
        sent.add(str(Digest.of(asked.body)))
        return Reply(status=201)

    def head(asked: Asked) -> Reply:
        digest = asked.path.rpartition("/")[2]
        sizes = {str(key): len(content) for key, content in sample.all_blobs.items()}
        return Reply(headers={"Content-Length": str(sizes[digest])}) if digest in sent else Reply(status=404)

    script.always("POST", UPLOADS, post)
    script.always("PUT", f"{UPLOADS}s", put)
    script.always("HEAD", "/v2/team/app/blobs/*", head)
    script.always("PUT", "/v2/team/app/manifests/*", Reply(status=201))
    source = MemoryStore("source")
    await push(source, APP, sample, tag)
    route = Route(source=source, source_repository=APP, target=store, target_repository=APP)

    await CopyEngine(referrers=False).copy(route, tag, override=False)

    assert sent == {str(digest) for digest in sample.all_blobs}
    assert script.lines()[-1] == "PUT /v2/team/app/manifests/v1"
