"""Client certificates and authorities in docker's certs.d."""

import asyncio
import ssl
from pathlib import Path

import pytest

from tagferry.direct.certificates import HostCertificates, certificate_directories, host_certificates
from tagferry.direct.references import RegistryReference
from tagferry.direct.stores import RegistryAccess, Stores
from tagferry.errors import Invalid, Untrusted
from tagferry.names import RepositoryName
from tests.support.certificates import Authority
from tests.support.scripted_registry import Reply, scripted_registry

HOST = "registry.example.com:5000"


def folder_of(directory: Path, *names: str, host: str = HOST) -> Path:
    """Make the directory of a host, with empty files."""
    folder = directory / host
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_certificates_are_found_by_the_name_of_the_host_and_their_suffix(tmp_path: Path):
    folder = folder_of(tmp_path, "ca.crt", "more.crt", "client.cert", "client.key", "notes.txt")
    folder_of(tmp_path, "ca.crt", host="other.example.com")

    found = host_certificates(HOST, [str(tmp_path)])

    assert found == HostCertificates(
        (f"{folder}/ca.crt", f"{folder}/more.crt"), f"{folder}/client.cert", f"{folder}/client.key"
    )
    assert host_certificates("registry.example.com", [str(tmp_path)]) == HostCertificates()


def test_the_first_directory_that_has_the_host_decides(tmp_path: Path):
    folder_of(tmp_path / "second", "ca.crt")
    folder_of(tmp_path / "third", "other.crt")

    found = host_certificates(HOST, [str(tmp_path / name) for name in ("first", "second", "third")])

    assert found.authorities == (f"{tmp_path}/second/{HOST}/ca.crt",)


def test_the_directories_are_those_of_podman_and_docker():
    assert certificate_directories({"HOME": "/home/me"}) == [
        "/home/me/.config/containers/certs.d",
        "/etc/containers/certs.d",
        "/home/me/.config/docker/certs.d",
        "/etc/docker/certs.d",
    ]
    assert certificate_directories({"XDG_CONFIG_HOME": "/etc/mine"})[0] == "/etc/mine/containers/certs.d"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["client.cert"],
            r"the client certificate must have its key beside it, client\.key; certificates of authorities",
        ),
        (["client.cert", "other.key"], r"the client certificate must have its key beside it, client\.key"),
        (["client.key"], r"the key must have its certificate beside it, client\.cert"),
        (["a.cert", "a.key", "b.cert", "b.key"], "must have one client certificate, not 2"),
    ],
)
def test_an_incomplete_pair_is_refused(tmp_path: Path, names: list[str], message: str):
    folder_of(tmp_path, *names)

    with pytest.raises(Invalid, match=message):
        host_certificates(HOST, [str(tmp_path)])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ca.crt"], "the certificate authority must be a PEM file of certificates"),
        (["a.cert", "a.key"], "the client certificate must be a PEM file with certificates"),
    ],
)
async def test_a_damaged_file_is_named(tmp_path: Path, names: list[str], message: str):
    folder = folder_of(tmp_path, *names)
    stores = Stores(RegistryAccess(certificates=str(tmp_path)), state_directory=str(tmp_path / "state"))

    with pytest.raises(Invalid, match=message) as refused:
        stores.open(RegistryReference(HOST, RepositoryName("team/app")))
    assert str(folder / names[0]) in refused.value.message


async def test_a_registry_gets_the_certificate_that_it_requires(tmp_path: Path):
    authority = Authority("ours")
    ca_file = authority.write(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca_file)
    context.load_cert_chain(authority.issue(tmp_path / "leaf.pem", "127.0.0.1"))
    context.verify_mode = ssl.CERT_REQUIRED
    async with scripted_registry(tls=context) as script, asyncio.timeout(60):
        script.always("GET", "/v2/", Reply(headers={"Connection": "close"}))
        reference = RegistryReference(script.url.removeprefix("https://"), RepositoryName("team/app"))
        folder = folder_of(tmp_path / "certs.d", host=reference.host)
        (folder / "ca.crt").write_bytes(ca_file.read_bytes())
        client = authority.issue(tmp_path / "client.pem", name="tagferry").read_bytes()
        for name in ("client.cert", "client.key"):
            (folder / name).write_bytes(client)
        stores = Stores(RegistryAccess(certificates=f"{tmp_path}/certs.d"), state_directory=str(tmp_path / "state"))
        store, _ = stores.open(reference)

        await store.ping()  # type: ignore[attr-defined]

        await stores.close()
        assert [asked.peer for asked in script.asked] == ["tagferry"]

        stores = Stores(RegistryAccess(certificates=str(tmp_path)), state_directory=str(tmp_path / "state"))
        with pytest.raises(Untrusted):
            await stores.open(reference)[0].ping()  # type: ignore[attr-defined]
        await stores.close()
