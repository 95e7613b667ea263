"""Capabilities are learned once, shared with later stores, and kept for at most a day."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from tagferry.errors import TooLarge
from tagferry.names import RepositoryName, Tag
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import OCI_INDEX, OCI_MANIFEST
from tagferry.remote import Capabilities
from tagferry.remote.capabilities import MAX_AGE, REFERRERS_API, TAG_LIST, LearnedCapabilities
from tests.support.images import blob, image, opening
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said
from tests.unit.remote.conftest import Opening

APP = RepositoryName("team/app")
UPLOADS = "/v2/team/app/blobs/uploads/"
SESSION = Reply(status=202, headers={"Location": f"{UPLOADS}s"})
MIB = 1024 * 1024


class MemoryCapabilities:
    """Keeps saved capabilities over several stores."""

    def __init__(self, stored: Capabilities | None = None) -> None:
        self.stored = stored or Capabilities()
        self.loads = 0

    async def load(self) -> Capabilities:
        self.loads += 1
        return self.stored

    async def save(self, capabilities: Capabilities) -> None:
        self.stored = capabilities


@pytest.fixture
def capabilities() -> MemoryCapabilities:
    return MemoryCapabilities()


async def test_the_referrers_api_is_asked_for_once(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    digests = [image(seed=str(number)).digest for number in range(3)]

    for digest in digests:
        await opened(capabilities=capabilities).list_referrers(APP, digest)

    assert [line for line in script.lines() if "/referrers/" in line] == [
        f"GET /v2/team/app/referrers/{digests[0]}",
    ]
    assert capabilities.stored.lists_referrers is False


async def test_support_of_the_referrers_api_is_stored(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    script.always("GET", "/v2/team/app/referrers/*", said({"manifests": []}))

    await opened(capabilities=capabilities).list_referrers(APP, image().digest)

    assert capabilities.stored.lists_referrers is True


async def test_a_mount_from_the_repository_itself_is_tried_once(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    script.on("POST", UPLOADS, error(400, "NAME_INVALID"))
    script.always("POST", UPLOADS, SESSION)
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))

    for content in (b"one", b"two"):
        await opened(capabilities=capabilities).write_blob(APP, blob(content), opening(content))

    assert [asked.method for asked in script.asked] == ["POST", "HEAD", "POST", "PUT", "HEAD", "POST", "PUT"]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs of 10 bytes are large enough to be looked up."""
    monkeypatch.setattr("tagferry.remote.blobs.uploader._HEAD_FIRST_SIZE", 10)


@pytest.mark.usefixtures("look")
async def test_head_is_used_at_a_registry_that_opens_a_session_for_every_mount(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    script.always("POST", UPLOADS, SESSION)
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))

    for content in (b"first ten!", b"small"):
        await opened(capabilities=capabilities).write_blob(APP, blob(content), opening(content))

    sent, tried = ["HEAD", "POST", "PUT"], ["POST", "DELETE"]
    assert [asked.method for asked in script.asked] == [*sent, *tried, *sent]
    mounts = [asked.query for asked in script.asked if "mount" in asked.query]
    assert mounts == [f"mount={quote(blob(b'first ten!').digest, safe='')}&from=team%2Fapp"]
    assert capabilities.stored.mounts_from_itself is False


@pytest.mark.usefixtures("look")
@pytest.mark.parametrize(
    ("mount", "asked", "learned"),
    [(SESSION, ["HEAD", "POST", "DELETE"], False), (Reply(status=201), ["HEAD", "POST"], True)],
    ids=["opens a session", "mounts"],
)
async def test_an_existing_large_blob_is_not_sent(
    script: ScriptedRegistry,
    opened: Opening,
    capabilities: MemoryCapabilities,
    mount: Reply,
    asked: list[str],
    learned: bool,
):
    there = blob(b"first ten!")
    script.always("HEAD", f"/v2/team/app/blobs/{there.digest}", Reply(headers={"Content-Length": "10"}))
    script.always("POST", UPLOADS, mount)
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))

    outcome = await opened(capabilities=capabilities).write_blob(APP, there, opening(b"first ten!"))

    assert outcome is BlobOutcome.PRESENT
    assert [one.method for one in script.asked] == asked
    assert capabilities.stored.mounts_from_itself is learned


@pytest.mark.usefixtures("look")
async def test_conclusive_self_mounts_replace_head(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    script.on("POST", UPLOADS, Reply(status=201))
    script.always("POST", UPLOADS, SESSION)
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))

    for content in (b"small", b"first ten!"):
        await opened(capabilities=capabilities).write_blob(APP, blob(content), opening(content))

    assert [asked.method for asked in script.asked] == ["POST", "POST", "PUT"]
    assert capabilities.stored.mounts_from_itself is True


@pytest.mark.usefixtures("look")
async def test_a_mount_that_cannot_be_tried_does_not_harm_the_blob(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    script.on("POST", UPLOADS, SESSION, error(503, "UNAVAILABLE"))
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))

    outcome = await opened(capabilities=capabilities).write_blob(APP, blob(b"first ten!"), opening(b"first ten!"))

    assert outcome is BlobOutcome.UPLOADED
    assert capabilities.stored.mounts_from_itself is None


async def test_a_blob_of_a_size_that_was_refused_is_not_sent_whole_again(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    script.always("POST", UPLOADS, SESSION)
    script.on("PUT", f"{UPLOADS}s", Reply(status=413))
    script.always("PATCH", f"{UPLOADS}s", Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))

    for content in (b"first ten!", b"second one", b"small"):
        await opened(capabilities=capabilities).write_blob(APP, blob(content), opening(content))

    first, second = ["POST", "PUT", "DELETE", "POST", "PATCH", "PUT"], ["POST", "PATCH", "PUT"]
    assert [asked.method for asked in script.asked] == [*first, *second, "POST", "PUT"]
    assert capabilities.stored.whole_limit == 10


def takes_parts_up_to(script: ScriptedRegistry, limit: int, **session: str) -> None:
    """A registry that accepts no whole blob, and parts up to a number of bytes."""

    def put(asked: Asked) -> Reply:
        return Reply(status=413 if asked.body else 201)

    def patch(asked: Asked) -> Reply:
        status = 413 if len(asked.body) > limit else 202
        return Reply(status=status, headers={"Location": f"{UPLOADS}s"})

    headers = {"Location": f"{UPLOADS}s", **{name.replace("_", "-"): value for name, value in session.items()}}
    script.always("POST", UPLOADS, Reply(status=202, headers=headers))
    script.always("PUT", f"{UPLOADS}s", put)
    script.always("PATCH", f"{UPLOADS}s", patch)
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))


def patched(script: ScriptedRegistry) -> list[int]:
    """Return the sizes of the sent parts."""
    return [len(asked.body) for asked in script.asked if asked.method == "PATCH"]


async def test_parts_are_halved_until_the_registry_accepts_them_and_the_size_is_kept(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    takes_parts_up_to(script, 300_000)
    content = bytes(MIB)

    await opened(capabilities=capabilities, chunk_size=MIB).write_blob(APP, blob(content), opening(content))
    assert patched(script) == [MIB, MIB // 2, *[MIB // 4] * 4]

    script.asked.clear()
    await opened(capabilities=capabilities, chunk_size=MIB).write_blob(APP, blob(content), opening(content))
    assert patched(script) == [MIB // 4] * 4
    assert capabilities.stored.part_limit == MIB // 4


@pytest.mark.parametrize(
    ("session", "smallest"), [({}, 64 * 1024), ({"OCI_Chunk_Min_Length": "300000"}, 300_000)], ids=["64 KiB", "told"]
)
async def test_parts_are_not_halved_below_the_least_that_makes_sense_and_nothing_is_learned_then(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities, session: dict[str, str], smallest: int
):
    takes_parts_up_to(script, 10, **session)
    content = bytes(MIB)

    with pytest.raises(TooLarge):
        await opened(capabilities=capabilities, chunk_size=MIB).write_blob(APP, blob(content), opening(content))

    assert patched(script)[-1] == smallest
    assert capabilities.stored.part_limit is None


async def test_the_reported_minimum_part_size_applies_to_later_sessions(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    takes_parts_up_to(script, MIB, OCI_Chunk_Min_Length="10")
    await opened(capabilities=capabilities, chunk_size=4).write_blob(APP, blob(bytes(25)), opening(bytes(25)))
    script.asked.clear()
    script.on("POST", UPLOADS, SESSION)

    await opened(capabilities=capabilities, chunk_size=4).write_blob(APP, blob(bytes(26)), opening(bytes(26)))

    assert patched(script) == [10, 10, 6]


async def test_after_a_day_all_is_forgotten():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    capabilities = MemoryCapabilities()
    learned = LearnedCapabilities(capabilities, clock=lambda: now)
    await learned.learn(lists_referrers=False)

    now += MAX_AGE / 2
    await learned.learn(mounts_from_itself=False)
    assert capabilities.stored.learned_at == now - MAX_AGE / 2
    now += MAX_AGE / 2
    assert await learned.known() == capabilities.stored
    now += timedelta(seconds=1)
    assert await learned.known() == await LearnedCapabilities(capabilities, clock=lambda: now).known() == Capabilities()


async def test_stored_capabilities_are_loaded_once():
    capabilities = MemoryCapabilities(Capabilities(learned_at=datetime.now(UTC), whole_limit=10))
    learned = LearnedCapabilities(capabilities)

    assert [(await learned.known()).whole_limit for _ in range(3)] == [10, 10, 10]
    assert capabilities.loads == 1


def test_capabilities_survive_being_written_as_json():
    known = Capabilities(
        learned_at=datetime.now(UTC),
        lists_referrers=False,
        whole_limit=10,
        accepted_classes=frozenset({OCI_MANIFEST}),
        refused_classes={OCI_INDEX: datetime.now(UTC).isoformat()},
    )

    assert Capabilities.from_json(known.to_json()) == known
    assert Capabilities.from_json(known.to_json() | {"of a later version": True}) == known
    assert Capabilities().to_json() == {}


async def test_an_unavailable_feature_is_logged_once_a_day_for_all_processes(
    capabilities: MemoryCapabilities,
):
    now = datetime(2030, 1, 1, tzinfo=UTC)
    first, second = (LearnedCapabilities(capabilities, registry="quay", clock=lambda: now) for _ in range(2))
    await second.known()

    with capture_logs() as logs:
        for learned in (first, first, second):
            await learned.mark_unavailable(TAG_LIST, "it answered 403")
    assert logs == [
        {
            "event": "registry feature unavailable",
            "log_level": "warning",
            "registry": "quay",
            "feature": "tag list",
            "reason": "it answered 403",
        }
    ]
    assert capabilities.stored.unavailable == (await second.known()).unavailable == {"tag list": "it answered 403"}

    now += MAX_AGE + timedelta(seconds=1)
    with capture_logs() as logs:
        await first.mark_unavailable(TAG_LIST, "it answered 403")
    assert len(logs) == 1


async def test_a_feature_that_works_again_is_available(capabilities: MemoryCapabilities):
    learned = LearnedCapabilities(capabilities)
    await learned.mark_unavailable(TAG_LIST, "it answered 403")
    await learned.mark_unavailable(REFERRERS_API, "it answered 303")

    await learned.mark_available(TAG_LIST)

    assert capabilities.stored.unavailable == {REFERRERS_API: "it answered 303"}


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("two\nlines\x1b[31m", "two lines [31m"),
        ("moved to https://user:pass@storage.example/x?X-Amz-Signature=abc", "moved to https://…storage.example/x…"),
        ("sent Bearer abcdefghijkl", "sent Bearer …"),
        ("token eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", "token …"),
        ("x" * 1000, "x" * 300 + "…"),
    ],
)
async def test_the_reason_is_one_printable_line_without_secrets(reason: str, shown: str):
    learned = LearnedCapabilities()

    await learned.mark_unavailable(TAG_LIST, reason)

    assert (await learned.known()).unavailable == {TAG_LIST: shown}


@pytest.mark.parametrize("unavailable", [None, [], "text", {"tag list": 1}])
def test_notes_of_another_version_are_passed_over(unavailable: object):
    assert Capabilities.from_json({"whole_limit": 1, "unavailable": unavailable}) == Capabilities(whole_limit=1)


async def test_the_granted_rate_is_stored_until_the_registry_no_longer_limits(
    script: ScriptedRegistry, opened: Opening, capabilities: MemoryCapabilities
):
    script.always("HEAD", "/v2/team/app/manifests/*", error(404, "MANIFEST_UNKNOWN"))
    script.on("HEAD", "/v2/team/app/manifests/*", error(429, "TOOMANYREQUESTS", headers={"Retry-After": "1"}))
    first = opened(capabilities=capabilities)
    await first.head_manifest(APP, Tag("v1"))
    await first.close()
    granted = capabilities.stored.requests_a_second
    assert granted is not None
    assert Capabilities.from_json(capabilities.stored.to_json()) == capabilities.stored

    second = opened(capabilities=capabilities)
    assert second._transport.limiter.limit is None
    await second.head_manifest(APP, Tag("v1"))
    assert second._transport.limiter.limit == pytest.approx(granted, rel=0.5)

    second._transport.limiter.limit = None
    await second.close()
    assert capabilities.stored.requests_a_second is None


async def test_an_unused_store_keeps_the_stored_capabilities(opened: Opening):
    capabilities = MemoryCapabilities(Capabilities(requests_a_second=9.0, learned_at=datetime.now(UTC)))
    await opened(capabilities=capabilities).close()
    assert capabilities.stored.requests_a_second == 9.0
    assert capabilities.loads == 0
