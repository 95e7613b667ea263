"""Trusted authorities, client certificates and who sees them, and renewed files."""

import asyncio
import os
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tagferry.errors import Invalid, TagferryError, Unavailable, Untrusted
from tagferry.names import RepositoryName
from tagferry.remote import Credentials, Endpoint, RemoteStore, Retry
from tests.support.certificates import Authority, encrypted_key, validity
from tests.support.images import blob, read
from tests.support.scripted_proxy import scripted_proxy
from tests.support.scripted_registry import Reply, ScriptedRegistry, said, scripted_registry

APP = RepositoryName("team/app")
BLOB = f"/v2/team/app/blobs/{blob(b'x').digest}"
CLOSE = {"Connection": "close"}


@pytest.fixture
def authority() -> Authority:
    return Authority("ours")


@asynccontextmanager
async def encrypted(
    certificate: Path, *, clients: Path | None = None, required: bool = True
) -> AsyncIterator[ScriptedRegistry]:
    """A registry over TLS; with an authority, it requires client certificates."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.load_cert_chain(certificate)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    async with scripted_registry(tls=context) as script:
        script.always("GET", "/v2/", Reply(headers=CLOSE))
        yield script


@asynccontextmanager
async def store_at(script: ScriptedRegistry, **terms) -> AsyncIterator[RemoteStore]:
    store = RemoteStore(Endpoint(**{"name": "r", "url": script.url, **terms}), retry=Retry(attempts=1))
    try:
        yield store
    finally:
        await store.close()


async def test_the_named_authority_is_trusted_in_addition_to_the_system_s(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    system = Authority("system")
    monkeypatch.setenv("SSL_CERT_FILE", str(system.write(tmp_path / "system.pem")))
    ours = authority.write(tmp_path / "ours.pem")
    async with (
        encrypted(authority.issue(tmp_path / "registry.pem", "127.0.0.1")) as script,
        encrypted(system.issue(tmp_path / "storage.pem", "127.0.0.1")) as storage,
    ):
        script.always("GET", BLOB, Reply(status=307, headers={"Location": f"{storage.url}/blob"}))
        storage.always("GET", "/blob", Reply(body=b"x"))
        async with store_at(script, ca_file=ours) as store:
            assert await read(store, APP, blob(b"x")) == b"x"
        async with store_at(script, ca_file=ours, ca_only=True) as store:
            await store.ping()
            with pytest.raises(Unavailable, match="unknown authority; set ca_file"):
                await read(store, APP, blob(b"x"))


@pytest.mark.parametrize(
    ("hosts", "expired", "message"),
    [
        (("127.0.0.1",), True, "certificate has expired (notAfter {date})"),
        (("127.0.0.2",), False, "certificate is for another IP address"),
        (("registry.example.com",), False, "certificate is for another IP address"),
    ],
)
async def test_the_reason_for_a_refused_certificate_is_reported(
    tmp_path: Path, authority: Authority, hosts: tuple[str, ...], expired: bool, message: str
):
    leaf = authority.issue(tmp_path / "leaf.pem", *hosts, expired=expired)
    async with encrypted(leaf) as script, store_at(script, ca_file=authority.write(tmp_path / "ca.pem")) as store:
        with pytest.raises(Unavailable) as failure:
            await store.ping()
    message = message.format(date=f"{validity(leaf)[1]:%Y-%m-%d}")
    assert failure.value.message.endswith(f": cannot connect to {script.url}: {message}")
    assert isinstance(failure.value, Untrusted)


async def test_the_start_of_a_certificate_s_validity_is_reported(tmp_path: Path, authority: Authority):
    leaf = authority.issue(tmp_path / "leaf.pem", "127.0.0.1", early=True)
    async with encrypted(leaf) as script, store_at(script, ca_file=authority.write(tmp_path / "ca.pem")) as store:
        with pytest.raises(Unavailable) as failure:
            await store.ping()
    assert failure.value.message.endswith(f"certificate is not valid yet (notBefore {validity(leaf)[0]:%Y-%m-%d})")


async def test_the_expiry_of_a_certificate_behind_or_of_a_proxy_is_reported(tmp_path: Path, authority: Authority):
    expired = authority.issue(tmp_path / "expired.pem", "127.0.0.1", expired=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(expired)
    ca_file = authority.write(tmp_path / "ca.pem")
    async with encrypted(expired) as script, scripted_proxy() as plain, scripted_proxy(tls=context) as secure:
        for proxy, message in (
            (plain, f"cannot connect to {script.url} through proxy {plain.url}: certificate has expired (notAfter 20"),
            (secure, f"cannot connect to proxy {secure.url}: certificate has expired (notAfter 20"),
        ):
            async with store_at(script, ca_file=ca_file, proxy=proxy.url) as store:
                with pytest.raises(Unavailable, match=re.escape(message)):
                    await store.ping()
    assert script.asked == []


async def test_a_certificate_that_cannot_be_read_again_is_reported_without_its_date(
    tmp_path: Path, authority: Authority
):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue(tmp_path / "leaf.pem", "127.0.0.1", expired=True))
    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = asyncio.create_task(asyncio.to_thread(_shake_hands_once, server, context))
        endpoint = Endpoint(
            name="r",
            url=f"https://127.0.0.1:{server.getsockname()[1]}",
            ca_file=authority.write(tmp_path / "ca.pem"),
        )
        store = RemoteStore(endpoint, retry=Retry(attempts=1))
        with pytest.raises(Unavailable, match=r"certificate has expired$"):
            await store.ping()
        await store.close()
        await serving


async def test_a_server_without_tls_is_reported(script: ScriptedRegistry):
    async with store_at(script, url=script.url.replace("http:", "https:")) as store:
        with pytest.raises(TagferryError, match="the server does not speak TLS"):
            await store.ping()


async def test_a_required_client_certificate_is_presented(tmp_path: Path, authority: Authority):
    ca_file = authority.write(tmp_path / "ca.pem")
    client = authority.issue(tmp_path / "client.pem", name="tagferry")
    leaf = authority.issue(tmp_path / "leaf.pem", "127.0.0.1")
    async with (
        encrypted(leaf, clients=ca_file) as script,
        store_at(script, ca_file=ca_file, client_certificate=client, client_key=client) as store,
    ):
        await store.ping()
    assert [asked.peer for asked in script.asked] == ["tagferry"]


async def test_a_missing_client_certificate_fails_with_a_hint(tmp_path: Path, authority: Authority):
    ca_file = authority.write(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca_file)
    context.load_cert_chain(authority.issue(tmp_path / "leaf.pem", "127.0.0.1"))
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as server:
        # An asyncio server closes silently; a server on a plain socket sends an alert, as others do.
        serving = asyncio.create_task(asyncio.to_thread(_shake_hands, server, context))
        endpoint = Endpoint(name="r", url=f"https://127.0.0.1:{server.getsockname()[1]}", ca_file=ca_file)
        store = RemoteStore(endpoint, retry=Retry(attempts=1))
        with pytest.raises(Unavailable, match="requires a client certificate; set client_certificate"):
            await store.ping()
        await store.close()
        await serving


def _shake_hands_once(server: socket.socket, context: ssl.SSLContext) -> None:
    accepted, _ = server.accept()
    server.close()
    with suppress(OSError), context.wrap_socket(accepted, server_side=True):
        pass


def _shake_hands(server: socket.socket, context: ssl.SSLContext) -> None:
    accepted, _ = server.accept()
    with context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as encrypted_socket:
        with suppress(ssl.SSLError):
            encrypted_socket.do_handshake()
        # Unread data would turn the close into a reset, which may discard the alert.
        socket.socket.shutdown(encrypted_socket, socket.SHUT_WR)
        while os.read(encrypted_socket.fileno(), 65536):
            pass


async def test_the_client_certificate_is_presented_only_to_the_registry_and_its_token_server(
    tmp_path: Path, authority: Authority
):
    ca_file = authority.write(tmp_path / "ca.pem")
    client = authority.issue(tmp_path / "client.pem", name="tagferry")
    leaf = authority.issue(tmp_path / "leaf.pem", "127.0.0.1", "localhost")
    async with (
        encrypted(leaf, clients=ca_file) as script,
        encrypted(leaf, clients=ca_file) as tokens,
        encrypted(leaf, clients=ca_file, required=False) as storage,
    ):
        realm = f'Bearer realm="{tokens.url.replace("127.0.0.1", "localhost")}/token"'
        script.on("GET", BLOB, Reply(status=401, headers={"WWW-Authenticate": realm}))
        tokens.always("GET", "/token", said({"token": "abc"}))
        elsewhere = storage.url.replace("127.0.0.1", "localhost")
        script.always("GET", BLOB, Reply(status=307, headers={"Location": f"{elsewhere}/blob"}))
        storage.always("GET", "/blob", Reply(body=b"x"))
        user = Credentials(username="u", password="p")
        terms: dict[str, Any] = {
            "ca_file": ca_file,
            "client_certificate": client,
            "client_key": client,
            "credentials": user,
            "token_hosts": ("localhost",),
        }
        async with store_at(script, **terms) as store:
            assert await read(store, APP, blob(b"x")) == b"x"
    assert {asked.peer for asked in script.asked} == {asked.peer for asked in tokens.asked} == {"tagferry"}
    assert {asked.peer for asked in storage.asked} == {""}


async def test_renewed_files_count_for_the_next_connection(tmp_path: Path, authority: Authority):
    renewed = Authority("renewed")
    ca_file, client = authority.write(tmp_path / "ca.pem"), authority.issue(tmp_path / "client.pem", name="old")
    both = tmp_path / "both.pem"
    both.write_bytes(ca_file.read_bytes() + renewed.write(tmp_path / "renewed.pem").read_bytes())
    old_leaf = authority.issue(tmp_path / "old.pem", "127.0.0.1")
    async with (
        encrypted(old_leaf, clients=both) as script,
        store_at(script, ca_file=ca_file, client_certificate=client, client_key=client) as store,
    ):
        await store.ping()
        with capture_logs() as logs:
            client.write_bytes(client.read_bytes()[:200])
            await store.ping()
            await store.ping()
        assert [entry["event"] for entry in logs] == ["kept the old TLS files"]
        assert "client_certificate must be a PEM file" in logs[0]["reason"]
        with capture_logs() as logs:
            renewed.issue(client, name="new")
            await store.ping()
        assert [entry["event"] for entry in logs] == ["loaded renewed TLS files"]
    assert [asked.peer for asked in script.asked] == ["old", "old", "old", "new"]


async def test_a_renewed_authority_counts_for_the_next_connection(tmp_path: Path, authority: Authority):
    other = Authority("other")
    versions = tmp_path / "v1", tmp_path / "v2"
    for version, issuer in zip(versions, (other, authority), strict=True):
        version.mkdir()
        issuer.write(version / "ca.pem")
    current = tmp_path / "current"
    current.symlink_to(versions[0])
    async with (
        encrypted(authority.issue(tmp_path / "leaf.pem", "127.0.0.1")) as script,
        store_at(script, ca_file=current / "ca.pem") as store,
    ):
        with pytest.raises(Unavailable, match="unknown authority"):
            await store.ping()
        switch(current, to=versions[1])
        await store.ping()


def switch(link: Path, *, to: Path) -> None:
    """Switch a link to another target atomically."""
    link.with_name("next").symlink_to(to)
    link.with_name("next").replace(link)


def files(tmp_path: Path) -> dict[str, Path]:
    """A certificate and key, and files that do not match them, by name."""
    authority = Authority()
    made = {
        "pair": authority.issue(tmp_path / "pair.pem"),
        "other": authority.issue(tmp_path / "other.pem"),
        "ca": authority.write(tmp_path / "ca.pem"),
        "locked": encrypted_key(tmp_path / "locked.pem"),
        "missing": tmp_path / "missing.pem",
        "folder": tmp_path,
        "text": tmp_path / "text.pem",
        "broken": tmp_path / "broken.pem",
    }
    made["text"].write_text("nothing of this kind")
    made["broken"].write_text("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
    return made


@pytest.mark.parametrize(
    ("terms", "field", "rule"),
    [
        ({"ca_file": "missing"}, "ca_file", "must be a file that can be read (no such file or directory)"),
        ({"ca_file": "folder"}, "ca_file", "must be a file that can be read (is a directory)"),
        ({"ca_file": "text"}, "ca_file", "must be a PEM file of certificates"),
        ({"ca_file": "broken"}, "ca_file", "must be a PEM file of certificates"),
        ({"client_certificate": "missing", "client_key": "pair"}, "client_certificate", "can be read"),
        ({"client_certificate": "pair", "client_key": "missing"}, "client_key", "can be read"),
        ({"client_certificate": "text", "client_key": "pair"}, "client_certificate", "a PEM file with certificates"),
        ({"client_certificate": "pair", "client_key": "ca"}, "client_key", "must be a PEM file with a private key"),
        ({"client_certificate": "pair", "client_key": "other"}, "client_key", "must be the key of client_certificate"),
        ({"client_certificate": "pair", "client_key": "locked"}, "client_key", "must not be encrypted"),
        ({"client_certificate": "broken", "client_key": "pair"}, "client_certificate", "must be PEM files of a pair"),
    ],
)
def test_an_unusable_file_is_reported_by_its_setting(tmp_path: Path, terms: dict[str, str], field: str, rule: str):
    made = files(tmp_path)
    given: dict[str, Any] = {name: made[file] for name, file in terms.items()}
    endpoint = Endpoint(name="r", url="https://r.example", **given)
    with pytest.raises(Invalid) as failure:
        endpoint.check()
    assert failure.value.field == field
    assert rule in failure.value.rule
    assert str(made[terms[field]]) in failure.value.message


def test_matching_files_are_used(tmp_path: Path):
    made = files(tmp_path)
    shutil.copy(made["pair"], tmp_path / "copy.pem")
    Endpoint(
        name="r",
        url="https://r.example",
        ca_file=made["ca"],
        client_certificate=made["pair"],
        client_key=tmp_path / "copy.pem",
    ).check()
