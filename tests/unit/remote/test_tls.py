"""Registries over TLS: trusted authorities, and no fallback to clear text."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tagferry.errors import Invalid, Unavailable
from tagferry.names import RepositoryName
from tagferry.remote import Credentials, Endpoint, RemoteStore, Retry
from tagferry.remote.transport.requests import Transport
from tests.support.certificates import loopback_certificate
from tests.support.images import blob, opening
from tests.support.scripted_registry import Reply, ScriptedRegistry, scripted_registry

APP = RepositoryName("team/app")
ONCE = Retry(attempts=1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a self-signed certificate for loopback and its key."""
    return loopback_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def encrypted(certificate: Path) -> AsyncIterator[ScriptedRegistry]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with scripted_registry(tls=context) as script:
        script.always("GET", "/v2/", Reply())
        yield script


async def test_a_certificate_of_a_named_authority_is_trusted(encrypted: ScriptedRegistry, certificate: Path):
    store = RemoteStore(Endpoint(name="r", url=encrypted.url, ca_file=certificate), retry=ONCE)
    await store.ping()
    await store.close()


async def test_an_unknown_certificate_is_refused(encrypted: ScriptedRegistry):
    store = RemoteStore(Endpoint(name="r", url=encrypted.url), retry=ONCE)
    with pytest.raises(Unavailable, match="unknown authority; set ca_file"):
        await store.ping()
    await store.close()
    assert encrypted.asked == []


async def test_verification_can_be_switched_off(encrypted: ScriptedRegistry):
    store = RemoteStore(Endpoint(name="r", url=encrypted.url, insecure_skip_verify=True), retry=ONCE)
    await store.ping()
    await store.close()


async def test_a_session_that_calls_itself_http_is_used_over_tls(encrypted: ScriptedRegistry, certificate: Path):
    clear = encrypted.url.replace("https:", "http:") + "/session?_state=a%2Bb"
    challenge = Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
    encrypted.on("POST", "/v2/*", challenge, Reply(status=202, headers={"Location": clear}))
    encrypted.always("PUT", "/session", Reply(status=201))
    user = Credentials(username="u", password="p")
    store = RemoteStore(Endpoint(name="r", url=encrypted.url, ca_file=certificate, credentials=user), retry=ONCE)

    await store.write_blob(APP, blob(b"x"), opening(b"x"))
    await store.close()

    assert encrypted.asked[-1].headers["Authorization"].startswith("Basic ")
    assert encrypted.asked[-1].query.startswith("_state=a%2Bb&digest=")


@pytest.mark.parametrize("location", ["mailto:x@y", "http://[", "file:///etc/passwd"])
def test_an_address_outside_the_web_is_not_resolved(location: str):
    with pytest.raises(Unavailable):
        Transport(Endpoint(name="r", url="http://r.example"), retry=ONCE).resolve(location)


@pytest.mark.parametrize("url", ["r.example", "ftp://r.example", "https://u:p@r.example", "https://r.example/v2/"])
def test_an_endpoint_is_a_host_and_nothing_else(url: str):
    with pytest.raises(Invalid):
        Endpoint(name="r", url=url)
