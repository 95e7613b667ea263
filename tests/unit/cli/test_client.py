"""The client of the management API reports each failure as one error."""

import asyncio
import gzip
import ssl
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tagferry.cli.client import ManagementClient, StartedJobs
from tagferry.errors import Invalid, Refused, TagferryError, Unavailable
from tagferry.names import Namespace, Repository
from tests.support.certificates import loopback_certificate
from tests.support.processes import free_port
from tests.support.raw_server import Handler, listening
from tests.support.scripted_proxy import scripted_proxy
from tests.support.serving import serving

TEAM, APP = Namespace("team"), Repository("app")


STARTED = b'{"request_id": "abc", "jobs": [{"id": 7, "tag": "v1"}]}'


async def start(url: str, *, ca_file: Path | None = None) -> StartedJobs:
    async with ManagementClient(url, "AK", "SK", ca_file=ca_file) as client:
        return await client.start_sync(TEAM, APP, {"imageTag": ["v1"]})


def responding(body: bytes, *, size: int | None = None, encoding: str = "identity") -> Handler:
    """Respond once with this body and a Content-Length of `size`, or of the body."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        length = len(body) if size is None else size
        writer.write(
            f"HTTP/1.1 202 Accepted\r\nContent-Encoding: {encoding}\r\nContent-Length: {length}\r\n\r\n".encode()
        )
        writer.write(body)
        await writer.drain()

    return respond


async def failure(status: int, body: bytes, **headers: str) -> TagferryError:
    """Return the error that the client raises for this response."""

    async def answer(request: Any) -> Response:
        return Response(body, status_code=status, headers=headers)

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    async with serving(app) as url:
        with pytest.raises(TagferryError) as caught:
            await start(url)
    return caught.value


async def test_an_error_of_the_api_is_reported_with_its_message() -> None:
    body = b'{"error_code": "SVCSTG.SWR.4040010", "error_msg": "repository app does not exist", "request_id": "abc"}'
    error = await failure(404, body)
    assert isinstance(error, Refused)
    assert error.message == "repository app does not exist (SVCSTG.SWR.4040010, request abc)"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b""),
        (200, b"{}"),
        (200, b"[]"),
        (202, b'{"jobs": null}'),
        (202, b'{"jobs": [1]}'),
        (202, b'{"jobs": [{"id": "1"}]}'),
        (200, b"\xff\xfe"),
        (302, b""),
        (404, b"not found"),
        (404, b'{"detail": "Not Found"}'),
        (500, b"[]"),
        (502, b"<html>Bad Gateway</html>"),
    ],
)
async def test_an_unexpected_response_is_reported_with_a_hint(status: int, body: bytes) -> None:
    error = await failure(status, body, location="http://127.0.0.1:1/")
    assert isinstance(error, Unavailable)
    assert "check that the endpoint is a tagferry region" in error.message
    assert "http://127.0.0.1" in error.message


async def test_an_unreachable_address_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match="cannot reach") as caught:
        await start(url)
    assert caught.value.message.startswith(f"cannot reach {url}: ")


async def test_a_response_that_breaks_off_is_reported() -> None:
    async with listening(responding(STARTED, size=len(STARTED) + 1)) as url:
        with pytest.raises(Unavailable, match="the connection was closed by the other side") as caught:
            await start(url)
    assert caught.value.message.startswith(f"cannot reach {url}: ")


async def test_a_response_that_a_proxy_has_compressed_is_read() -> None:
    async with listening(responding(gzip.compress(STARTED), encoding="gzip")) as url:
        assert await start(url) == StartedJobs("abc", {7: "v1"})


async def test_only_authorities_of_the_system_and_of_the_ca_file_are_trusted(tmp_path: Path) -> None:
    certificate = loopback_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with listening(responding(STARTED), tls=context) as url:
        assert await start(url, ca_file=certificate) == StartedJobs("abc", {7: "v1"})
        with pytest.raises(Unavailable, match="unknown authority; set --ca-file to trust it") as caught:
            await start(url)
    assert caught.value.message.startswith(f"cannot reach {url}: certificate is ")


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "127.0.0.1:5004",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:5004/v2",
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "http://[::1",
        "http://user:password@127.0.0.1:5004",
        "http://127.0.0.1:5004?x",
        "http://127.0.0.1:5004/?x",
        "http://127.0.0.1:5004#x",
        "http://127.0.0.1 :5004",
    ],
)
def test_an_invalid_endpoint_is_rejected(endpoint: str) -> None:
    with pytest.raises(Invalid, match="endpoint must have the form"):
        ManagementClient(endpoint, "AK", "SK")


def test_an_endpoint_may_end_in_a_slash_or_be_an_ipv6_address() -> None:
    for endpoint in ("http://127.0.0.1:5004/", "https://registry.example.com", "http://[::1]:5004"):
        ManagementClient(endpoint, "AK", "SK")


def test_an_unreadable_ca_file_is_rejected(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for ca_file in (wrong, tmp_path / "missing.pem", tmp_path):
        with pytest.raises(Invalid, match="--ca-file must be a") as caught:
            ManagementClient("https://registry.example.com", "AK", "SK", ca_file=ca_file)
        assert str(ca_file) in caught.value.message


async def test_the_proxy_of_the_environment_is_used_with_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_proxy(login="u:p@ss") as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://u:p%40ss@{proxy.url.partition('://')[2]}")
        proxy.refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}"
        with pytest.raises(Unavailable, match="returned 403"):
            await start("http://registry.example.com")
        with pytest.raises(Unavailable, match="cannot reach"):
            await start(f"http://127.0.0.1:{free_port()}")
    assert [line.split(" ")[1] for line in proxy.asked] == [
        "http://registry.example.com/v2/manage/namespaces/team/repos/app/sync_images"
    ]
    assert proxy.logins == ["Basic dTpwQHNz"]
