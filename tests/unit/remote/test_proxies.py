"""Selection of proxies, and requests through them."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from tagferry.errors import Invalid, TagferryError, Unavailable
from tagferry.http.proxies import Proxies
from tagferry.http.urls import origin_of
from tagferry.http.webhook import WebhookClient
from tagferry.names import RepositoryName
from tagferry.oci.images import BlobOutcome
from tagferry.remote import Credentials, Endpoint, RemoteStore, Retry
from tests.support.certificates import Authority
from tests.support.images import blob, opening, read
from tests.support.processes import free_port
from tests.support.scripted_proxy import ScriptedProxy, scripted_proxy
from tests.support.scripted_registry import Reply, ScriptedRegistry, said, scripted_registry
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_capabilities import MemoryCapabilities
from tests.unit.remote.test_digest_check import CONTENT as LARGE_CONTENT
from tests.unit.remote.test_digest_check import KNOWN, Crossing, Target, crossing, source, source_script, target

__all__ = ["crossing", "source", "source_script", "target"]

APP = RepositoryName("team/app")
UPLOADS = "/v2/team/app/blobs/uploads/"
CONTENT = random.Random(13).randbytes(2_000_000)
HOST = "registry.example.com"
LOGIN = "robot:p%40ss"
REFUSED = f"refused the connection to {HOST}:443:"


@pytest.fixture
async def proxy() -> AsyncIterator[ScriptedProxy]:
    async with scripted_proxy() as running:
        yield running


def through(url: str, environment: dict[str, str], setting: str | None = None) -> str | None:
    found = Proxies(setting, environment).find(origin_of(url))
    return None if found is None else str(found)


P, Q = "http://p.example:3128", "http://q.example:80"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://r.example", {}, None),
        ("https://r.example", {"HTTPS_PROXY": P}, P),
        ("https://r.example", {"https_proxy": P}, P),
        ("https://r.example", {"HTTPS_PROXY": P, "https_proxy": Q}, P),
        ("https://r.example", {"HTTP_PROXY": P}, None),
        ("http://r.example", {"HTTP_PROXY": P, "HTTPS_PROXY": Q}, P),
        ("http://r.example", {"HTTPS_PROXY": P}, None),
        ("http://r.example", {"ALL_PROXY": P}, P),
        ("https://r.example", {"all_proxy": "p.example:3128"}, P),
        ("https://r.example", {"ALL_PROXY": P, "HTTPS_PROXY": "q.example"}, Q),
        ("https://r.example", {"HTTPS_PROXY": " "}, None),
        ("https://r.example", {"HTTPS_PROXY": "http://u:p@p.example:3128/"}, P),
        ("https://r.example", {"HTTPS_PROXY": "https://p.example"}, "https://p.example:443"),
        ("https://r.example", {"HTTPS_PROXY": "http://[fd00::1]:3128"}, "http://[fd00::1]:3128"),
        ("http://r.example", {"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, None),
        ("http://r.example", {"http_proxy": P, "REQUEST_METHOD": "GET"}, P),
        ("https://localhost:5000", {"HTTPS_PROXY": P}, None),
        ("https://a.localhost", {"HTTPS_PROXY": P}, None),
        ("http://127.0.0.2", {"HTTP_PROXY": P}, None),
        ("https://[::1]:5000", {"HTTPS_PROXY": P}, None),
    ],
)
def test_the_environment_names_the_proxy(url: str, environment: dict[str, str], expected: str | None):
    assert through(url, environment) == expected


@pytest.mark.parametrize(
    ("exempt", "direct", "proxied"),
    [
        ("*", ["https://r.example", "https://10.0.0.1"], []),
        ("r.example", ["https://r.example", "https://a.r.example", "https://R.EXAMPLE"], ["https://xr.example"]),
        (".r.example", ["https://a.r.example"], ["https://r.example", "https://xr.example"]),
        ("*.r.example", ["https://a.b.r.example"], ["https://r.example"]),
        ("r.example.", ["https://r.example"], []),
        ("r.example:8443", ["https://r.example:8443"], ["https://r.example", "https://r.example:5000"]),
        ("r.example:443", ["https://r.example"], ["https://r.example:8443"]),
        ("a.example, r.example", ["https://r.example", "https://a.example"], ["https://b.example"]),
        ("a.example r.example", ["https://r.example", "https://a.example"], []),
        ("10.0.0.1", ["https://10.0.0.1", "https://10.0.0.1:5000"], ["https://10.0.0.2"]),
        ("10.0.0.1:5000", ["https://10.0.0.1:5000"], ["https://10.0.0.1"]),
        ("10.0.0.0/8", ["https://10.200.0.1"], ["https://11.0.0.1", "https://r.example"]),
        ("10.1.2.3/8", ["https://10.200.0.1"], []),
        ("fd00::/8", ["https://[fd12::1]"], ["https://[fe80::1]", "https://10.0.0.1"]),
        ("[fd00::1]:5000", ["https://[fd00::1]:5000"], ["https://[fd00::1]"]),
        ("fd00::1", ["https://[fd00::1]:5000"], []),
        ("10.0.0.0/8", ["https://[::ffff:10.1.2.3]"], ["https://[::ffff:11.1.2.3]"]),
        ("::ffff:10.1.2.3", ["https://10.1.2.3"], ["https://10.1.2.4"]),
        ("bücher.example", ["https://bücher.example", "https://a.xn--bcher-kva.example"], ["https://xbücher.example"]),
        ("r.example:", ["https://r.example", "https://r.example:5000"], ["https://xr.example"]),
        (",,", [], ["https://r.example"]),
    ],
)
def test_no_proxy_exempts_hosts_domains_addresses_and_networks(exempt: str, direct: list[str], proxied: list[str]):
    for name in ("NO_PROXY", "no_proxy"):
        environment = {"HTTPS_PROXY": P, name: exempt}
        assert [through(url, environment) for url in direct] == [None] * len(direct)
        assert [through(url, environment) for url in proxied] == [P] * len(proxied)


def test_a_region_s_own_setting_wins_over_the_environment():
    environment = {"HTTPS_PROXY": P, "NO_PROXY": "*"}
    assert through("https://r.example", environment, Q) == Q
    assert through("http://127.0.0.1", environment, Q) == Q
    assert through("https://r.example", {"HTTPS_PROXY": P}, "none") is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("socks5://p.example:1080", "SOCKS is not supported"),
        ("socks5h://u:secret@p.example", "SOCKS is not supported"),
        ("ftp://u:secret@p.example", "starts with http:// or https://"),
        ("http://u:secret@", "must be the URL of a proxy"),
        ("http://p.example:port", "must be the URL of a proxy"),
        ("http://u:12/secret@p.example", "percent-encode its user and password"),
        ("http://u:12?secret@p.example", "percent-encode its user and password"),
        ("u:12#secret@p.example", "percent-encode its user and password"),
    ],
)
def test_what_is_no_proxy_is_refused_by_the_name_of_its_variable(value: str, message: str):
    with pytest.raises(Invalid, match=message) as failure:
        through("https://r.example", {"all_proxy": value})
    assert failure.value.field == "all_proxy"
    assert "secret" not in failure.value.message
    assert through("https://r.example", {"all_proxy": value, "NO_PROXY": "example"}) is None


def test_credentials_do_not_show():
    found = Proxies(f"http://{LOGIN}@p.example").find(("https", "r.example", 443))
    assert found is not None
    assert found.authorization == "Basic cm9ib3Q6cEBzcw=="
    assert "cm9ib3Q6cEBzcw" not in f"{found} {found!r}"


async def stored(store: RemoteStore, script: ScriptedRegistry) -> None:
    """Write a blob and read it again."""
    script.always("POST", UPLOADS, Reply(status=202, headers={"Location": f"{UPLOADS}s"}))
    script.always("PUT", f"{UPLOADS}s", Reply(status=201))
    script.always("GET", f"/v2/team/app/blobs/{blob(CONTENT).digest}", Reply(body=CONTENT))
    assert await store.write_blob(APP, blob(CONTENT), opening(CONTENT)) is BlobOutcome.UPLOADED
    assert next(asked for asked in script.asked if asked.method == "PUT").body == CONTENT
    assert await read(store, APP, blob(CONTENT)) == CONTENT
    await store.close()


async def test_http_is_asked_for_by_its_whole_url(script: ScriptedRegistry, opened: Opening, proxy: ScriptedProxy):
    await stored(opened(proxy=proxy.url), script)
    assert {line.split(" ")[1].partition("/v2/")[0] for line in proxy.asked} == {script.url}
    assert len(proxy.asked) == 1  # one connection serves all requests


@asynccontextmanager
async def behind_tls(tmp_path: Path, *hosts: str) -> AsyncIterator[tuple[ScriptedRegistry, Path]]:
    authority = Authority()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue(tmp_path / "leaf.pem", *hosts))
    async with scripted_registry(tls=context) as script:
        yield script, authority.write(tmp_path / "ca.pem")


async def test_https_goes_through_a_tunnel_to_a_host_that_only_the_proxy_knows(
    tmp_path: Path, proxy: ScriptedProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    async with behind_tls(tmp_path, HOST) as (script, ca_file):
        proxy.hosts[f"{HOST}:443"] = script.url.partition("://")[2]
        store = RemoteStore(Endpoint(name="r", url=f"https://{HOST}", ca_file=ca_file), retry=Retry(attempts=1))
        await stored(store, script)
    assert set(proxy.asked) == {f"CONNECT {HOST}:443 HTTP/1.1"}
    assert script.asked[0].headers["Host"] == HOST
    assert proxy.relayed > len(CONTENT)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_tunnel_carries_on_either_event_loop(tmp_path: Path, scheme: str):
    """TLS to the registry inside a tunnel, also inside TLS to the proxy."""
    authority = Authority()
    files = authority.issue(tmp_path / "leaf.pem", HOST, "127.0.0.1"), authority.write(tmp_path / "ca.pem")

    async def scenario() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files[0])
        outer = context if scheme == "https" else None
        async with scripted_registry(tls=context) as script, scripted_proxy(tls=outer, login="u:p") as proxy:
            proxy.hosts[f"{HOST}:443"] = script.url.partition("://")[2]
            endpoint = Endpoint(name="r", url=f"https://{HOST}", ca_file=files[1], proxy=proxy.url_with_login)
            await stored(RemoteStore(endpoint, retry=Retry(attempts=1)), script)

    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scenario())


async def test_http_through_a_proxy_with_tls(tmp_path: Path, script: ScriptedRegistry):
    authority = Authority()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue(tmp_path / "leaf.pem", "127.0.0.1"))
    ca_file = authority.write(tmp_path / "ca.pem")
    async with scripted_proxy(tls=context) as proxy:
        endpoint = Endpoint(name="r", url=script.url, ca_file=ca_file, proxy=proxy.url)
        await stored(RemoteStore(endpoint, retry=Retry(attempts=1)), script)
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("url", ["http://registry.example.com", "https://registry.example.com:8443"])
async def test_a_proxy_gets_its_login_and_is_named_where_that_is_wrong(script: ScriptedRegistry, url: str):
    async with scripted_proxy(login="robot:p@ss") as proxy:
        proxy.hosts = {f"{HOST}:80": script.url.partition("://")[2]}
        if url.startswith("http:"):
            right = f"http://{LOGIN}@{proxy.url.partition('://')[2]}"
            await stored(RemoteStore(Endpoint(name="r", url=url, proxy=right)), script)
        target = origin_of(url)
        for wrong in (proxy.url, proxy.url.replace("://", "://robot:bad@")):
            proxy.asked.clear()
            store = RemoteStore(Endpoint(name="r", url=url, proxy=wrong))
            with pytest.raises(Unavailable) as failure:
                await store.ping()
            await store.close()
            assert failure.value.message == (
                f"registry r could not be reached to serve GET /v2/: proxy {proxy.url} refused the connection to "
                f"{HOST}:{target[2]}: 407 Proxy Authentication Required"
            )
            assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.0 500 Unable to connect\r\n\r\n", "answered 500 when asked to serve GET /v2/"),
        (b"HTTP/1.0 403 Filtered\r\n\r\n", "answered 403 when asked to serve GET /v2/"),
        (
            b'HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm="proxy"\r\n\r\n',
            "requires credentials to serve GET /v2/, and none are configured",
        ),
    ],
)
async def test_a_proxy_that_answers_in_place_of_the_registry_is_named(opened: Opening, answer: bytes, message: str):
    async with scripted_proxy() as proxy:
        proxy.refusal = answer
        store = opened(url=f"http://{HOST}", proxy=proxy.url.replace("://", "://u:secret@"), attempts=1)
        with pytest.raises(TagferryError) as failure:
            await store.ping()
    assert failure.value.message == f"registry script (through proxy {proxy.url}) {message}"


@pytest.mark.parametrize(
    ("refusal", "message", "may_pass"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", f"{REFUSED} 502 Bad Gateway", True),
        (b"HTTP/1.0 403 Forbidden\r\n\r\n<html>", f"{REFUSED} 403 Forbidden", False),
        (b"HTTP/1.1 503\r\n\r\n", f"{REFUSED} 503", True),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "did not respond with HTTP", True),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "did not respond with HTTP", True),
        (b"HTTP/1.1 200 OK\r\n", "did not respond with HTTP", True),
        (b"HTTP/1.1 200 OK\r\n\r\nsurplus", "sent unexpected data", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", "cannot connect to https://registry.example.com through proxy", True),
    ],
)
async def test_a_proxy_that_does_not_connect_is_named(
    proxy: ScriptedProxy, opened: Opening, refusal: bytes, message: str, may_pass: bool
):
    proxy.refusal = refusal
    with pytest.raises(Unavailable, match=message) as failure:
        await opened(attempts=1, url=f"https://{HOST}", proxy=proxy.url).ping()
    assert proxy.url in failure.value.message
    assert failure.value.is_retryable is may_pass


async def test_a_proxy_that_is_not_there_is_named(opened: Opening):
    url = f"http://127.0.0.1:{free_port()}"
    for registry in ("https://registry.example.com", "http://registry.example.com"):
        with pytest.raises(Unavailable, match=f"cannot connect to proxy {url}: connection refused"):
            await opened(attempts=1, url=registry, proxy=url.replace("://", "://u:secret@")).ping()


async def test_token_servers_storage_and_webhooks_go_through_it_too(
    script: ScriptedRegistry, proxy: ScriptedProxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("http_proxy", proxy.url)
    for name in ("registry.example.com:80", "tokens.example.com:80", "storage.example.com:80", "hooks.example.com:80"):
        proxy.hosts[name] = script.url.partition("://")[2]
    script.on(
        "GET", "/v2/*", Reply(status=401, headers={"WWW-Authenticate": 'Bearer realm="http://tokens.example.com/t"'})
    )
    script.always("GET", "/t", said({"token": "abc"}))
    script.always("GET", "/v2/*", Reply(status=307, headers={"Location": "http://storage.example.com/blob"}))
    script.always("GET", "/blob", Reply(body=CONTENT))
    script.always("POST", "/hook", Reply())
    user = Credentials(username="u", password="p")
    store = RemoteStore(
        Endpoint(name="r", url=f"http://{HOST}", credentials=user, token_hosts=("tokens.example.com",)),
        retry=Retry(attempts=1),
    )
    assert await read(store, APP, blob(CONTENT)) == CONTENT
    await store.close()
    assert await WebhookClient("http://hooks.example.com/hook").post(b"{}", {}) == 200
    hosts = {line.split(" ")[1].split("/")[2] for line in proxy.asked}
    assert hosts == {HOST, "tokens.example.com", "storage.example.com", "hooks.example.com"}


async def test_a_spliced_blob_arrives_complete_through_a_proxy(
    script: ScriptedRegistry, opened: Opening, proxy: ScriptedProxy, target: Target, crossing: Crossing
):
    script.always("PUT", f"{UPLOADS}s", target.honest)
    store = opened(capabilities=MemoryCapabilities(KNOWN), proxy=proxy.url)
    assert await store.write_blob(APP, blob(LARGE_CONTENT), crossing) is BlobOutcome.UPLOADED
    assert target.stored == [LARGE_CONTENT]
    assert crossing.flowed > len(LARGE_CONTENT) // 2
