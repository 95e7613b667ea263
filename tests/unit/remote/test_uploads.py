"""Uploads under stress: stalls, expired tokens, cancellation, and copies within one registry."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tagferry.errors import Corrupt, Unavailable
from tagferry.names import RepositoryName
from tagferry.oci.images import OpenBlob
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tagferry.remote.blobs.stagger import PERMITS
from tests.support.docker_registry import docker_registry
from tests.support.images import blob, opening
from tests.support.scripted_registry import Reply, ScriptedRegistry, error
from tests.unit.remote.conftest import IMPATIENCE, Opening

APP = RepositoryName("team/app")
UPLOADS = "/v2/team/app/blobs/uploads/"
SESSION = Reply(status=202, headers={"Location": f"{UPLOADS}s"})


@asynccontextmanager
async def reading(store: RemoteStore, content: bytes, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
    async with store.read_blob(APP, blob(content), offset=offset) as chunks:
        yield chunks


async def test_copies_within_one_registry_do_not_wait_for_each_other(tmp_path: Path):
    contents = [secrets.token_bytes(1_500_000) for _ in range(8)]
    with docker_registry(tmp_path) as registry:
        store = RemoteStore(Endpoint(name="r", url=registry.url, max_connections=2))
        for content in contents:
            await store.write_blob(APP, blob(content), opening(content))
        copies = [store.write_blob(RepositoryName("team/copy"), blob(c), partial(reading, store, c)) for c in contents]
        async with asyncio.timeout(20):
            await asyncio.gather(*copies)
        await store.close()


async def test_an_upload_that_stalls_fails(script: ScriptedRegistry, opened: Opening):
    content = bytes(64_000_000)
    script.always("POST", UPLOADS, SESSION)
    script.always("PUT", f"{UPLOADS}s", Reply(status=201, unread=True, delay=0.7))

    with pytest.raises(Unavailable, match="in time"):
        await opened(attempts=1, read_timeout=0.2).write_blob(APP, blob(content), opening(content))


async def test_a_slow_source_is_not_the_registry_s_fault(script: ScriptedRegistry, opened: Opening):
    content = b"slow"
    script.always("POST", UPLOADS, SESSION)
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))

    @asynccontextmanager
    async def slow(_offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield content[:2]
            await asyncio.sleep(1.5 * IMPATIENCE)
            yield content[2:]

        yield chunks()

    await opened(attempts=1, read_timeout=IMPATIENCE).write_blob(APP, blob(content), slow)

    assert script.asked[-1].body == content


async def test_a_token_that_expires_before_the_put_starts_the_upload_over(script: ScriptedRegistry, opened: Opening):
    challenge = {"WWW-Authenticate": "Basic realm=x"}
    script.always("POST", UPLOADS, SESSION)
    script.on("PUT", f"{UPLOADS}s", error(401, "UNAUTHORIZED", headers=challenge), Reply(status=201))
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))

    await opened(credentials=Credentials(username="u", password="p")).write_blob(APP, blob(b"x"), opening(b"x"))

    assert [asked.method for asked in script.asked] == ["GET", "POST", "PUT", "GET", "DELETE", "HEAD", "POST", "PUT"]


async def test_a_cancelled_upload_cancels_its_session(script: ScriptedRegistry, store: RemoteStore):
    begun = asyncio.Event()
    script.always("POST", UPLOADS, SESSION)
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))

    @asynccontextmanager
    async def stuck(_offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            begun.set()
            await asyncio.Event().wait()
            yield b""

        yield chunks()

    upload = asyncio.ensure_future(store.write_blob(APP, blob(b"x"), stuck))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    assert script.lines()[-1] == f"DELETE {UPLOADS}s"


async def test_a_session_that_the_registry_forgot_is_replaced(script: ScriptedRegistry, store: RemoteStore):
    script.always("POST", UPLOADS, SESSION)
    script.on("PUT", f"{UPLOADS}s", error(404, "BLOB_UPLOAD_UNKNOWN"), Reply(status=201))

    await store.write_blob(APP, blob(b"x"), opening(b"x"))

    assert [asked.method for asked in script.asked] == ["POST", "PUT", "GET", "DELETE", "HEAD", "POST", "PUT"]


async def test_a_broken_upload_resumes_at_the_registry_s_offset(script: ScriptedRegistry, store: RemoteStore):
    content = bytes(range(256)) * 1000
    script.always("POST", UPLOADS, SESSION)
    script.on("PUT", f"{UPLOADS}s", Reply(drop=True), Reply(drop=True), Reply(status=201))
    script.on(
        "GET",
        f"{UPLOADS}s",
        Reply(status=204, headers={"Range": "0-99999"}),
        Reply(status=204, headers={"Range": "0-199999", "Location": f"{UPLOADS}s?moved=1"}),
    )

    await store.write_blob(APP, blob(content), opening(content))

    first, second, third = [asked for asked in script.asked if asked.method == "PUT"]
    assert first.body == content
    assert second.headers["Content-Range"] == "100000-255999"
    assert second.body == content[100_000:]
    assert third.headers["Content-Range"] == "200000-255999"
    assert third.body == content[200_000:]
    assert third.query.startswith("moved=1&digest=")


async def test_a_fully_received_blob_is_only_committed(script: ScriptedRegistry, store: RemoteStore):
    content = b"everything" * 100
    script.always("POST", UPLOADS, SESSION)
    script.on("PUT", f"{UPLOADS}s", Reply(drop=True), Reply(status=201))
    script.on("GET", f"{UPLOADS}s", Reply(status=204, headers={"Range": "0-999"}))

    await store.write_blob(APP, blob(content), opening(content))

    assert script.asked[-1].body == b""


async def test_corrupt_bytes_are_noticed_over_a_resumed_upload_too(script: ScriptedRegistry, store: RemoteStore):
    content = b"right" * 1000
    script.always("POST", UPLOADS, SESSION)
    script.on("PUT", f"{UPLOADS}s", Reply(drop=True))
    script.on("GET", f"{UPLOADS}s", Reply(status=204, headers={"Range": "0-1999"}))
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))

    with pytest.raises(Corrupt):
        await store.write_blob(APP, blob(content), opening(b"wrong" * 1000))


class Sources:
    """Blobs that the test releases; records which have been opened."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self._news = asyncio.Semaphore(0)
        self.going = asyncio.Event()

    def of(self, number: int, content: bytes) -> OpenBlob:
        @asynccontextmanager
        async def source(_offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
            async def chunks() -> AsyncIterator[bytes]:
                await self.going.wait()
                yield content

            self.opened.append(number)
            self._news.release()
            yield chunks()

        return source

    async def after(self, how_many: int) -> None:
        async with asyncio.timeout(20):
            for _ in range(how_many):
                await self._news.acquire()


@pytest.fixture
def sources() -> Sources:
    return Sources()


async def upload_all(script: ScriptedRegistry, store: RemoteStore, sources: Sources, contents: list[bytes]) -> None:
    script.always("POST", UPLOADS, SESSION)
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))
    async with asyncio.TaskGroup() as group:
        for number, content in enumerate(contents):
            group.create_task(store.write_blob(APP, blob(content), sources.of(number, content)))
            await asyncio.sleep(0)


LARGE_ONES = [bytes([number]) * 1000 for number in range(PERMITS + 1)]


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the maximum wait for a permit; 1000 bytes are large here, and the latency is low."""
    monkeypatch.setattr("tagferry.remote.blobs.stagger.LARGE", 1000)
    # A busy machine responds as late as a registry with a high latency.
    monkeypatch.setattr("tagferry.remote.transport.requests.HIGH_LATENCY_SECONDS", 60.0)
    return partial(monkeypatch.setattr, "tagferry.remote.blobs.stagger.MAX_WAIT_SECONDS")


async def test_large_uploads_to_a_registry_with_low_latency_are_staggered(
    script: ScriptedRegistry, store: RemoteStore, sources: Sources, patience: Callable[[float], None]
):
    patience(60.0)
    uploading = asyncio.create_task(upload_all(script, store, sources, [*LARGE_ONES, b"small"]))
    await sources.after(PERMITS + 1)
    begun = set(sources.opened)
    sources.going.set()
    await uploading

    assert begun == {*range(PERMITS), len(LARGE_ONES)}
    assert sorted(sources.opened) == [*range(len(LARGE_ONES) + 1)]


async def test_a_large_upload_does_not_wait_long_for_slow_ones(
    script: ScriptedRegistry, store: RemoteStore, sources: Sources, patience: Callable[[float], None]
):
    patience(0.05)
    uploading = asyncio.create_task(upload_all(script, store, sources, LARGE_ONES))
    await sources.after(PERMITS + 1)
    sources.going.set()
    await uploading


async def test_a_permit_is_released_if_its_source_fails(
    script: ScriptedRegistry, store: RemoteStore, patience: Callable[[float], None]
):
    patience(60.0)
    script.always("POST", UPLOADS, SESSION)
    script.always("DELETE", f"{UPLOADS}s", Reply(status=204))

    def broken(_offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        raise LookupError("no source")

    async with asyncio.timeout(30):
        for content in LARGE_ONES:
            with pytest.raises(LookupError):
                await store.write_blob(APP, blob(content), broken)
