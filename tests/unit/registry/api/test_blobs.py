"""Blobs over HTTP: reads, ranges, validators, deletion."""

import io

import pytest

from tagferry.names import Digest
from tests.unit.registry.conftest import Registry

CONTENT = bytes(range(256)) * 12_000  # three pieces


async def test_a_pulled_blob_equals_the_pushed_one(registry: Registry) -> None:
    digest = await registry.push_blob(CONTENT)
    response, body = await registry.get(f"/v2/org/app/blobs/{digest}")
    assert (response.status, body) == (200, CONTENT)
    assert response.headers["Docker-Content-Digest"] == digest
    assert response.headers["Docker-Distribution-API-Version"] == "registry/2.0"
    assert response.headers["Accept-Ranges"] == "bytes"


async def test_an_empty_blob_can_be_pushed_and_pulled(registry: Registry) -> None:
    digest = await registry.push_blob(b"")
    response, body = await registry.get(f"/v2/org/app/blobs/{digest}")
    assert (response.status, body) == (200, b"")


async def test_head_returns_the_size_without_the_content(registry: Registry) -> None:
    digest = await registry.push_blob(CONTENT)
    async with registry.http.head(f"/v2/org/app/blobs/{digest}") as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == str(len(CONTENT))
        assert await response.read() == b""


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-", 100, len(CONTENT) - 1),
        ("bytes=-5", len(CONTENT) - 5, len(CONTENT) - 1),
        ("bytes=1048570-1048580", 1048570, 1048580),
        ("bytes=5-99999999999", 5, len(CONTENT) - 1),
    ],
)
async def test_one_range_is_sent_as_partial_content(registry: Registry, text: str, first: int, last: int) -> None:
    digest = await registry.push_blob(CONTENT)
    response, body = await registry.get(f"/v2/org/app/blobs/{digest}", Range=text)
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"
    assert body == CONTENT[first : last + 1]


@pytest.mark.parametrize(
    "text", ["bytes=0-1,5-6", "bytes=9-3", "bytes=-", "lines=1-2", "nonsense", f"bytes={'9' * 5000}-"]
)
async def test_several_or_invalid_ranges_return_the_whole_blob(registry: Registry, text: str) -> None:
    digest = await registry.push_blob(CONTENT)
    response, body = await registry.get(f"/v2/org/app/blobs/{digest}", Range=text)
    assert (response.status, len(body)) == (200, len(CONTENT))


async def test_a_range_after_the_end_is_refused_with_the_size(registry: Registry) -> None:
    digest = await registry.push_blob(b"short")
    response, _ = await registry.get(f"/v2/org/app/blobs/{digest}", Range="bytes=5-9")
    assert response.status == 416
    assert response.headers["Content-Range"] == "bytes */5"


async def test_a_range_of_another_version_is_ignored(registry: Registry) -> None:
    digest = await registry.push_blob(b"short")
    response, body = await registry.get(f"/v2/org/app/blobs/{digest}", Range="bytes=0-0", If_Range='"other"')
    assert (response.status, body) == (200, b"short")


async def test_a_client_that_has_the_blob_gets_no_content(registry: Registry) -> None:
    digest = await registry.push_blob(b"short")
    response, body = await registry.get(f"/v2/org/app/blobs/{digest}", If_None_Match=f'"x", W/"{digest}"')
    assert (response.status, body) == (304, b"")


async def test_a_blob_is_not_visible_in_another_repository(registry: Registry) -> None:
    digest = await registry.push_blob(b"mine", "org/app")
    response, body = await registry.get(f"/v2/org/other/blobs/{digest}")
    assert response.status == 404
    assert b"BLOB_UNKNOWN" in body


async def test_a_deleted_blob_no_longer_exists(registry: Registry) -> None:
    digest = await registry.push_blob(b"short")
    async with registry.http.delete(f"/v2/org/app/blobs/{digest}") as response:
        assert response.status == 202
    async with registry.http.delete(f"/v2/org/app/blobs/{digest}") as response:
        assert response.status == 404
    assert not [path for path in (registry.root / "blobs").rglob("*") if path.is_file()]


async def test_a_blob_by_sha512_is_verified_too(registry: Registry) -> None:
    digest = Digest.of(CONTENT, "sha512")
    async with registry.http.post(f"/v2/org/app/blobs/uploads/?digest={digest}", data=io.BytesIO(CONTENT)) as response:
        assert response.status == 201
    response, body = await registry.get(f"/v2/org/app/blobs/{digest}")
    assert (response.status, body) == (200, CONTENT)
