"""Blobs arrive complete over broken connections, and large ones with a high latency in several concurrent ranges."""

import random
import re

import pytest

from tagferry.errors import Corrupt, NotFound, Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.oci.model import Descriptor
from tagferry.remote import RemoteStore
from tagferry.remote.blobs.download import CONCURRENT_PIECES, PIECE
from tagferry.remote.capabilities import RANGES
from tests.support.images import blob, read
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_capabilities import MemoryCapabilities

APP = RepositoryName("team/app")
CONTENT = random.Random(1).randbytes(1_000_000)


@pytest.fixture(autouse=True)
def near_registries() -> None:
    """Let registries have the latency that they have."""


def path(content: bytes) -> str:
    return f"/v2/team/app/blobs/{Digest.of(content)}"


def serving_ranges(content: bytes, *, broken_after: int | None = None, delay: float = 0.0):
    """A registry that supports ranges, whose responses break off after this many bytes."""

    def answer(asked: Asked) -> Reply:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("Range", ""))
        if match is None:
            return Reply(body=content, truncate_to=broken_after, delay=delay)
        start, end = int(match[1]), int(match[2]) if match[2] else len(content) - 1
        body = content[start : end + 1]
        broken = broken_after if broken_after is not None and broken_after < len(body) else None
        headers = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        return Reply(status=206, headers=headers, body=body, truncate_to=broken, delay=delay)

    return answer


async def test_a_broken_download_resumes_at_its_position(script: ScriptedRegistry, opened: Opening):
    script.always("GET", path(CONTENT), serving_ranges(CONTENT, broken_after=100_000))

    assert await read(opened(attempts=2), APP, blob(CONTENT)) == CONTENT

    asked = [request.headers.get("Range") for request in script.asked]
    assert asked == [None, *(f"bytes={start}-" for start in range(100_000, 1_000_000, 100_000))]


async def test_no_progress_at_all_uses_up_the_attempts(script: ScriptedRegistry, opened: Opening):
    script.always("GET", path(CONTENT), serving_ranges(CONTENT, broken_after=0))

    with pytest.raises(Unavailable):
        await read(opened(attempts=3), APP, blob(CONTENT))

    assert len(script.asked) == 3


async def test_a_whole_blob_is_requested_if_ranges_are_refused(script: ScriptedRegistry, opened: Opening):
    refused = error(416, "BLOB_UNKNOWN", "We don't understand your Range")
    whole = Reply(body=CONTENT)
    script.on("GET", path(CONTENT), Reply(body=CONTENT, truncate_to=400_000), refused, whole)
    assert await read(opened(), APP, blob(CONTENT)) == CONTENT

    script.on("GET", path(CONTENT), refused, whole)
    assert await read(opened(), APP, blob(CONTENT), offset=999_000) == CONTENT[999_000:]


async def test_a_registry_without_ranges_sends_again_what_is_then_skipped(script: ScriptedRegistry, opened: Opening):
    script.on("GET", path(CONTENT), Reply(body=CONTENT, truncate_to=400_000), Reply(body=CONTENT))

    assert await read(opened(attempts=2), APP, blob(CONTENT)) == CONTENT


async def test_a_range_with_another_start_is_rejected(script: ScriptedRegistry, opened: Opening):
    wrong = Reply(status=206, headers={"Content-Range": "bytes 5-9/1000000"}, body=CONTENT[5:10])
    script.on("GET", path(CONTENT), Reply(body=CONTENT, truncate_to=400_000))
    script.always("GET", path(CONTENT), wrong)

    with pytest.raises(Unavailable, match="sent bytes 5-9/1000000 instead of bytes 400000-"):
        await read(opened(attempts=2), APP, blob(CONTENT))


async def test_more_bytes_than_were_promised_are_corrupt(script: ScriptedRegistry, opened: Opening):
    content = b"x" * 1000
    unknown_length = Reply(raw=b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + content + b"y")
    script.always("GET", path(content), unknown_length)

    with pytest.raises(Corrupt, match="more than 1000 bytes"):
        await read(opened(), APP, blob(content))


@pytest.mark.parametrize("held", [999, 1001])
@pytest.mark.parametrize("offset", [0, 500])
async def test_a_size_that_differs_from_the_manifest_s_fails_without_a_retry(
    script: ScriptedRegistry, opened: Opening, held: int, offset: int
):
    content = b"x" * 1000
    script.always("GET", path(content), serving_ranges(b"x" * held))

    with pytest.raises(Corrupt, match=f"with {held} bytes, but its manifest states 1000"):
        await read(opened(attempts=3), APP, blob(content), offset=offset)

    assert len(script.asked) == 1


LARGE = random.Random(2).randbytes(PIECE) * 10 + b"the end"


async def test_a_large_blob_with_high_latency_is_read_in_ranges_and_arrives_in_order(
    script: ScriptedRegistry, opened: Opening
):
    script.always("GET", path(LARGE), serving_ranges(LARGE, delay=0.04))
    script.always("HEAD", "/v2/team/app/*", Reply(delay=0.04, headers={"Content-Length": "0"}))
    store = opened()
    await store.stat_blob(APP, Digest.of(b""))

    assert await read(store, APP, blob(LARGE)) == LARGE

    ranges = [request.headers["Range"] for request in script.asked if request.method == "GET"]
    assert len(ranges) == len(set(ranges)) == 11
    assert f"bytes=0-{PIECE - 1}" in ranges


async def test_a_large_blob_with_low_latency_is_read_in_one_piece(script: ScriptedRegistry, opened: Opening):
    script.always("GET", path(LARGE), serving_ranges(LARGE))
    script.always("HEAD", "/v2/team/app/*", Reply(headers={"Content-Length": "0"}))
    store = opened()
    for _ in range(5):
        await store.stat_blob(APP, Digest.of(b""))

    assert await read(store, APP, blob(LARGE)) == LARGE

    assert [request.headers.get("Range") for request in script.asked if request.method == "GET"] == [None]


async def test_ranges_are_fetched_no_further_ahead_than_their_number_allows(script: ScriptedRegistry, opened: Opening):
    content = random.Random(3).randbytes(PIECE) * 20
    script.always("GET", path(content), serving_ranges(content, delay=0.04))
    script.always("HEAD", "/v2/team/app/*", Reply(delay=0.04, headers={"Content-Length": "0"}))
    store = opened()
    await store.stat_blob(APP, Digest.of(b""))

    async with store.read_blob(APP, blob(content)) as chunks:
        await anext(chunks)
        asked = sum(request.method == "GET" for request in script.asked)
        assert asked <= CONCURRENT_PIECES + 1

    # The abandoned read has released its memory, so the next blob is read to its end.
    assert await read(store, APP, blob(content)) == content


async def test_a_broken_range_resumes_at_its_position(script: ScriptedRegistry, opened: Opening):
    script.always("GET", path(LARGE), serving_ranges(LARGE, broken_after=PIECE // 2 + 1, delay=0.04))
    script.always("HEAD", "/v2/team/app/*", Reply(delay=0.04, headers={"Content-Length": "0"}))
    store = opened(attempts=2)
    await store.stat_blob(APP, Digest.of(b""))

    assert await read(store, APP, blob(LARGE)) == LARGE


async def test_a_missing_large_blob_with_high_latency_is_not_found(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/v2/team/app/*", Reply(status=404, delay=0.04))
    script.always("HEAD", "/v2/team/app/*", Reply(delay=0.04, headers={"Content-Length": "0"}))
    store = opened()
    await store.stat_blob(APP, Digest.of(b""))
    missing = Descriptor(media_type="application/octet-stream", digest=Digest.of(b"?"), size=PIECE * 4)

    with pytest.raises(NotFound):
        await read(store, APP, missing)


async def far(script: ScriptedRegistry, store: RemoteStore) -> None:
    """Make the store measure a high latency."""
    script.always("HEAD", "/v2/team/app/*", Reply(delay=0.04, headers={"Content-Length": "0"}))
    await store.stat_blob(APP, Digest.of(b""))
    script.asked.clear()


def ranges(script: ScriptedRegistry) -> list[str | None]:
    return [request.headers.get("Range") for request in script.asked if request.method == "GET"]


async def test_a_server_that_ignores_ranges_sends_a_large_blob_once_and_is_asked_for_no_range_again(
    script: ScriptedRegistry, opened: Opening
):
    capabilities = MemoryCapabilities()
    script.always("GET", path(LARGE), Reply(body=LARGE, delay=0.04))
    for asked in (f"bytes=0-{PIECE - 1}", None):
        store = opened(capabilities=capabilities)
        await far(script, store)
        assert await read(store, APP, blob(LARGE)) == LARGE
        assert ranges(script) == [asked]

    assert "answered 200 to a range and sent everything" in capabilities.stored.unavailable[RANGES]


async def test_a_server_that_ignores_ranges_is_read_on_from_an_offset(script: ScriptedRegistry, opened: Opening):
    script.always("GET", path(LARGE), Reply(body=LARGE, delay=0.04))
    store = opened()
    await far(script, store)

    assert await read(store, APP, blob(LARGE), offset=PIECE + 5) == LARGE[PIECE + 5 :]

    assert len(ranges(script)) == 1


async def test_a_successful_range_makes_ranges_available_again(script: ScriptedRegistry, opened: Opening):
    capabilities = MemoryCapabilities()
    script.on("GET", path(LARGE), Reply(body=LARGE))
    script.always("GET", path(LARGE), serving_ranges(LARGE))
    store = opened(capabilities=capabilities)
    await far(script, store)
    await read(store, APP, blob(LARGE))
    assert RANGES in capabilities.stored.unavailable

    assert await read(store, APP, blob(LARGE), offset=PIECE) == LARGE[PIECE:]

    assert RANGES not in capabilities.stored.unavailable


@pytest.mark.parametrize("pieces", [1, 3, 9])
async def test_a_server_that_stops_giving_ranges_in_the_middle_is_read_on_in_one_stream(
    script: ScriptedRegistry, opened: Opening, pieces: int
):
    given = serving_ranges(LARGE, delay=0.04)
    script.on("GET", path(LARGE), *[given] * pieces)
    script.always("GET", path(LARGE), Reply(body=LARGE))
    store = opened()
    await far(script, store)

    assert await read(store, APP, blob(LARGE)) == LARGE

    assert len(ranges(script)) <= pieces + CONCURRENT_PIECES + 1
    # The memory of the ranges was released.
    assert await read(store, APP, blob(LARGE)) == LARGE


ODD = {
    "another range": Reply(status=206, headers={"Content-Range": f"bytes 9-99/{len(LARGE)}"}, body=LARGE[9:100]),
    "a range that cannot be read": Reply(status=206, headers={"Content-Range": "lines 1-2"}, body=b"x"),
    "several ranges": Reply(status=206, headers={"Content-Type": "multipart/byteranges; boundary=x"}, body=b"--x"),
    "416": Reply(status=416, headers={"Content-Range": f"bytes */{len(LARGE)}"}),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("offset", [0, 7, PIECE * 9])
async def test_an_unexpected_response_to_a_range_leads_to_a_full_request(
    script: ScriptedRegistry, opened: Opening, odd: Reply, offset: int
):
    def answer(asked: Asked) -> Reply:
        return odd if "Range" in asked.headers else Reply(body=LARGE)

    script.always("GET", path(LARGE), answer)
    store = opened()
    await far(script, store)

    assert await read(store, APP, blob(LARGE), offset=offset) == LARGE[offset:]

    assert len(ranges(script)) == 2


async def test_a_range_that_starts_too_early_is_skipped_to_its_position(script: ScriptedRegistry, opened: Opening):
    early = Reply(status=206, headers={"Content-Range": "bytes 399000-999999/1000000"}, body=CONTENT[399_000:])
    script.on("GET", path(CONTENT), Reply(body=CONTENT, truncate_to=400_000), early)

    assert await read(opened(attempts=2), APP, blob(CONTENT)) == CONTENT


async def test_repeated_breaks_without_ranges_fail(script: ScriptedRegistry, opened: Opening):
    broken = [Reply(body=CONTENT, truncate_to=size) for size in range(100_000, 1_000_000, 100_000)]
    script.on("GET", path(CONTENT), *broken)
    script.always("GET", path(CONTENT), Reply(body=CONTENT))

    with pytest.raises(Unavailable):
        await read(opened(attempts=3), APP, blob(CONTENT))

    assert len(script.asked) == 3
