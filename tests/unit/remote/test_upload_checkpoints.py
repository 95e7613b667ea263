"""An upload of another process is resumed; if that is not possible, a new one is started."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tagferry.errors import Corrupt, Refused, Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import BlobOutcome, OpenBlob
from tagferry.remote import Capabilities
from tests.support.images import blob, opening
from tests.support.scripted_registry import Reply, ScriptedRegistry, error, scripted_registry
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_capabilities import MemoryCapabilities

APP = RepositoryName("team/app")
UPLOADS = "/v2/team/app/blobs/uploads/"
OLD, NEW = f"{UPLOADS}old", f"{UPLOADS}new"
CONTENT = bytes(range(256)) * 1000
SIZE = len(CONTENT)
DIGEST = Digest.of(CONTENT)
HALF = SIZE // 2
SOON = 0.01


@dataclass
class Uploads:
    """Keeps saved sessions over several stores."""

    kept: dict[tuple[RepositoryName, Digest], str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    noted: asyncio.Event = field(default_factory=asyncio.Event)
    is_stopping: bool = False
    saves_at_once: bool = False

    async def load(self, repository: RepositoryName, digest: Digest) -> str | None:
        self.calls.append("load")
        return self.kept.get((repository, digest))

    async def save(self, repository: RepositoryName, digest: Digest, location: str) -> None:
        self.calls.append("save")
        self.kept[repository, digest] = location
        self.noted.set()

    async def clear(self, repository: RepositoryName, digest: Digest) -> None:
        self.calls.append("clear")
        self.kept.pop((repository, digest), None)


@dataclass
class Source:
    """A blob source that records the offsets of its reads, and can pause after its first bytes."""

    content: bytes = CONTENT
    going: asyncio.Event | None = None
    offsets: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def __call__(self, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        self.offsets.append(offset)
        yield self._chunks(offset)

    async def _chunks(self, offset: int) -> AsyncIterator[bytes]:
        yield self.content[offset : offset + 1000]
        if self.going is not None:
            await self.going.wait()
        yield self.content[offset + 1000 :]


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Uploads:
    """An empty store of checkpoints, for blobs from 1000 bytes."""
    monkeypatch.setattr("tagferry.remote.blobs.checkpoint.MIN_SIZE", 1000)
    return Uploads()


@pytest.fixture
def left(script: ScriptedRegistry, uploads: Uploads) -> Uploads:
    """A session of an earlier process."""
    uploads.kept[APP, DIGEST] = f"{script.url}{OLD}"
    return uploads


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions are saved at once."""
    monkeypatch.setattr("tagferry.remote.blobs.checkpoint.SAVE_SECONDS", SOON)


def takes_uploads(script: ScriptedRegistry) -> None:
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": NEW}))
    script.always("PUT", NEW, Reply(status=201))
    script.always("DELETE", f"{UPLOADS}*", Reply(status=204))


def holds(size: int, **headers: str) -> Reply:
    return Reply(status=204, headers={"Range": f"0-{size - 1}", **headers})


def puts(script: ScriptedRegistry) -> list[tuple[str, int]]:
    """Return the targets and sizes of sent bytes."""
    return [(asked.path, len(asked.body)) for asked in script.asked if asked.method in ("PUT", "PATCH")]


async def write(opened: Opening, uploads: Uploads, source: OpenBlob | None = None, **terms: object) -> BlobOutcome:
    store = opened(checkpoints=uploads, **terms)
    return await store.write_blob(APP, blob(CONTENT), source or opening(CONTENT))


@pytest.mark.usefixtures("soon")
async def test_a_checkpoint_exists_only_while_the_upload_lasts(
    script: ScriptedRegistry, opened: Opening, uploads: Uploads
):
    takes_uploads(script)
    source = Source(going=uploads.noted)

    await write(opened, uploads, source)

    assert uploads.calls == ["load", "save", "clear"]
    assert uploads.kept == {}


async def test_a_store_with_cheap_saves_has_the_session_before_any_byte_is_sent(
    script: ScriptedRegistry, opened: Opening, uploads: Uploads
):
    uploads.saves_at_once = True
    takes_uploads(script)
    source = Source(going=uploads.noted)

    await write(opened, uploads, source)

    assert uploads.calls == ["load", "save", "clear"]


async def test_a_quick_upload_costs_no_write(script: ScriptedRegistry, opened: Opening, uploads: Uploads):
    takes_uploads(script)

    await write(opened, uploads)

    assert uploads.calls == ["load"]


async def test_a_small_blob_has_no_checkpoint(script: ScriptedRegistry, opened: Opening):
    takes_uploads(script)
    uploads = Uploads()

    await write(opened, uploads)

    assert uploads.calls == []


async def test_the_next_process_sends_the_rest_to_where_the_session_has_moved(
    script: ScriptedRegistry, opened: Opening, left: Uploads
):
    takes_uploads(script)
    script.on("GET", OLD, holds(HALF, Location=f"{OLD}?state=2"))
    script.on("PUT", OLD, Reply(status=201, headers={"Docker-Content-Digest": DIGEST}))
    source = Source()

    assert await write(opened, left, source) is BlobOutcome.UPLOADED

    assert [f"{asked.method} {asked.path}" for asked in script.asked] == [
        f"POST {UPLOADS}",
        f"GET {OLD}",
        f"DELETE {NEW}",
        f"PUT {OLD}",
    ]
    assert script.asked[-1].query.startswith("state=2&digest=")
    assert script.asked[-1].headers["Content-Range"] == f"{HALF}-{SIZE - 1}"
    assert script.asked[-1].body == CONTENT[HALF:]
    assert source.offsets == [HALF]
    assert left.kept == {}


async def test_a_complete_session_is_only_committed(script: ScriptedRegistry, opened: Opening, left: Uploads):
    takes_uploads(script)
    script.on("GET", OLD, holds(SIZE))
    script.on("PUT", OLD, Reply(status=201))
    source = Source()

    await write(opened, left, source)

    assert puts(script) == [(OLD, 0)]
    assert source.offsets == []


async def test_an_upload_is_not_resumed_if_the_blob_exists(script: ScriptedRegistry, opened: Opening, left: Uploads):
    script.on("POST", UPLOADS, Reply(status=201))

    assert await write(opened, left) is BlobOutcome.PRESENT

    assert left.calls == []


@pytest.mark.parametrize(
    "answer",
    [
        error(404, "BLOB_UPLOAD_UNKNOWN"),
        error(404, "BLOB_UPLOAD_INVALID"),
        error(400, "BLOB_UPLOAD_INVALID"),
        error(401, "UNAUTHORIZED"),
        error(403, "DENIED"),
        error(409, "CONFLICT"),
        error(410, "GONE"),
        error(416, "RANGE_INVALID"),
        error(500, "UNKNOWN"),
        Reply(status=204),
        Reply(status=204, headers={"Range": "first-last"}),
        Reply(status=204, headers={"Range": "0-0"}),
        holds(SIZE + 1),
    ],
    ids=lambda reply: f"{reply.status} {reply.headers.get('Range', '')}",
)
async def test_an_unusable_session_is_dropped_and_the_blob_sent_to_a_new_one(
    script: ScriptedRegistry, opened: Opening, left: Uploads, answer: Reply
):
    takes_uploads(script)
    script.always("GET", OLD, answer)

    assert await write(opened, left) is BlobOutcome.UPLOADED

    assert puts(script) == [(NEW, SIZE)]
    assert left.kept == {}


@pytest.mark.usefixtures("soon")
async def test_a_session_at_another_host_is_neither_used_nor_saved(
    script: ScriptedRegistry, opened: Opening, uploads: Uploads
):
    async with scripted_registry() as elsewhere:
        uploads.kept[APP, DIGEST] = f"{elsewhere.url}{OLD}"
        script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{elsewhere.url}{NEW}"}))
        elsewhere.always("PUT", NEW, Reply(status=201))
        going = asyncio.Event()
        writing = asyncio.create_task(write(opened, uploads, Source(going=going)))
        await asyncio.sleep(5 * SOON)
        going.set()
        await writing

        assert puts(elsewhere) == [(NEW, SIZE)]
        assert len(elsewhere.asked) == 1
    assert uploads.calls == ["load", "clear"]


async def test_a_session_with_wrong_content_is_replaced(script: ScriptedRegistry, opened: Opening, left: Uploads):
    takes_uploads(script)
    script.on("GET", OLD, holds(HALF))
    script.on("PUT", OLD, error(400, "DIGEST_INVALID"))

    assert await write(opened, left) is BlobOutcome.UPLOADED

    assert puts(script) == [(OLD, SIZE - HALF), (NEW, SIZE)]
    assert left.kept == {}


@pytest.mark.parametrize(
    "stored",
    [Reply(status=201, headers={"Docker-Content-Digest": Digest.of(b"another")}), error(400, "DIGEST_INVALID")],
)
async def test_wrong_content_is_never_a_success(
    script: ScriptedRegistry, opened: Opening, left: Uploads, stored: Reply
):
    takes_uploads(script)
    script.always("GET", OLD, holds(HALF))
    script.always("PUT", OLD, stored)

    with pytest.raises(Corrupt):
        await write(opened, left, opening(b"x" + CONTENT[1:-1] + b"x"))

    # The last piece of the second attempt is held back, so its request is never complete.
    assert puts(script) == [(OLD, SIZE - HALF)]
    assert script.lines()[-2:] == [f"POST {UPLOADS}", f"DELETE {NEW}"]
    assert left.kept == {}


@pytest.mark.parametrize("wrong", [CONTENT + b"more", CONTENT[:-1]])
async def test_a_source_of_another_size_is_noticed_before_the_session_is_whole(
    script: ScriptedRegistry, opened: Opening, left: Uploads, wrong: bytes
):
    takes_uploads(script)
    script.on("GET", OLD, holds(HALF))
    script.always("PUT", OLD, Reply(status=201))

    with pytest.raises(Corrupt):
        await write(opened, left, opening(wrong))


async def test_the_offset_of_a_session_used_by_another_client_is_requested(
    script: ScriptedRegistry, opened: Opening, left: Uploads
):
    takes_uploads(script)
    script.on("GET", OLD, holds(HALF), holds(HALF + 1000))
    script.on("PUT", OLD, error(416, "RANGE_INVALID"), Reply(status=201))

    await write(opened, left)

    assert puts(script) == [(OLD, SIZE - HALF), (OLD, SIZE - HALF - 1000)]


async def test_a_session_without_progress_is_replaced(script: ScriptedRegistry, opened: Opening, left: Uploads):
    takes_uploads(script)
    script.always("GET", OLD, holds(HALF))
    script.always("PUT", OLD, Reply(drop=True))

    assert await write(opened, left, attempts=3) is BlobOutcome.UPLOADED

    assert puts(script) == [(OLD, SIZE - HALF)] * 2 + [(NEW, SIZE)]
    assert f"DELETE {OLD}" in script.lines()
    assert left.kept == {}


@pytest.mark.parametrize("is_up", [True, False])
async def test_a_session_with_progress_is_left_for_later_if_the_registry_fails(
    script: ScriptedRegistry, opened: Opening, left: Uploads, is_up: bool
):
    """So is a session whose state the registry does not report at the moment."""
    script.on("POST", UPLOADS, Reply(status=202, headers={"Location": NEW}))
    script.always("POST", UPLOADS, Reply(drop=True))
    script.always("DELETE", NEW, Reply(status=204))
    script.on("GET", OLD, holds(HALF))
    script.always("GET", OLD, holds(HALF + 1000) if is_up else Reply(drop=True))
    script.always("PUT", OLD, Reply(drop=True))

    with pytest.raises(Unavailable):
        await write(opened, left, attempts=2)

    assert f"DELETE {OLD}" not in script.lines()
    assert left.kept == {(APP, DIGEST): f"{script.url}{OLD}"}


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("is_stopping", [True, False])
async def test_a_cancelled_upload_leaves_its_session_only_where_the_process_stops(
    script: ScriptedRegistry, opened: Opening, uploads: Uploads, is_stopping: bool
):
    uploads.is_stopping = is_stopping
    takes_uploads(script)
    script.always("DELETE", NEW, Reply(status=204))
    writing = asyncio.create_task(write(opened, uploads, Source(going=asyncio.Event())))
    async with asyncio.timeout(60):
        await uploads.noted.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    assert uploads.kept == ({(APP, DIGEST): f"{script.url}{NEW}"} if is_stopping else {})
    assert (f"DELETE {NEW}" in script.lines()) != is_stopping


async def test_a_source_that_is_refused_fails_once_the_whole_of_it_was_asked_for(
    script: ScriptedRegistry, opened: Opening, left: Uploads
):
    takes_uploads(script)
    script.on("GET", OLD, holds(HALF))

    def refused(_offset: int) -> None:
        raise Refused("not for you")

    with pytest.raises(Refused):
        await write(opened, left, refused)  # type: ignore[arg-type]

    assert left.kept == {}


@pytest.mark.usefixtures("soon")
async def test_parts_resume_at_the_offset_and_the_latest_location_is_saved(
    script: ScriptedRegistry, opened: Opening, left: Uploads
):
    takes_uploads(script)
    script.on("GET", OLD, holds(HALF))
    step = SIZE // 4
    script.on("PATCH", OLD, Reply(status=202, headers={"Location": f"{OLD}?state=1"}))
    script.on("PATCH", OLD, Reply(status=202, headers={"Location": f"{OLD}?state=2"}, delay=10 * SOON))
    script.on("PUT", OLD, Reply(status=201, delay=10 * SOON))
    capabilities = MemoryCapabilities(Capabilities(whole_limit=1))

    await write(opened, left, capabilities=capabilities, chunk_size=step)

    spans = [asked.headers.get("Content-Range") for asked in script.asked if asked.method == "PATCH"]
    assert spans == [f"{HALF}-{HALF + step - 1}", f"{HALF + step}-{SIZE - 1}"]
    assert puts(script) == [(OLD, step), (OLD, step), (OLD, 0)]
    assert left.calls == ["load", "save", "save", "clear"]
