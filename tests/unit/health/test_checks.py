"""One check of a region: what it requests, what it finds, and how long it may take."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tagferry.health.checks import RegionCheck
from tagferry.health.model import CheckKind, HealthState
from tagferry.names import RegionId, RepositoryName, Tag
from tagferry.regions import Region
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import Credentials, Endpoint, RemoteStore, Retry
from tests.support.certificates import loopback_certificate
from tests.support.memory_store import MemoryStore
from tests.support.processes import free_port
from tests.support.scripted_registry import Reply, ScriptedRegistry, scripted_registry

EU = RegionId("eu-west-1")
BASIC = {"WWW-Authenticate": 'Basic realm="registry"'}


@pytest.fixture
async def script() -> AsyncIterator[ScriptedRegistry]:
    async with scripted_registry() as running:
        yield running


def region(url: str, **terms: Any) -> Region:
    store = RemoteStore(Endpoint(name=EU, url=url, **terms), retry=Retry(attempts=5, sleep=never))
    return Region(id=EU, url=url, store=store)


async def never(_: float) -> None:
    raise AssertionError("a check does not wait for a retry")


async def test_a_registry_that_answers_is_ok_and_its_latency_is_known(script: ScriptedRegistry):
    script.always("GET", "/v2/", Reply(status=200))
    remote = region(script.url)

    health = await RegionCheck(seconds=10).run(remote)

    assert health is not None
    assert (health.state, health.reason, health.kind) == (HealthState.OK, "", CheckKind.REGISTRY)
    assert health.latency is not None
    assert health.latency == health.smoothed_latency
    assert health.certificate_expires_at is None
    assert len(script.asked) == 1


async def test_a_registry_that_refuses_the_credentials_is_refused(script: ScriptedRegistry):
    script.always("GET", "/v2/", Reply(status=401, headers=BASIC))
    remote = region(script.url, credentials=Credentials(username="robot", password="s3cret"))

    health = await RegionCheck(seconds=10).run(remote)

    assert health is not None
    assert health.state is HealthState.REFUSED
    assert "eu-west-1" in health.reason
    assert "s3cret" not in health.reason


async def test_a_registry_with_errors_is_unreachable(script: ScriptedRegistry):
    script.always("GET", "/v2/", Reply(status=500))

    health = await RegionCheck(seconds=10).run(region(script.url))

    assert health is not None
    assert health.state is HealthState.UNREACHABLE
    assert "500" in health.reason


async def test_a_registry_that_does_not_run_is_unreachable():
    health = await RegionCheck(seconds=10).run(region(f"http://127.0.0.1:{free_port()}"))

    assert health is not None
    assert health.state is HealthState.UNREACHABLE
    assert health.latency is None


async def test_a_silent_registry_takes_no_longer_than_it_may(script: ScriptedRegistry):
    script.always("GET", "/v2/", Reply(status=200, delay=60.0))

    health = await RegionCheck(seconds=0.05).run(region(script.url))

    assert health is not None
    assert (health.state, health.reason) == (
        HealthState.UNREACHABLE,
        "registry eu-west-1 did not answer within 0.05 s",
    )


async def test_a_registry_that_asks_to_wait_is_not_asked(script: ScriptedRegistry):
    script.always("GET", "/v2/", Reply(status=429, headers={"Retry-After": "50"}))
    remote, check = region(script.url), RegionCheck(seconds=10)
    await check.run(remote)

    health = await check.run(remote)

    assert health is not None
    assert health.state is HealthState.OK
    assert health.throttled_until is not None
    assert health.throttled_until > datetime.now(UTC)
    assert len(script.asked) == 1


async def test_requests_of_copies_show_that_a_registry_answers(script: ScriptedRegistry):
    remote, check, begin = region(script.url), RegionCheck(seconds=10), datetime.now(UTC)
    assert check.observed(remote, since=begin) is None
    script.always("HEAD", "/v2/team/app/manifests/v1", Reply(status=404))
    assert isinstance(remote.store, RemoteStore)
    await remote.store.head_manifest(RepositoryName("team/app"), Tag("v1"))

    seen = check.observed(remote, since=begin)

    assert seen is not None
    assert (seen.state, seen.latency is not None) == (HealthState.OK, True)
    assert check.observed(remote, since=datetime.now(UTC) + timedelta(seconds=60)) is None


async def test_the_expiry_of_a_certificate_is_read_from_a_connection(tmp_path: Path):
    certificate = loopback_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with scripted_registry(tls=context) as encrypted:
        encrypted.always("GET", "/v2/", Reply(status=200))
        check = RegionCheck(seconds=10)
        trusted = await check.run(region(encrypted.url, ca_file=certificate))
        refused = await check.run(region(encrypted.url))

    expires_at = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    assert trusted is not None
    assert refused is not None
    assert (trusted.state, trusted.certificate_expires_at) == (HealthState.OK, expires_at)
    assert (refused.state, refused.certificate_expires_at) == (HealthState.UNREACHABLE, None)
    assert "unknown authority" in refused.reason


async def test_an_embedded_registry_reports_its_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = await DiskStore.open(tmp_path / "registry")
    embedded = Region(id=EU, url="http://eu", store=store)
    check = RegionCheck(seconds=10)

    health = await check.run(embedded)
    assert health is not None
    assert (health.state, health.kind) == (HealthState.OK, CheckKind.DISK)
    assert health.disk_free is not None
    assert health.disk_total is not None
    assert 0 < health.disk_free <= health.disk_total

    async def full() -> str:
        return "the registry's disk is full"

    monkeypatch.setattr(store, "health_error", full)
    health = await check.run(embedded)
    assert health is not None
    assert (health.state, health.reason) == (HealthState.UNWRITABLE, "the registry's disk is full")


async def test_a_store_without_a_registry_has_no_health():
    assert await RegionCheck(seconds=1).run(Region(id=EU, url="memory:", store=MemoryStore("memory"))) is None
    await asyncio.sleep(0)
