"""A remote registry is checked step by step, and every fault has its own words and its own advice."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tagferry.diagnosis.model import Finding, Level
from tagferry.diagnosis.registry import KnownOfRegistry, RegistryFacts, check_registry
from tagferry.health.model import CheckKind, HealthState, RegionHealth
from tagferry.names import RegionId, RepositoryName, Tag
from tagferry.remote.capabilities import MOUNT, Capabilities
from tagferry.settings import RegionSettings
from tests.support.certificates import Authority
from tests.support.images import image
from tests.support.processes import free_port
from tests.support.scripted_proxy import scripted_proxy
from tests.support.scripted_registry import Reply, ScriptedRegistry, scripted_registry
from tests.support.token_registry import TokenRegistry

HUB = RegionId("hub")
USER = {"username": "u", "password": "p"}
SAMPLES = ((RepositoryName("team/app"), Tag("v1")),)
BASIC = {"WWW-Authenticate": 'Basic realm="registry"'}


@pytest.fixture
async def script() -> AsyncIterator[ScriptedRegistry]:
    async with scripted_registry() as running:
        yield running


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def check(
    url: str, *, seconds: float = 30.0, known: KnownOfRegistry | None = None, **terms: Any
) -> RegistryFacts:
    settings = RegionSettings(registry=url, **terms)
    return await check_registry(HUB, settings, known or KnownOfRegistry(samples=SAMPLES), seconds=seconds)


async def only(url: str, **terms: Any) -> Finding:
    (found,) = (await check(url, **terms)).findings
    assert found.subject == "hub"
    return found


def serving(script: ScriptedRegistry, **headers: str) -> None:
    script.always("GET", "/v2/", Reply(status=200, headers=headers))
    script.always("HEAD", "/v2/team/app/manifests/v1", Reply(status=404, headers=headers))


async def test_a_registry_that_works_is_ok_with_all_that_is_known(script: ScriptedRegistry):
    registry = TokenRegistry(script)
    registry.hold("team/app", Tag("v1"), image())
    capabilities = Capabilities(lists_referrers=True, unavailable={MOUNT: "404"}, requests_a_second=20.0)
    found = await only(script.url, known=KnownOfRegistry(samples=SAMPLES, capabilities=capabilities), **USER)

    assert found.level is Level.OK
    assert found.message == (
        f'{script.url} reached directly; read the manifest team/app:v1, as user "u"; referrers API: yes; mounts: no; '
        "limited to 20 requests per second"
    )
    assert not [asked for asked in script.asked if asked.method not in ("GET", "HEAD")]


async def test_a_wrong_password_is_a_problem_and_not_shown(script: ScriptedRegistry):
    TokenRegistry(script)
    found = await only(script.url, username="u", password="s3cret-and-wrong")

    assert found.level is Level.PROBLEM
    assert "check username and password" in found.fix
    assert "s3cret" not in f"{found}"


async def test_a_registry_that_requires_credentials_of_anonymous_users_is_a_problem(script: ScriptedRegistry):
    script.always("*", "*", Reply(status=401, headers=BASIC))
    script.always("GET", "/v2/*", Reply(status=401, headers=BASIC))
    found = await only(script.url)

    assert found.level is Level.PROBLEM
    assert "requires credentials" in found.message


async def test_a_throttling_registry_is_a_warning_and_not_waited_for(script: ScriptedRegistry):
    script.always("GET", "/v2/", Reply(status=429, headers={"Retry-After": "50"}))
    found = await only(script.url)

    assert found.level is Level.WARNING
    assert "it asks to wait for 50 s" in found.message
    assert len(script.asked) == 1


async def test_a_registry_with_errors_is_a_problem(script: ScriptedRegistry):
    script.always("GET", "/v2/", Reply(status=503))
    found = await only(script.url)

    assert found.level is Level.PROBLEM
    assert "503" in found.message


async def test_a_web_site_is_no_registry(script: ScriptedRegistry):
    script.always("GET", "*", Reply(status=200, headers={"Content-Type": "text/html"}, body=b"<html>"))
    found = await only(script.url)

    assert found.level is Level.PROBLEM
    assert "web page" in found.message
    assert "check registry in [regions.hub]" in found.fix


async def test_an_address_at_which_nothing_listens_is_a_problem():
    found = await only(f"http://127.0.0.1:{free_port()}")

    assert found.level is Level.PROBLEM
    assert "connection refused" in found.message
    assert "that the registry runs" in found.fix


async def test_a_name_that_cannot_be_resolved_is_a_problem():
    found = await only("https://registry.invalid")

    assert found.level is Level.PROBLEM
    assert "registry.invalid: the host name cannot be resolved" in found.message
    assert "correct registry in [regions.hub]" in found.fix


async def test_a_slow_registry_is_a_problem_with_the_step_that_took_long(script: ScriptedRegistry):
    script.always("GET", "/v2/", Reply(status=200, delay=60.0))
    found = await only(script.url, seconds=2.0)

    assert (found.level, found.message) == (Level.PROBLEM, f"{script.url}: authenticating took longer than 2 s")
    assert "--timeout" in found.fix


def context_of(pair: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair)
    return context


async def encrypted(folder: Path, *hosts: str, expired: bool = False, trusted: bool = True) -> Finding:
    authority = Authority("acme")
    pair, ca_file = authority.issue(folder / "pair.pem", *hosts, expired=expired), authority.write(folder / "ca.pem")
    async with scripted_registry(tls=context_of(pair)) as running:
        serving(running)
        return await only(running.url, **{"ca_file": ca_file} if trusted else {})


async def test_a_certificate_that_expires_soon_is_a_warning(tmp_path: Path):
    found = await encrypted(tmp_path, "127.0.0.1")

    assert found.level is Level.WARNING
    assert found.message.startswith("its certificate expires at ")


async def test_an_expired_certificate_is_a_problem_with_its_issuer_and_date(tmp_path: Path):
    found = await encrypted(tmp_path, "127.0.0.1", expired=True)

    assert (found.level, found.fix) == (Level.PROBLEM, "renew the registry's certificate")
    assert "certificate has expired" in found.message
    assert "the certificate is for 127.0.0.1, issued by acme, and valid until" in found.message


async def test_a_certificate_for_another_host_is_a_problem_with_its_names(tmp_path: Path):
    found = await encrypted(tmp_path, "registry.example.com")

    assert found.level is Level.PROBLEM
    assert "the certificate is for registry.example.com" in found.message
    assert "use a name of the certificate" in found.fix


async def test_an_unknown_authority_is_a_problem_with_its_name(tmp_path: Path):
    found = await encrypted(tmp_path, "127.0.0.1", trusted=False)

    assert found.level is Level.PROBLEM
    assert "issued by acme" in found.message
    assert "set ca_file in [regions.hub]" in found.fix


async def test_a_registry_without_tls_is_a_problem_if_tls_is_expected(script: ScriptedRegistry):
    found = await only(script.url.replace("http://", "https://"))

    assert found.level is Level.PROBLEM
    assert "does not speak TLS" in found.message
    assert "begin it with http://" in found.fix


async def test_a_ca_file_that_is_missing_is_a_problem(tmp_path: Path, script: ScriptedRegistry):
    found = await only(script.url, ca_file=tmp_path / "missing.pem")

    assert found.level is Level.PROBLEM
    assert "ca_file" in found.message
    assert script.asked == []


async def test_a_proxy_that_does_not_run_is_a_problem_that_names_the_setting(script: ScriptedRegistry):
    proxy = f"http://127.0.0.1:{free_port()}"
    found = await only(script.url, proxy=proxy)

    assert found.level is Level.PROBLEM
    assert f"proxy {proxy}" in found.message
    assert "correct proxy in [regions.hub]" in found.fix


async def test_a_proxy_of_the_environment_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://u:s3cret@127.0.0.1:{free_port()}")
    found = await only("https://registry.example")

    assert found.level is Level.PROBLEM
    assert "correct HTTPS_PROXY or ALL_PROXY in the environment, or add registry.example to NO_PROXY" in found.fix
    assert "s3cret" not in f"{found}"


async def test_a_registry_that_no_proxy_exempts_is_reached_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Loopback never has a proxy of the environment, so this is another name of this machine.
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", ".internal")
    monkeypatch.setattr("tagferry.diagnosis.registry._number_of_addresses", two_addresses)
    found = await only("https://registry.internal")
    assert "cannot connect to https://registry.internal:" in found.message

    monkeypatch.setenv("NO_PROXY", "other")
    found = await only("https://registry.internal")
    assert "cannot connect to proxy" in found.message


async def two_addresses(host: str, port: int) -> int:
    return 2


async def test_a_proxy_that_refuses_is_a_problem():
    async with scripted_proxy() as proxy:
        proxy.refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        found = await only("https://registry.example", proxy=proxy.url)

    assert found.level is Level.PROBLEM
    assert "refused the connection to registry.example:443: 403" in found.message


async def test_a_registry_behind_a_proxy_is_reached_through_it(script: ScriptedRegistry):
    serving(script)
    async with scripted_proxy() as proxy:
        found = await only(script.url, proxy=proxy.url)

    assert found.level is Level.OK, found
    assert f"reached through proxy {proxy.url}" in found.message


@pytest.mark.parametrize("minutes", [-20, 0, 20])
async def test_the_clock_of_the_registry_is_read_from_its_responses(script: ScriptedRegistry, minutes: int):
    serving(script, Date=format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True))
    facts = await check(script.url)

    assert facts.clock_difference is not None
    assert abs(facts.clock_difference - timedelta(minutes=minutes)) < timedelta(minutes=1)


@pytest.mark.parametrize("date", ["yesterday", "", "Thu, 99 Jan 2026 00:00:00 GMT"])
async def test_a_date_that_is_none_shows_no_clock(script: ScriptedRegistry, date: str):
    serving(script, Date=date)
    facts = await check(script.url)

    assert facts.clock_difference is None


async def test_a_failed_check_of_the_server_is_a_warning_if_this_one_succeeds(script: ScriptedRegistry):
    serving(script)
    now = datetime.now(UTC)
    health = RegionHealth(
        region=HUB,
        kind=CheckKind.REGISTRY,
        state=HealthState.UNREACHABLE,
        reason="cannot connect",
        since=now,
        checked_at=now,
    )
    found = await only(script.url, known=KnownOfRegistry(samples=SAMPLES, health=health))

    assert found.level is Level.WARNING
    assert "answers here, but the last check by the server" in found.message
    assert "proxy" in found.fix


async def test_a_name_server_that_does_not_answer_holds_only_its_own_registry(
    script: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
):
    serving(script)
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
        return [(None, None, None, "", ("127.0.0.1", 1))]

    monkeypatch.setattr("tagferry.diagnosis.registry.socket.getaddrinfo", resolve)
    slow = [check(f"https://slow{number}.invalid", seconds=0.5) for number in range(40)]
    *stuck, quick = await asyncio.gather(*slow, check(script.url))
    release.set()

    assert [one.level for one in quick.findings] == [Level.OK]
    for facts in stuck:
        assert "took longer than 0.5 s" in facts.findings[0].message
