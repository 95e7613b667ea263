"""Which blobs the target alone verifies, and what happens if they turn out to be wrong."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256

import pytest

from tagferry.errors import Corrupt, Invalid
from tagferry.http.response import READ_AHEAD
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import Descriptor
from tagferry.remote import Capabilities, Credentials, Endpoint, RemoteStore, Retry
from tagferry.remote.blobs import digest_check, uploader
from tagferry.remote.blobs.digest_check import SMALLEST, WORTHWHILE
from tagferry.remote.blobs.stagger import LARGE
from tagferry.remote.transport import requests as transport
from tagferry.remote.transport.requests import Transport
from tagferry.streams import Flow, Spliceable
from tests.support.deployment import eventually
from tests.support.images import blob
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said, scripted_registry
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_capabilities import MemoryCapabilities
from tests.unit.remote.test_downloads import path, serving_ranges

APP = RepositoryName("team/app")
UPLOADS = "/v2/team/app/blobs/uploads/"
SESSION = Reply(status=202, headers={"Location": f"{UPLOADS}s"})
MIB = 1024 * 1024
CONTENT = random.Random(5).randbytes(LARGE + 54_321)
WRONG = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
REFUSED = error(400, "DIGEST_INVALID")
KNOWN = Capabilities(mounts_from_itself=True)
"""Capabilities that would otherwise be learned by further requests."""


@dataclass
class Target:
    """Return what a target was sent to store."""

    stored: list[bytes] = field(default_factory=list)

    def honest(self, asked: Asked) -> Reply:
        """Accept content that matches its digest."""
        if f"digest=sha256%3A{sha256(asked.body).hexdigest()}" not in asked.query:
            return REFUSED
        return self.gullible(asked)

    def gullible(self, asked: Asked) -> Reply:
        """Accept everything."""
        self.stored.append(asked.body)
        return Reply(status=201)

    def terse(self, asked: Asked) -> Reply:
        """Refuse content that does not match its digest, without saying why."""
        answer = self.honest(asked)
        return answer if answer.status == 201 else Reply(status=400)


class Crossing:
    """Opens a blob at a source, and counts its spliced bytes."""

    def __init__(self, source: RemoteStore, descriptor: Descriptor) -> None:
        self._source = source
        self._descriptor = descriptor
        self.flowed = 0

    @asynccontextmanager
    async def __call__(self, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._source.read_blob(APP, self._descriptor, offset=offset) as chunks:
            # A small blob may have arrived as a whole.
            yield (
                Spliceable(chunks, lambda: self._watched(chunks.pieces())) if isinstance(chunks, Spliceable) else chunks
            )

    async def _watched(self, pieces: AsyncIterator[bytes | Flow]) -> AsyncIterator[bytes | Flow]:
        async for piece in pieces:
            if not isinstance(piece, bytes):
                piece.watch(self._count)
            yield piece

    def _count(self, size: int) -> None:
        self.flowed += size


@pytest.fixture
async def source_script() -> AsyncIterator[ScriptedRegistry]:
    async with scripted_registry() as running:
        running.always("GET", path(CONTENT), serving_ranges(CONTENT))
        yield running


@pytest.fixture
async def source(source_script: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RemoteStore]:
    # On a slow machine, responses may be late and make the source read ranges.
    monkeypatch.setattr(transport, "HIGH_LATENCY_SECONDS", 60.0)
    store = RemoteStore(Endpoint(name="source", url=source_script.url), retry=Retry(base_delay=0.0))
    yield store
    await store.close()


@pytest.fixture
def crossing(source: RemoteStore) -> Crossing:
    return Crossing(source, blob(CONTENT))


@pytest.fixture
def target(script: ScriptedRegistry) -> Target:
    script.always("POST", UPLOADS, SESSION)
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))
    return Target()


def served_by(script: ScriptedRegistry, *, size: int, count: int) -> list[bytes]:
    """Make a source return `count` different blobs of `size` bytes, and return them."""
    contents = [bytes([number]) * size for number in range(count)]
    for content in contents:
        script.always("GET", path(content), Reply(body=content))
    return contents


async def test_a_target_that_refused_wrong_content_verifies_large_blobs(
    script: ScriptedRegistry, opened: Opening, target: Target, crossing: Crossing
):
    script.always("PUT", f"{UPLOADS}s", target.honest)
    capabilities = MemoryCapabilities(KNOWN)

    for _ in range(2):
        outcome = await opened(capabilities=capabilities).write_blob(APP, blob(CONTENT), crossing)
        assert outcome is BlobOutcome.UPLOADED

    assert target.stored == [CONTENT, CONTENT]
    assert crossing.flowed >= 2 * (len(CONTENT) - 2 * READ_AHEAD)
    tried = ["POST", "PUT", "DELETE"]
    assert [asked.method for asked in script.asked] == ["POST", *tried, "PUT", "POST", "PUT"]
    assert capabilities.stored.refuses_wrong_bytes is True


async def test_no_blob_waits_for_the_test_of_a_far_target(
    script: ScriptedRegistry,
    opened: Opening,
    target: Target,
    crossing: Crossing,
    monkeypatch: pytest.MonkeyPatch,
):
    script.always("PUT", f"{UPLOADS}s", target.honest)
    capabilities = MemoryCapabilities(KNOWN)
    store = opened(capabilities=capabilities)
    monkeypatch.setattr(Transport, "high_latency", property(lambda one: one.name == "script"))

    async def learned() -> bool:
        return capabilities.stored.refuses_wrong_bytes is True

    await store.write_blob(APP, blob(CONTENT), crossing)
    assert (target.stored, crossing.flowed) == ([CONTENT], 0)
    await eventually(learned)
    await store.write_blob(APP, blob(CONTENT), crossing)

    assert target.stored == [CONTENT, CONTENT]
    assert crossing.flowed > 0
    assert sorted(asked.method for asked in script.asked) == ["DELETE", *["POST"] * 3, *["PUT"] * 3]


async def test_the_test_of_a_far_target_ends_with_its_store(
    script: ScriptedRegistry,
    opened: Opening,
    target: Target,
    crossing: Crossing,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(uploader, "_CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(Transport, "high_latency", property(lambda one: one.name == "script"))

    def put(asked: Asked) -> Reply:
        return target.honest(asked) if len(asked.body) > 16 else replace(REFUSED, delay=60.0)

    async def is_tested() -> bool:
        return any(len(asked.body) == 16 for asked in script.asked)

    script.always("PUT", f"{UPLOADS}s", put)
    store = opened(capabilities=MemoryCapabilities(KNOWN))
    await store.write_blob(APP, blob(CONTENT), crossing)
    await eventually(is_tested)

    async with asyncio.timeout(30):
        await store.close()

    assert target.stored == [CONTENT]
    assert script.asked[-1].method == "DELETE", "the session that it has opened is cancelled"


@pytest.mark.parametrize(
    ("put", "requests", "learned"),
    [(Target.gullible, 5, False), (Target.terse, 5, False)],
    ids=["takes wrong bytes", "does not say why it refuses them"],
)
async def test_a_target_that_does_not_verify_digests_is_not_relied_on(
    script: ScriptedRegistry,
    opened: Opening,
    target: Target,
    crossing: Crossing,
    put: Callable[[Target, Asked], Reply],
    requests: int,
    learned: bool,
):
    script.always("PUT", f"{UPLOADS}s", lambda asked: put(target, asked))
    capabilities = MemoryCapabilities(KNOWN)

    await opened(capabilities=capabilities).write_blob(APP, blob(CONTENT), crossing)

    assert target.stored[-1] == CONTENT
    assert crossing.flowed == 0
    assert len(script.asked) == requests
    assert capabilities.stored.refuses_wrong_bytes is learned


@pytest.mark.parametrize("seconds", [0.0, 300.0], ids=["after a pause", "not at once"])
async def test_a_test_without_a_result_is_repeated(
    script: ScriptedRegistry,
    opened: Opening,
    target: Target,
    crossing: Crossing,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
):
    monkeypatch.setattr(digest_check, "RETRY_SECONDS", seconds)
    script.on("PUT", f"{UPLOADS}s", error(503, "UNAVAILABLE"))
    script.always("PUT", f"{UPLOADS}s", target.honest)
    capabilities = MemoryCapabilities(KNOWN)
    store = opened(capabilities=capabilities)

    await store.write_blob(APP, blob(CONTENT), crossing)
    assert (target.stored, crossing.flowed, capabilities.stored.refuses_wrong_bytes) == ([CONTENT], 0, None)
    await store.write_blob(APP, blob(CONTENT), crossing)

    assert target.stored == [CONTENT, CONTENT]
    assert capabilities.stored.refuses_wrong_bytes is (None if seconds else True)
    assert (crossing.flowed > 0) is (not seconds)


@pytest.mark.parametrize(
    "answer",
    [error(500, "UNKNOWN"), error(403, "DENIED"), error(429, "TOOMANYREQUESTS"), replace(REFUSED, delay=60.0)],
    ids=["fails", "is denied", "is limited", "is not answered"],
)
async def test_many_blobs_share_one_test_without_a_result(
    script: ScriptedRegistry,
    source_script: ScriptedRegistry,
    source: RemoteStore,
    opened: Opening,
    target: Target,
    monkeypatch: pytest.MonkeyPatch,
    answer: Reply,
):
    monkeypatch.setattr(digest_check, "MAX_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(uploader, "_CLOSE_SECONDS", 0.1)
    tests = []

    def put(asked: Asked) -> Reply:
        if len(asked.body) > 16:
            return target.honest(asked)
        tests.append(asked)
        return answer

    script.always("PUT", f"{UPLOADS}s", put)
    contents = served_by(source_script, size=MIB, count=2 * WORTHWHILE // MIB)
    store = opened(capabilities=MemoryCapabilities(KNOWN))

    async with asyncio.timeout(20):
        await asyncio.gather(
            *(store.write_blob(APP, blob(content), Crossing(source, blob(content))) for content in contents)
        )
        await store.close()

    assert sorted(target.stored) == sorted(contents)
    assert len(tests) == 1


@pytest.mark.parametrize(
    ("content", "algorithm", "force"),
    [(CONTENT[: SMALLEST - 1], "sha256", False), (CONTENT, "sha512", False), (CONTENT, "sha256", True)],
    ids=["small", "sha512", "lost once"],
)
async def test_some_blobs_are_always_verified_here(
    script: ScriptedRegistry,
    source_script: ScriptedRegistry,
    source: RemoteStore,
    opened: Opening,
    target: Target,
    content: bytes,
    algorithm: str,
    force: bool,
):
    descriptor = blob(content, algorithm)
    source_script.always("GET", f"/v2/team/app/blobs/{descriptor.digest}", Reply(body=content))
    script.always("PUT", f"{UPLOADS}s", target.gullible)
    crossing = Crossing(source, descriptor)

    await opened(capabilities=MemoryCapabilities(KNOWN)).write_blob(APP, descriptor, crossing, force=force)

    assert (target.stored, crossing.flowed) == ([content], 0)
    assert [asked.method for asked in script.asked] == ["POST", "PUT"]


async def test_several_small_blobs_together_are_worth_the_test(
    script: ScriptedRegistry, source_script: ScriptedRegistry, source: RemoteStore, opened: Opening, target: Target
):
    script.always("PUT", f"{UPLOADS}s", target.honest)
    contents = served_by(source_script, size=MIB, count=WORTHWHILE // MIB + 2)
    crossings = [Crossing(source, blob(content)) for content in contents]
    store, tested = opened(capabilities=MemoryCapabilities(KNOWN)), 3

    for content, crossing in zip(contents, crossings, strict=True):
        await store.write_blob(APP, blob(content), crossing)

    assert sorted(target.stored) == sorted(contents)
    assert [crossing.flowed > 0 for crossing in crossings] == [False] * 7 + [True] * 3
    assert len(script.asked) == 2 * len(contents) + tested


async def test_a_blob_waits_for_the_test_that_the_blobs_sent_with_it_are_worth(
    script: ScriptedRegistry, source_script: ScriptedRegistry, source: RemoteStore, opened: Opening, target: Target
):
    script.always("PUT", f"{UPLOADS}s", target.honest)
    contents = served_by(source_script, size=MIB, count=WORTHWHILE // MIB)
    crossings = [Crossing(source, blob(content)) for content in contents]
    store = opened(capabilities=MemoryCapabilities(KNOWN))

    await asyncio.gather(
        *(store.write_blob(APP, blob(content), one) for content, one in zip(contents, crossings, strict=True))
    )

    assert sorted(target.stored) == sorted(contents)
    assert all(crossing.flowed > 0 for crossing in crossings)


async def test_few_small_blobs_are_not_worth_the_test(
    script: ScriptedRegistry, source_script: ScriptedRegistry, source: RemoteStore, opened: Opening, target: Target
):
    script.always("PUT", f"{UPLOADS}s", target.honest)
    capabilities = MemoryCapabilities(KNOWN)
    content = served_by(source_script, size=WORTHWHILE - 1, count=1)[0]
    crossing = Crossing(source, blob(content))

    await opened(capabilities=capabilities).write_blob(APP, blob(content), crossing)

    assert (target.stored, crossing.flowed, capabilities.stored.refuses_wrong_bytes) == ([content], 0, None)


async def test_a_blob_that_the_target_rejects_again_and_again_does_not_make_the_test_worth_it(
    script: ScriptedRegistry, source_script: ScriptedRegistry, source: RemoteStore, opened: Opening, target: Target
):
    script.always("PUT", f"{UPLOADS}s", error(400, "BLOB_UPLOAD_INVALID"))
    content = served_by(source_script, size=MIB, count=1)[0]
    store, attempts = opened(capabilities=MemoryCapabilities(KNOWN)), 2 * WORTHWHILE // MIB

    for _ in range(attempts):
        with pytest.raises(Invalid):
            await store.write_blob(APP, blob(content), Crossing(source, blob(content)))

    assert [asked.method for asked in script.asked] == ["POST", "PUT", "DELETE"] * attempts


async def test_blobs_that_the_target_has_do_not_make_the_test_worth_it(
    script: ScriptedRegistry, source_script: ScriptedRegistry, source: RemoteStore, opened: Opening, target: Target
):
    script.on("POST", UPLOADS, *[Reply(status=201)] * (WORTHWHILE // MIB), SESSION)
    script.always("PUT", f"{UPLOADS}s", target.honest)
    contents = served_by(source_script, size=MIB, count=WORTHWHILE // MIB + 1)
    store = opened(capabilities=MemoryCapabilities(KNOWN))

    for content in contents:
        await store.write_blob(APP, blob(content), Crossing(source, blob(content)))

    assert target.stored == contents[-1:]
    assert [asked.method for asked in script.asked[-2:]] == ["POST", "PUT"]
    assert len(script.asked) == len(contents) + 1


@pytest.mark.parametrize("has_high_latency", [False, True])
async def test_a_small_blob_is_verified_here_if_the_target_has_a_high_latency(
    script: ScriptedRegistry,
    source_script: ScriptedRegistry,
    source: RemoteStore,
    opened: Opening,
    target: Target,
    monkeypatch: pytest.MonkeyPatch,
    has_high_latency: bool,
):
    monkeypatch.setattr(Transport, "high_latency", property(lambda one: has_high_latency and one.name == "script"))
    script.always("PUT", f"{UPLOADS}s", target.honest)
    content = served_by(source_script, size=LARGE - 1, count=1)[0]
    crossing = Crossing(source, blob(content))

    known = MemoryCapabilities(KNOWN._replace(refuses_wrong_bytes=True))
    await opened(capabilities=known).write_blob(APP, blob(content), crossing)

    assert (target.stored, crossing.flowed > 0) == ([content], not has_high_latency)


async def test_wrong_content_is_refused_by_the_target_and_attributed_to_the_source(
    script: ScriptedRegistry, source_script: ScriptedRegistry, opened: Opening, target: Target, crossing: Crossing
):
    source_script.on("GET", path(CONTENT), *[Reply(body=WRONG)] * 2)
    script.always("PUT", f"{UPLOADS}s", target.honest)

    with pytest.raises(Corrupt, match=f"{Digest.of(CONTENT)} has content with the digest {Digest.of(WRONG)}"):
        await opened().write_blob(APP, blob(CONTENT), crossing)

    assert target.stored == []
    assert crossing.flowed > 0
    assert script.lines()[-1] == f"DELETE {UPLOADS}s"


async def test_bytes_that_went_wrong_only_once_arrive_in_the_second_attempt(
    script: ScriptedRegistry, source_script: ScriptedRegistry, opened: Opening, target: Target, crossing: Crossing
):
    source_script.on("GET", path(CONTENT), Reply(body=WRONG))
    script.always("PUT", f"{UPLOADS}s", target.honest)

    await opened().write_blob(APP, blob(CONTENT), crossing)

    assert target.stored == [CONTENT]


async def test_a_target_that_refuses_correct_content_is_reported(
    script: ScriptedRegistry, opened: Opening, target: Target, crossing: Crossing
):
    script.always("PUT", f"{UPLOADS}s", REFUSED)

    with pytest.raises(Corrupt, match="refused by registry script, which answered 400 DIGEST_INVALID"):
        await opened().write_blob(APP, blob(CONTENT), crossing)

    assert [len(asked.body) for asked in script.asked if asked.method == "PUT"] == [16, len(CONTENT), len(CONTENT)]


async def test_a_target_that_stored_another_digest_is_no_longer_relied_on(
    script: ScriptedRegistry, opened: Opening, target: Target, crossing: Crossing
):
    other = Reply(status=201, headers={"Docker-Content-Digest": str(Digest.of(b"other"))})
    script.on("PUT", f"{UPLOADS}s", REFUSED, other)
    script.always("PUT", f"{UPLOADS}s", target.gullible)
    capabilities = MemoryCapabilities(KNOWN)
    store = opened(capabilities=capabilities)

    await store.write_blob(APP, blob(CONTENT), crossing)
    flowed = crossing.flowed
    await store.write_blob(APP, blob(CONTENT), crossing)

    assert target.stored == [CONTENT, CONTENT]
    assert 0 < flowed == crossing.flowed
    assert capabilities.stored.refuses_wrong_bytes is False


async def test_a_broken_flow_resumes_at_its_position(
    script: ScriptedRegistry, source_script: ScriptedRegistry, opened: Opening, target: Target, crossing: Crossing
):
    script.always("PUT", f"{UPLOADS}s", target.honest)
    source_script.on("GET", path(CONTENT), *[serving_ranges(CONTENT, broken_after=5 * MIB)] * 3)

    await opened().write_blob(APP, blob(CONTENT), crossing)

    assert target.stored == [CONTENT]
    starts = [re.sub(r"\D", "", asked.headers.get("Range", "")) for asked in source_script.asked]
    assert starts == ["", str(5 * MIB), str(10 * MIB), str(15 * MIB)]
    assert crossing.flowed >= len(CONTENT) - 4 * 2 * READ_AHEAD


async def test_a_source_that_breaks_and_knows_no_ranges_sends_again_what_is_then_skipped(
    script: ScriptedRegistry, source_script: ScriptedRegistry, opened: Opening, target: Target, crossing: Crossing
):
    script.always("PUT", f"{UPLOADS}s", target.honest)
    source_script.on("GET", path(CONTENT), Reply(body=CONTENT, truncate_to=5 * MIB), Reply(body=CONTENT))

    await opened().write_blob(APP, blob(CONTENT), crossing)

    assert target.stored == [CONTENT]


async def test_a_target_that_does_not_take_it_whole_gets_it_in_parts(
    script: ScriptedRegistry, opened: Opening, target: Target, crossing: Crossing
):
    script.on("PUT", f"{UPLOADS}s", REFUSED, Reply(status=413, unread=True), Reply(status=201))
    script.always("PATCH", f"{UPLOADS}s", SESSION)

    await opened().write_blob(APP, blob(CONTENT), crossing)

    assert b"".join([asked.body for asked in script.asked if asked.method == "PATCH"]) == CONTENT


async def test_a_token_that_expires_in_the_middle_starts_the_upload_over(
    script: ScriptedRegistry, opened: Opening, target: Target, crossing: Crossing
):
    challenge = {"WWW-Authenticate": f'Bearer realm="{script.url}/token"'}
    expired = error(401, "UNAUTHORIZED", headers=challenge, unread=True)
    script.always("GET", "/token", said({"token": "t"}))
    capabilities = MemoryCapabilities(Capabilities(refuses_wrong_bytes=True))
    script.on("PUT", f"{UPLOADS}s", expired)
    script.always("PUT", f"{UPLOADS}s", target.honest)
    store = opened(capabilities=capabilities, credentials=Credentials(username="u", password="p"))

    await store.write_blob(APP, blob(CONTENT), crossing)

    assert target.stored == [CONTENT]
