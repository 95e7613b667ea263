"""The server's certificate is the one that its files hold, for every new connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from tagferry.errors import Invalid
from tagferry.settings import LimitSettings
from tagferry.web.server.serve import Listener, listening
from tests.support.certificates import Authority
from tests.support.processes import free_port

APP = Starlette(routes=[Route("/", lambda _request: PlainTextResponse("here"))])


class Client:
    """Connect to a server, and return the name in its certificate."""

    def __init__(self, ca_file: Path, port: int) -> None:
        self._ca_file = ca_file
        self._port = port

    async def sees(self, host: str = "", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> str:
        context = ssl.create_default_context(cafile=self._ca_file)
        context.maximum_version = version
        _, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=context, server_hostname=host or "127.0.0.1"
        )
        shown = writer.get_extra_info("peercert")
        writer.close()
        return str(next(value for part in shown["subject"] for name, value in part if name == "commonName"))


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def certificate(tmp_path: Path, authority: Authority) -> Path:
    (tmp_path / "v1").mkdir()
    (tmp_path / "live").symlink_to(tmp_path / "v1")
    return authority.issue(tmp_path / "live" / "pair.pem", "127.0.0.1", "r.example", name="first")


@pytest.fixture
async def client(tmp_path: Path, authority: Authority, certificate: Path) -> AsyncIterator[Client]:
    port = free_port()
    listener = Listener(APP, f"127.0.0.1:{port}", tls_certificate=certificate, tls_key=certificate)
    async with listening([listener]):
        await asyncio.sleep(0)
        yield Client(authority.write(tmp_path / "ca.pem"), port)


@pytest.mark.parametrize("host", ["", "r.example"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_renewed_certificate_is_served_without_a_restart(
    client: Client, authority: Authority, certificate: Path, host: str, version: ssl.TLSVersion
):
    assert await client.sees(host, version) == "first"
    with capture_logs() as logs:
        authority.issue(certificate, "127.0.0.1", "r.example", name="second")
        assert await client.sees(host, version) == "second"
        assert await client.sees(host, version) == "second"
    assert [entry["event"] for entry in logs] == ["loaded renewed TLS files"]


async def test_a_link_that_is_turned_elsewhere_is_followed(client: Client, authority: Authority, tmp_path: Path):
    (tmp_path / "v2").mkdir()
    authority.issue(tmp_path / "v2" / "pair.pem", "127.0.0.1", name="second")
    (tmp_path / "next").symlink_to(tmp_path / "v2")
    assert await client.sees() == "first"
    (tmp_path / "next").replace(tmp_path / "live")
    assert await client.sees() == "second"


async def test_files_that_are_half_written_leave_the_old_certificate(
    client: Client, authority: Authority, certificate: Path
):
    second = authority.issue(certificate.with_name("second.pem"), "127.0.0.1", name="second")
    with capture_logs() as logs:
        for step in (0, 100, -100):
            write(certificate, second, up_to=step)
            assert await client.sees() == "first"
    assert {entry["event"] for entry in logs} == {"kept the old TLS files"}
    second.rename(certificate)
    assert await client.sees() == "second"


def write(path: Path, source: Path, *, up_to: int) -> None:
    """Write a part of another file."""
    path.write_bytes(source.read_bytes()[:up_to])


async def test_a_server_whose_files_are_of_no_use_does_not_start(tmp_path: Path):
    listener = Listener(APP, f"127.0.0.1:{free_port()}", tls_certificate=tmp_path / "no", tls_key=tmp_path / "no")
    with pytest.raises(Invalid, match="tls_certificate must be a file that can be read"):
        async with listening([listener]):
            pass


async def test_a_reload_changes_the_files_of_new_connections_and_invalid_ones_change_nothing(
    authority: Authority, certificate: Path, tmp_path: Path
):
    other = authority.issue(tmp_path / "other.pem", "127.0.0.1", name="other")
    address = f"127.0.0.1:{free_port()}"

    def listener(file: Path) -> Listener:
        return Listener(APP, address, tls_certificate=file, tls_key=file)

    async with listening([listener(certificate)]) as listeners:
        client = Client(authority.write(tmp_path / "ca.pem"), int(address.rpartition(":")[2]))
        with pytest.raises(Invalid):
            listeners.prepare([listener(tmp_path / "missing.pem")], LimitSettings(), ())
        seen = [await client.sees()]
        for file in (other, certificate):
            listeners.prepare([listener(file)], LimitSettings(), ())()
            seen.append(await client.sees())

    assert seen == ["first", "other", "first"]
