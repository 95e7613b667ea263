"""A registry cannot send credentials to a host of its choice, nor requests into other networks."""

import socket
from typing import Any

import pytest

from tagferry.errors import Refused, TagferryError
from tagferry.http.address_policy import AddressPolicy, Zone, zone_of, zone_of_host
from tagferry.http.urls import origin_of
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Credentials, RemoteStore
from tagferry.remote.transport.credential_hosts import HostList, may_get_credentials
from tagferry.settings import rules
from tests.support.images import blob, image, opening, read
from tests.support.scripted_proxy import ScriptedProxy, scripted_proxy
from tests.support.scripted_registry import Reply, ScriptedRegistry, said, scripted_registry
from tests.unit.remote.conftest import Opening

APP, V1 = RepositoryName("team/app"), Tag("v1")
USER = Credentials(username="robot", password="secret")
IDENTITY = Credentials(identity_token="refresh")
SAMPLE = image(b"layer")
TEXT = {"Content-Type": "text/plain"}


def bearer(realm: str) -> Reply:
    return Reply(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})


@pytest.mark.parametrize(
    ("registry", "realm", "may"),
    [
        ("https://registry.example.com", "https://registry.example.com/token", True),
        ("https://registry.example.com", "https://registry.example.com:8443/token", True),
        ("https://registry.example.com", "https://gitlab.example.com/jwt/auth", True),
        ("https://registry.example.com", "https://example.com/token", True),
        ("https://example.com", "https://auth.example.com/token", True),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("https://registry-1.docker.io", "https://auth.docker.io/token", True),
        ("https://registry.example.co.uk", "https://auth.example.co.uk/token", True),
        ("https://registry.example.com", "https://registry.example.com.evil.org/token", False),
        ("https://registry.example.com", "https://evil-example.com/token", False),
        ("https://registry.example.com", "https://evil.org/registry.example.com", False),
        ("https://registry.example.com", "https://registry.example.com@evil.org/token", False),
        ("https://registry.example.com", "http://registry.example.com/token", False),
        ("https://registry.example.com", "http://gitlab.example.com/token", False),
        ("http://registry.example.com", "http://gitlab.example.com/token", False),
        ("http://registry.example.com", "https://gitlab.example.com/token", True),
        ("http://registry:5000", "http://registry:5001/token", True),
        ("https://a.co.uk", "https://b.co.uk/token", False),
        ("https://a.github.io", "https://b.github.io/token", False),
        ("https://a.azurecr.io", "https://b.azurecr.io/token", False),
        ("https://a.azurecr.io", "https://a.azurecr.io/oauth2/token", True),
        ("https://a.jfrog.io", "https://b.jfrog.io/token", False),
        ("https://1.dkr.ecr.eu-west-1.amazonaws.com", "https://b.execute-api.eu-west-1.amazonaws.com/t", False),
        ("https://10.0.0.1", "https://10.0.0.2/token", False),
        ("https://127.0.0.1:5000", "https://localhost:5001/token", False),
        ("https://registry", "https://auth/token", False),
        ("https://registry.example.com.", "https://gitlab.example.com/token", True),
    ],
)
def test_a_token_server_gets_credentials_within_the_domain_of_its_registry(registry: str, realm: str, may: bool):
    assert may_get_credentials(origin_of(registry), origin_of(realm), HostList(())) is may


@pytest.mark.parametrize(
    ("named", "realm", "may"),
    [
        ("sso.corp.org", "https://sso.corp.org/token", True),
        ("sso.corp.org", "https://sso.corp.org:8443/token", True),
        ("sso.corp.org:8443", "https://sso.corp.org:8443/token", True),
        ("sso.corp.org:8443", "https://sso.corp.org/token", False),
        ("sso.corp.org", "https://a.sso.corp.org/token", False),
        ("sso.corp.org", "http://sso.corp.org/token", False),
        ("[fd00::1]:8443", "https://[fd00::1]:8443/token", True),
        ("[fd00::1]", "https://[fd00::1]:8443/token", True),
        ("[fd00::1]:8443", "https://[fd00::2]:8443/token", False),
    ],
)
def test_the_configuration_names_further_token_servers(named: str, realm: str, may: bool):
    own = origin_of("https://registry.example.com")
    assert may_get_credentials(own, origin_of(realm), HostList([named])) is may


@pytest.mark.parametrize("credentials", [USER, IDENTITY], ids=["password", "identity token"])
async def test_a_realm_at_another_host_does_not_get_the_credentials(
    script: ScriptedRegistry, opened: Opening, credentials: Credentials
):
    async with scripted_registry() as thief:
        elsewhere = thief.url.replace("127.0.0.1", "localhost")
        script.always("GET", "/v2/*", bearer(f"{elsewhere}/token"))
        with pytest.raises(Refused, match=r'names localhost:\d+ as its token.*add "localhost:\d+" to token_hosts'):
            await opened(credentials=credentials).get_manifest(APP, V1)
    assert thief.asked == []


async def test_a_token_server_that_the_configuration_names_gets_them(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as tokens:
        elsewhere = tokens.url.replace("127.0.0.1", "localhost")
        script.on("GET", "/v2/*", bearer(f"{elsewhere}/token"))
        script.always("HEAD", "/v2/team/app/manifests/v1", Reply(status=404))
        script.always("GET", "/v2/team/app/manifests/v1", Reply(status=404))
        tokens.always("GET", "/token", said({"token": "abc"}))
        store = opened(credentials=USER, token_hosts=("localhost",))
        assert await store.head_manifest(APP, V1) is None
    assert [asked.headers["Authorization"].partition(" ")[0] for asked in tokens.asked] == ["Basic"]


async def test_the_words_of_a_foreign_token_server_are_not_quoted(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as internal:
        elsewhere = internal.url.replace("127.0.0.1", "localhost")
        script.always("GET", "/v2/*", bearer(f"{elsewhere}/token"))
        internal.always("GET", "/token", Reply(status=403, body=b"internal page with a password", headers=TEXT))
        with pytest.raises(TagferryError, match="answered 403 when asked to issue a token") as failure:
            await opened(attempts=1).get_manifest(APP, V1)
    assert "internal page" not in failure.value.message


async def test_the_token_of_one_host_is_not_sent_to_another_one(script: ScriptedRegistry, opened: Opening):
    """A redirect target names the token server of another host, to obtain a token meant for that host."""
    async with scripted_registry() as honest, scripted_registry() as thief, scripted_registry() as tokens:
        tokens.on("GET", "/token", said({"token": "for-the-honest-one"}), said({"token": "for-the-thief"}))
        tokens.always("GET", "/token", said({"token": "later"}))
        for number, host in ((1, honest), (2, thief)):
            script.always(
                "GET", f"/v2/team/app/blobs/{blob(b'%d' % number).digest}",
                Reply(status=307, headers={"Location": f"{host.url}/blob"}),
            )  # fmt: skip
            host.on("GET", "/blob", bearer(f"{tokens.url}/token"))
            host.always("GET", "/blob", Reply(body=b"%d" % number))
        store = opened()
        assert await read(store, APP, blob(b"1")) == b"1"
        assert await read(store, APP, blob(b"2")) == b"2"
    assert [asked.headers.get("Authorization") for asked in thief.asked] == [None, "Bearer for-the-thief"]


@pytest.mark.parametrize(
    ("address", "zone"),
    [
        ("93.184.216.34", Zone.PUBLIC),
        ("2606:2800:220:1::1", Zone.PUBLIC),
        ("10.0.0.5", Zone.PRIVATE),
        ("172.16.0.1", Zone.PRIVATE),
        ("192.168.1.1", Zone.PRIVATE),
        ("100.64.0.1", Zone.PRIVATE),
        ("fd00::1", Zone.PRIVATE),
        ("fec0::1", Zone.PRIVATE),
        ("224.0.0.1", Zone.PRIVATE),
        ("255.255.255.255", Zone.PRIVATE),
        ("169.254.169.254", Zone.LINK_LOCAL),
        ("fe80::1%eth0", Zone.LINK_LOCAL),
        ("127.0.0.1", Zone.LOOPBACK),
        ("127.9.9.9", Zone.LOOPBACK),
        ("::1", Zone.LOOPBACK),
        ("0.0.0.0", Zone.LOOPBACK),  # noqa: S104 - what connects to it ends at this machine
        ("::", Zone.LOOPBACK),
        ("::ffff:127.0.0.1", Zone.LOOPBACK),
        ("::ffff:169.254.169.254", Zone.LINK_LOCAL),
        ("::ffff:10.0.0.5", Zone.PRIVATE),
        ("::127.0.0.1", Zone.LOOPBACK),
        ("64:ff9b::169.254.169.254", Zone.LINK_LOCAL),
        ("2002:7f00:1::", Zone.LOOPBACK),
        ("2002:0a00:5::", Zone.PRIVATE),
    ],
)
def test_every_form_of_an_address_is_of_its_zone(address: str, zone: Zone):
    assert zone_of(address) is zone


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.1", "0x7f000001", "2130706433", "::1"])
def test_this_machine_is_recognized_under_other_names(host: str):
    assert zone_of_host(host) is Zone.LOOPBACK


@pytest.mark.parametrize(
    ("zone", "allowed"),
    [
        (None, set(Zone)),
        (Zone.PUBLIC, {Zone.PUBLIC}),
        (Zone.PRIVATE, {Zone.PUBLIC, Zone.PRIVATE}),
        (Zone.LOOPBACK, {Zone.PUBLIC, Zone.PRIVATE, Zone.LOOPBACK}),
        (Zone.LINK_LOCAL, {Zone.PUBLIC, Zone.PRIVATE, Zone.LINK_LOCAL}),
    ],
)
def test_a_registry_may_redirect_to_public_addresses_and_within_its_own_zone(zone: Zone | None, allowed: set[Zone]):
    assert {one for one in Zone if AddressPolicy(zone).allows(one)} == allowed


@pytest.fixture
async def inner() -> Any:
    """A service on loopback that a registry elsewhere must not reach."""
    async with scripted_registry() as service:
        for method in ("GET", "PUT", "POST", "PATCH", "HEAD"):
            service.always(method, "/*", Reply(body=b"internal", headers=TEXT))
        yield service


@pytest.fixture
async def public(script: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve the scripted registry as registry.example.com, which has a public address."""
    async with scripted_proxy() as proxy:
        proxy.hosts["registry.example.com:80"] = script.url.partition("://")[2]
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "inner.example.com")
        resolve = socket.getaddrinfo

        def resolved(host: Any, *rest: Any, **terms: Any) -> Any:
            return resolve("127.0.0.1" if host == "inner.example.com" else host, *rest, **terms)

        monkeypatch.setattr(socket, "getaddrinfo", resolved)
        yield proxy


def hidden(inner: ScriptedRegistry) -> list[str]:
    port = inner.url.rpartition(":")[2]
    names = ("127.0.0.1", "localhost", "127.1", "0", "[::ffff:127.0.0.1]", "inner.example.com", "2130706433")
    return [f"http://{name}:{port}" for name in names]


async def ask(store: RemoteStore, kind: str) -> None:
    if kind in ("blob", "realm"):
        await read(store, APP, blob(b"x"))
    elif kind.startswith("upload"):
        await store.write_blob(APP, blob(b"x"), opening(b"x"))
    elif kind == "manifest":
        await store.get_manifest(APP, V1)
    else:
        await store.list_referrers(APP, SAMPLE.digest)


@pytest.mark.parametrize("way", range(7))
@pytest.mark.parametrize("kind", ["blob", "upload", "upload session", "realm", "manifest", "referrers"])
async def test_a_public_registry_cannot_redirect_to_a_private_address(
    script: ScriptedRegistry, opened: Opening, public: ScriptedProxy, inner: ScriptedRegistry, way: int, kind: str
):
    goal = f"{hidden(inner)[way]}/latest/meta-data"
    led = Reply(status=307, headers={"Location": goal})
    store = opened(url="http://registry.example.com", attempts=1)
    script.always("GET", "/v2/", Reply())
    if kind == "realm":
        script.always("GET", "/v2/*", bearer(goal))
    elif kind == "upload session":
        script.always("POST", "/v2/*", Reply(status=202, headers={"Location": goal}))
    else:
        for method in ("GET", "HEAD", "POST"):
            script.always(method, "/v2/*", led)
    with pytest.raises(TagferryError, match=r"which has a loopback address.*(redirect|token)_hosts") as failure:
        await ask(store, kind)
    assert inner.asked == []
    assert "internal" not in failure.value.message


@pytest.mark.parametrize("setting", ["redirect_hosts", "token_hosts"])
async def test_the_configuration_allows_a_private_address(
    script: ScriptedRegistry, opened: Opening, public: ScriptedProxy, inner: ScriptedRegistry, setting: str
):
    location = f"http://inner.example.com:{inner.url.rpartition(':')[2]}/blob"
    script.always("GET", "/v2/*", Reply(status=307, headers={"Location": location}))
    store = opened(url="http://registry.example.com", **{setting: ("inner.example.com",)})
    assert await read(store, APP, blob(b"internal")) == b"internal"


async def test_a_registry_on_loopback_may_redirect_to_loopback(
    script: ScriptedRegistry, opened: Opening, inner: ScriptedRegistry
):
    script.always("GET", "/v2/*", Reply(status=307, headers={"Location": f"{inner.url}/blob"}))
    assert await read(opened(), APP, blob(b"internal")) == b"internal"


async def test_no_registry_may_redirect_to_a_cloud_s_metadata(script: ScriptedRegistry, opened: Opening):
    script.always("GET", "/v2/*", Reply(status=307, headers={"Location": "http://169.254.169.254/latest"}))
    with pytest.raises(Refused, match=r'link-local address.*add "169\.254\.169\.254" to redirect_hosts'):
        await read(opened(attempts=1), APP, blob(b"x"))


@pytest.mark.parametrize(
    "value", ["https://sso.example.org", "*.example.org", "a b", "u@h", "h:port", "h/p", "", "h:0"]
)
def test_a_host_in_the_settings_is_only_a_host(value: str):
    with pytest.raises(ValueError, match="must have the form HOST or HOST:PORT"):
        rules.host(value)


@pytest.mark.parametrize("value", ["SSO.example.org", "sso.example.org:8443", "10.0.0.5", "[fd00::1]:443", "localhost"])
def test_a_host_in_the_settings_may_have_a_port(value: str):
    assert rules.host(value) == value.lower()
