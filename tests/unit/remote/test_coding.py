"""Content that is compressed in transit, though not requested so, is decoded within its limit."""

import gzip
import random
import zlib

import pytest

from tagferry import bounds
from tagferry.errors import Corrupt, Refused, TooLarge, Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.remote import RemoteStore
from tagferry.streams import Spliceable
from tests.support.images import blob, image, read
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, said
from tests.unit.remote.conftest import Opening

APP, LATEST = RepositoryName("team/app"), Tag("latest")
SAMPLE = image()
RAW = SAMPLE.manifest.raw
CONTENT = random.Random(17).randbytes(700_000) + bytes(700_000)
BLOB = f"/v2/team/app/blobs/{blob(CONTENT).digest}"


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def coded(content: bytes, coding: str, **terms) -> Reply:
    return Reply(
        body=content, headers={"Content-Type": SAMPLE.manifest.media_type, "Content-Encoding": coding}, **terms
    )


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(RAW)),
        ("x-gzip", gzip.compress(RAW)),
        ("GZIP", gzip.compress(RAW[:50]) + gzip.compress(RAW[50:]) + bytes(3)),
        ("deflate", zlib.compress(RAW)),
        ("deflate", deflated(RAW)),
        ("deflate, gzip", gzip.compress(zlib.compress(RAW))),
        ("identity, gzip", gzip.compress(RAW)),
        ("gzip", RAW),
        ("identity", RAW),
        ("aws-chunked", RAW),
        ("", RAW),
    ],
)
async def test_a_manifest_that_was_compressed_is_read(
    script: ScriptedRegistry, store: RemoteStore, coding: str, body: bytes
):
    script.on("GET", "/v2/team/app/manifests/latest", coded(body, coding))
    assert (await store.get_manifest(APP, LATEST)).raw == RAW


async def test_a_list_that_was_compressed_is_one(script: ScriptedRegistry, store: RemoteStore):
    body = gzip.compress(b'{"name": "team/app", "tags": ["v1", "v2"]}')
    script.on("GET", "/v2/team/app/tags/list", Reply(body=body, headers={"Content-Encoding": "gzip"}))
    assert [tag async for tag in store.list_tags(APP)] == ["v1", "v2"]


@pytest.mark.parametrize("layers", [1, 2])
async def test_a_decompression_bomb_is_not_fully_decoded(script: ScriptedRegistry, store: RemoteStore, layers: int):
    bomb = bytes(bounds.MANIFEST_BYTES * 20)
    for _ in range(layers):
        bomb = gzip.compress(bomb)
    script.on("GET", "/v2/team/app/manifests/latest", coded(bomb, ", ".join(["gzip"] * layers)))
    with pytest.raises(TooLarge, match=f"at most {bounds.MANIFEST_BYTES} bytes"):
        await store.get_manifest(APP, LATEST)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "gzip, gzip, gzip, gzip, gzip"])
async def test_an_unknown_coding_is_refused_at_once(script: ScriptedRegistry, store: RemoteStore, coding: str):
    script.always("GET", "/v2/team/app/manifests/latest", coded(RAW, coding))
    with pytest.raises(Unavailable, match="content coding"):
        await store.get_manifest(APP, LATEST)
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "body", [gzip.compress(RAW)[:-12], gzip.compress(RAW)[:20] + bytes(40)], ids=["cut", "overwritten"]
)
async def test_damaged_content_is_asked_for_again(script: ScriptedRegistry, store: RemoteStore, body: bytes):
    script.on("GET", "/v2/team/app/manifests/latest", coded(body, "gzip"), coded(gzip.compress(RAW), "gzip"))
    assert (await store.get_manifest(APP, LATEST)).raw == RAW


async def test_the_length_of_compressed_content_is_not_that_of_the_manifest(
    script: ScriptedRegistry, store: RemoteStore
):
    packed = gzip.compress(RAW)
    headers = {
        "Content-Type": SAMPLE.manifest.media_type,
        "Content-Encoding": "gzip",
        "Content-Length": str(len(packed)),
        "Docker-Content-Digest": SAMPLE.digest,
    }
    script.always("HEAD", "/v2/team/app/manifests/latest", Reply(headers=headers))
    script.always("GET", "/v2/team/app/manifests/*", Reply(body=packed, headers=headers))
    assert await store.head_manifest(APP, LATEST) == SAMPLE.manifest.descriptor


async def test_a_blob_that_is_compressed_in_transit_is_decoded(script: ScriptedRegistry, store: RemoteStore):
    script.on("GET", BLOB, coded(gzip.compress(CONTENT), "gzip"))
    async with store.read_blob(APP, blob(CONTENT)) as chunks:
        # The bytes on the wire are not the content, so they cannot be spliced.
        assert not isinstance(chunks, Spliceable)
        assert b"".join([chunk async for chunk in chunks]) == CONTENT


async def test_a_compressed_blob_that_is_labelled_so_is_not_unpacked(script: ScriptedRegistry, store: RemoteStore):
    layer = gzip.compress(CONTENT)
    script.on("GET", f"/v2/team/app/blobs/{blob(layer).digest}", coded(layer, "gzip"))
    assert await read(store, APP, blob(layer)) == layer


async def test_a_truncated_compressed_blob_is_requested_from_its_beginning(
    script: ScriptedRegistry, store: RemoteStore
):
    packed = gzip.compress(CONTENT)

    def ranged(asked: Asked) -> Reply:
        wanted = asked.headers.get("Range")
        if wanted is None:
            return coded(packed, "gzip")
        headers = {"Content-Encoding": "gzip", "Content-Range": f"bytes 5-9/{len(packed)}"}
        return Reply(status=206, body=packed[5:10], headers=headers)

    script.on("GET", BLOB, coded(packed, "gzip", truncate_to=len(packed) // 2), ranged, ranged)
    assert await read(store, APP, blob(CONTENT)) == CONTENT
    assert ["Range" in asked.headers for asked in script.asked] == [False, True, False]


async def test_a_blob_of_which_too_much_is_unpacked_is_refused(script: ScriptedRegistry, opened: Opening):
    script.always("GET", BLOB, coded(gzip.compress(CONTENT + bytes(10_000_000)), "gzip"))
    with pytest.raises(Corrupt, match=r"more than \d+ bytes"):
        await read(opened(attempts=1), APP, blob(CONTENT))


async def test_the_reason_of_a_refusal_may_be_compressed(script: ScriptedRegistry, opened: Opening):
    body = gzip.compress(said({"errors": [{"code": "DENIED", "message": "not you"}]}).body)
    script.always("GET", "/v2/team/app/manifests/latest", coded(body, "gzip", status=403))
    with pytest.raises(Refused, match="answered 403 DENIED: not you"):
        await opened(attempts=1).get_manifest(APP, LATEST)


async def test_an_error_with_a_broken_coding_is_reported_by_its_status(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/v2/team/app/manifests/latest", coded(b"\x1f\x8bnonsense", "gzip", status=503))
    with pytest.raises(Unavailable, match="answered 503 when asked"):
        await opened(attempts=1).get_manifest(APP, LATEST)
