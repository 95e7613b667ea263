"""Clients that disconnect or stall during a request or its response."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tagferry.names import Digest, RepositoryName
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tests.support.images import blob, opening
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.serving import serving

APP = RepositoryName("org/app")
MIB = 1 << 20
CONTENT = os.urandom(MIB) * 64
DIGEST = Digest.of(CONTENT)
IDLE_SECONDS = 0.3


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A registry with a blob of 64 MiB and a short idle timeout."""
    store = await DiskStore.open(tmp_path)
    await store.write_blob(APP, blob(CONTENT), opening(CONTENT))
    async with serving(RegistryApp(store, OpenAuthorizer(), idle_seconds=IDLE_SECONDS)) as served:
        yield served
    await store.close()


@asynccontextmanager
async def sent(url: str, *head: str, body: bytes = b"") -> AsyncIterator[asyncio.StreamReader]:
    """A connection on which the beginning of a request was sent; closed at the end."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write("\r\n".join([*head, "Host: x", "", ""]).encode() + body)
        await writer.drain()
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def answered(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Return the status and error code of a response after which the connection is closed."""
    async with asyncio.timeout(30):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    return int(head.split()[1]), json.loads(body)["errors"][0]["code"]


def bytes_read() -> int:
    """Return the bytes that this process has read from files and sockets."""
    return int(Path("/proc/self/io").read_text("ascii").split()[1])


def is_open(name: str) -> bool:
    """Return whether this process has a file of this name open."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if entry.readlink().name == name:
                return True
        except FileNotFoundError:
            continue
    return False


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this system does not count what is read")
@pytest.mark.parametrize("fields", [[], ["Range: bytes=5-"]])
async def test_an_aborted_download_stops_reading(url: str, fields: list[str], caplog):
    before = bytes_read()
    for _ in range(5):
        async with sent(url, f"GET /v2/{APP}/blobs/{DIGEST} HTTP/1.1", *fields) as reader:
            assert (await reader.readline()).split()[1] in (b"200", b"206")
            assert is_open(DIGEST.encoded)
        async with asyncio.timeout(30):
            while is_open(DIGEST.encoded):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    # The socket buffers hold an unknown part, but far less than the whole blob.
    assert bytes_read() - before < 5 * 24 * MIB
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_completed_download_is_whole(url: str):
    async with aiohttp.ClientSession(url) as http, http.get(f"/v2/{APP}/blobs/{DIGEST}") as response:
        assert await response.read() == CONTENT


async def test_a_head_request_opens_nothing(url: str):
    async with aiohttp.ClientSession(url) as http, http.head(f"/v2/{APP}/blobs/{DIGEST}") as response:
        assert (response.status, response.content_length) == (200, len(CONTENT))
        assert not is_open(DIGEST.encoded)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_stalled_upload_gets_a_response_and_can_be_resumed(url: str, method: str, caplog):
    content = CONTENT[: 2 * MIB]
    digest = Digest.of(content)
    async with aiohttp.ClientSession(url) as http:
        async with http.post(f"/v2/{APP}/blobs/uploads/") as response:
            location = response.headers["Location"]
        query = f"?digest={digest}" if method == "PUT" else ""
        head = f"{method} {location}{query} HTTP/1.1", f"Content-Length: {len(content)}"
        async with sent(url, *head, body=content[:MIB]) as reader:
            assert await answered(reader) == (408, "BLOB_UPLOAD_INVALID")
        async with http.get(location) as response:
            assert (response.status, response.headers["Range"]) == (204, f"0-{MIB - 1}")
        async with http.put(f"{location}?digest={digest}", data=content[MIB:]) as response:
            assert response.status == 201, await response.text()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("PUT", f"/v2/{APP}/manifests/v1", "MANIFEST_INVALID"),
        ("POST", f"/v2/{APP}/blobs/uploads/?digest={DIGEST}", "BLOB_UPLOAD_INVALID"),
    ],
)
@pytest.mark.parametrize("framing", ["Content-Length: 500", "Transfer-Encoding: chunked"])
async def test_a_stalled_body_gets_a_registry_error(url, tmp_path, method, path, code, framing, caplog):
    async with sent(url, f"{method} {path} HTTP/1.1", framing) as reader:
        assert await answered(reader) == (408, code)
    assert not [path for path in tmp_path.rglob("_uploads/*") if path.is_file()]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
