"""Whatever a client asks the registry, it is answered in the registry's form, and never with a fault of the server."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tagferry.names import Digest, Tag
from tests.support.deployment import NORTH, Deployment, deployed, name_in
from tests.support.images import image, push

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = image()
DIGEST = Digest.of(b"nothing")
QUOTES = '"' * 4000
PATHS = [
    "/v2/",
    "/v2/_catalog",
    "/v2/team/app/tags/list",
    "/v2/team/app/manifests/v1",
    f"/v2/team/app/blobs/{next(iter(IMAGE.blobs))}",
    f"/v2/team/app/referrers/{IMAGE.digest}",
    "/v2/team/app/blobs/uploads/",
    f"/v2/team/app/blobs/uploads/{'0' * 32}",
]
ODDITIES = [
    ("", ""),
    *(
        (f"?{query}", "")
        for query in (
            "n=-1",
            f"n={'9' * 5000}",
            "n=%ff&last=%ff%00",
            f"last={'a' * 5000}",
            "digest=&n=1&n=2",
            "digest=md5:0",
            f"digest={DIGEST}",
            f"mount={DIGEST}&from={'a/' * 400}",
            f"mount={DIGEST}&from=%00",
            "&".join(f"tag=t{number}" for number in range(300)),
            "artifactType=%ed%a0%80",
            "a" * 5000,
        )
    ),
    *(
        ("", header)
        for header in (
            f"Range: bytes={','.join(['0-0'] * 3000)}",
            "Range: bytes=-",
            f"Range: bytes={'9' * 30}-",
            f"If-None-Match: {QUOTES}",
            "Content-Range: 5-1",
            f"Content-Range: bytes 0-{'9' * 30}/*",
            f"Content-Type: {'a' * 5000}",
            "Content-Type: \xff\xfe",
            f"Accept: {'a/b,' * 1000}",
        )
    ),
]
ODD_PATHS = [
    f"/v2/{'a/' * 2000}manifests/v1",
    f"/v2/{'a' * 5000}/tags/list",
    f"/v2/{'manifests/x/' * 500}",
    f"/v2/team/app/manifests/{'x' * 5000}",
    "/v2/%00/manifests/x",
    "/v2/team/app/manifests/%ed%a0%80",
    "/v2/team/app/manifests/%2e%2e%2f",
    "/v2/team/app/blobs/..",
    "/v2/team/app/blobs/uploads/%0d%0a",
    "/v2/team/app/%0amanifests/v1",
    "/v2//manifests/",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("odd")) as deployment:
        await push(deployment.store(NORTH), name_in("team"), IMAGE, Tag("v1"))
        yield deployment


async def answered(ferry: Deployment, method: str, target: str, header: str) -> tuple[int, bytes]:
    """The status and body that a request over a connection of its own gets."""
    host = ferry.urls[NORTH].removeprefix("http://")
    login = base64.b64encode(f"{ferry.admin.name}:{ferry.admin.password}".encode()).decode()
    body = b'{"a": 1}' if method in ("PUT", "POST", "PATCH") else b""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", f"Authorization: Basic {login}"]
    lines += [header] if header else []
    lines += [f"Content-Length: {len(body)}"] if body else []
    reader, writer = await asyncio.open_connection(*host.split(":"))
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        async with asyncio.timeout(60):
            answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), content


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"])
async def test_an_odd_request_is_answered_in_the_registrys_form(ferry: Deployment, method: str):
    cases = [(f"{path}{query}", header) for path in PATHS for query, header in ODDITIES]
    cases += [(path, "") for path in ODD_PATHS]
    for target, header in cases:
        status, content = await answered(ferry, method, target, header)
        case = (target[:100], header[:100], status, content[:100])
        assert 200 <= status < 500, case
        if status >= 400 and method != "HEAD":
            (error,) = json.loads(content)["errors"]
            assert error["code"], case
            assert len(error["message"]) < 1000, case
