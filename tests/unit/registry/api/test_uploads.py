"""Uploads over HTTP: whole, streamed, chunked, resumed, mounted, cancelled."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tagferry.names import Digest, RepositoryName
from tagferry.registry.api.access import Action
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.spool import CHUNK_BYTES
from tagferry.registry.storage.store import DiskStore
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.serving import serving
from tests.unit.registry.conftest import Registry
from tests.unit.web.front import until

CONTENT = b"0123456789" * 250_000


async def put(registry: Registry, location: str, digest: str, data: bytes = b"", **headers: str) -> tuple[int, bytes]:
    async with registry.http.put(f"{location}?digest={digest}", data=io.BytesIO(data), headers=headers) as response:
        return response.status, await response.read()


async def patch(registry: Registry, location: str, data: bytes, span: str | None = None) -> aiohttp.ClientResponse:
    headers = {"Content-Range": span} if span else {}
    async with registry.http.patch(location, data=io.BytesIO(data), headers=headers) as response:
        await response.read()
        return response


async def status(registry: Registry, location: str) -> tuple[int, str | None]:
    async with registry.http.get(location) as response:
        return response.status, response.headers.get("Range")


def stored(registry: Registry) -> int:
    """Return the size of all files of the registry; uploads are written in chunks."""
    total = 0
    for path in registry.root.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


async def test_an_upload_accepts_the_whole_blob_in_one_put(registry: Registry) -> None:
    location = await registry.start_upload()
    assert (await put(registry, location, Digest.of(CONTENT), CONTENT))[0] == 201
    assert (await registry.get(f"/v2/org/app/blobs/{Digest.of(CONTENT)}"))[1] == CONTENT
    assert (await status(registry, location))[0] == 404


async def test_a_stream_without_content_range_is_appended(registry: Registry) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(CONTENT), 70_000):
            yield CONTENT[start : start + 70_000]

    location = await registry.start_upload()
    async with registry.http.patch(location, data=stream()) as response:
        assert response.status == 202
        assert response.headers["Range"] == f"0-{len(CONTENT) - 1}"
        assert response.headers["Docker-Upload-UUID"]
    assert (await put(registry, location, Digest.of(CONTENT)))[0] == 201


async def test_chunks_in_order_make_a_blob(registry: Registry) -> None:
    location = await registry.start_upload()
    assert (await patch(registry, location, b"abc", "0-2")).status == 202
    assert (await patch(registry, location, b"de", "3-4")).headers["Range"] == "0-4"
    assert (await put(registry, location, Digest.of(b"abcdef"), b"f", **{"Content-Range": "5-5"}))[0] == 201


async def test_a_chunk_out_of_order_is_refused_with_the_received_range(registry: Registry) -> None:
    location = await registry.start_upload()
    await patch(registry, location, b"abc", "0-2")
    response = await patch(registry, location, b"zz", "7-8")
    assert (response.status, response.headers["Range"]) == (416, "0-2")
    assert await status(registry, location) == (204, "0-2")


async def test_a_chunk_whose_length_differs_from_its_range_is_discarded(registry: Registry) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"too long"

    location = await registry.start_upload()
    await patch(registry, location, b"abc", "0-2")
    async with registry.http.patch(location, data=stream(), headers={"Content-Range": "3-4"}) as response:
        assert response.status == 400
        assert "SIZE_INVALID" in await response.text()
    assert (await patch(registry, location, b"x", "3-9")).status == 400
    assert await status(registry, location) == (204, "0-2")
    assert (await put(registry, location, Digest.of(b"abcd"), b"d"))[0] == 201


async def test_an_invalid_content_range_is_refused(registry: Registry) -> None:
    location = await registry.start_upload()
    assert (await patch(registry, location, b"abc", "first-third")).status == 400


async def test_wrong_content_is_refused_and_deleted(registry: Registry) -> None:
    location = await registry.start_upload()
    code, body = await put(registry, location, Digest.of(b"right"), b"wrong")
    assert (code, b"DIGEST_INVALID" in body) == (400, True)
    assert (await registry.get(f"/v2/org/app/blobs/{Digest.of(b'right')}"))[0].status == 404
    assert (await status(registry, location))[0] == 404
    assert not [path for path in registry.root.rglob("*") if path.is_file()]


async def test_an_upload_cannot_be_finished_without_a_digest(registry: Registry) -> None:
    location = await registry.start_upload()
    async with registry.http.put(location, data=b"x") as response:
        assert response.status == 400
        assert "DIGEST_INVALID" in await response.text()
    assert (await put(registry, location, "md5:abc"))[0] == 400


async def test_a_cancelled_upload_is_unknown(registry: Registry) -> None:
    location = await registry.start_upload()
    async with registry.http.delete(location) as response:
        assert response.status == 204
    assert (await status(registry, location))[0] == 404
    assert (await patch(registry, location, b"x")).status == 404
    async with registry.http.delete(location) as response:
        assert "BLOB_UPLOAD_UNKNOWN" in await response.text()


async def test_an_upload_cancelled_while_receiving_becomes_unknown(registry: Registry) -> None:
    location = await registry.start_upload()
    cancelled = asyncio.Event()

    async def stream() -> AsyncIterator[bytes]:
        yield CONTENT
        await cancelled.wait()
        yield b"more"

    digest = Digest.of(CONTENT + b"more")
    sending = asyncio.create_task(registry.http.put(f"{location}?digest={digest}", data=stream()).__aenter__())
    await until(lambda: stored(registry) >= CHUNK_BYTES)
    async with registry.http.delete(location) as response:
        assert response.status == 204
    cancelled.set()
    async with await sending as response:
        assert response.status == 404
    assert (await registry.get(f"/v2/org/app/blobs/{digest}"))[0].status == 404


@pytest.mark.parametrize("identifier", ["nope", "..", "0" * 32])
async def test_an_upload_that_was_never_started_is_unknown(registry: Registry, identifier: str) -> None:
    with pytest.raises(Exception, match="upload"):
        await registry.store.uploads.size(RepositoryName("org/app"), identifier)


async def test_an_upload_belongs_to_its_repository(registry: Registry) -> None:
    location = await registry.start_upload("org/app")
    assert (await status(registry, location.replace("org/app", "org/other")))[0] == 404


async def test_an_upload_continues_after_the_store_is_reopened(registry: Registry) -> None:
    location = await registry.start_upload()
    await patch(registry, location, CONTENT[:1_500_000])
    again = await DiskStore.open(registry.root)
    async with serving(RegistryApp(again, OpenAuthorizer())) as url, aiohttp.ClientSession(url) as http:
        async with http.get(location) as response:
            assert response.headers["Range"] == "0-1499999"
        span = {"Content-Range": f"1500000-{len(CONTENT) - 1}"}
        async with http.patch(location, data=io.BytesIO(CONTENT[1_500_000:]), headers=span) as response:
            assert response.status == 202
        async with http.put(f"{location}?digest={Digest.of(CONTENT)}") as response:
            assert response.status == 201
    await again.close()


async def test_an_interrupted_upload_keeps_its_content_and_can_be_resumed(registry: Registry) -> None:
    location = await registry.start_upload()
    host, port = registry.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: me\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
    writer.write(head.encode() + CONTENT[:1_200_000])
    await writer.drain()
    await until(lambda: stored(registry) >= CHUNK_BYTES)
    writer.close()
    await writer.wait_closed()
    code, kept = await status(registry, location)
    assert (code, kept is not None) == (204, True)
    received = int(str(kept).removeprefix("0-")) + 1
    # Data that the server had not read when the connection ended may be lost.
    assert CHUNK_BYTES <= received <= 1_200_000
    response = await patch(registry, location, CONTENT[received:], f"{received}-{len(CONTENT) - 1}")
    assert response.status == 202
    assert (await put(registry, location, Digest.of(CONTENT)))[0] == 201


async def test_an_interrupted_single_post_leaves_nothing(registry: Registry) -> None:
    host, port = registry.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    target = f"/v2/org/app/blobs/uploads/?digest={Digest.of(CONTENT)}"
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: me\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
    writer.write(head.encode() + CONTENT[:-1])
    await writer.drain()
    await until(lambda: stored(registry) >= CHUNK_BYTES)
    writer.close()
    await writer.wait_closed()
    await until(lambda: not any(path.is_file() for path in registry.root.rglob("*")))


async def mount(registry: Registry, digest: str, source: str | None) -> int:
    query = f"mount={digest}" + (f"&from={source}" if source else "")
    async with registry.http.post(f"/v2/org/target/blobs/uploads/?{query}") as response:
        if response.status == 202:
            assert "/blobs/uploads/" in response.headers["Location"]
        return response.status


async def test_a_mounted_blob_is_the_same_file(registry: Registry) -> None:
    digest = await registry.push_blob(b"shared", "org/app")
    assert await mount(registry, digest, "org/app") == 201
    assert (await registry.get(f"/v2/org/target/blobs/{digest}"))[1] == b"shared"
    pooled = registry.root / "blobs" / "sha256" / digest.encoded[:2] / digest.encoded
    assert pooled.stat().st_nlink == 3


async def test_a_failed_mount_becomes_an_upload(registry: Registry) -> None:
    digest = await registry.push_blob(b"shared", "org/app")
    assert await mount(registry, digest, None) == 202
    assert await mount(registry, digest, "org/absent") == 202
    assert await mount(registry, digest, "NOT/a/name") == 202
    assert await mount(registry, Digest.of(b"absent"), "org/app") == 202


async def test_an_unauthorized_mount_becomes_an_upload(registry: Registry) -> None:
    digest = await registry.push_blob(b"shared", "org/app")
    registry.authorizer.denied.add((Action.PULL, "org/app"))
    assert await mount(registry, digest, "org/app") == 202
    registry.authorizer.denied.clear()
    assert (await registry.get(f"/v2/org/target/blobs/{digest}"))[0].status == 404


async def test_concurrent_pushes_of_a_blob_share_one_file(registry: Registry) -> None:
    digests = await asyncio.gather(*(registry.push_blob(CONTENT, f"org/app{number}") for number in range(8)))
    pooled = registry.root / "blobs" / "sha256" / digests[0].encoded[:2] / digests[0].encoded
    assert pooled.stat().st_nlink == 9


@pytest.mark.parametrize("content", [b"small", CONTENT])
async def test_an_upload_that_is_cancelled_while_it_is_stored_is_no_blob(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    commit = BlobFiles.commit

    def cancelled(self: BlobFiles, spooled: Path, *given: Any) -> None:
        spooled.unlink()
        commit(self, spooled, *given)

    location, digest = await registry.start_upload(), Digest.of(content)
    with monkeypatch.context() as patched:
        patched.setattr(BlobFiles, "commit", cancelled)
        code, body = await put(registry, location, digest, content)
    assert (code, b"BLOB_UPLOAD_UNKNOWN" in body) == (404, True)
    assert (await registry.get(f"/v2/org/app/blobs/{digest}"))[0].status == 404

    assert (await put(registry, await registry.start_upload(), digest, content))[0] == 201
