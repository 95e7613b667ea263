"""A running tagferry with vendors' registries as regions, configured as the pages in docs/registries say."""

import json
from pathlib import Path
from typing import Any

import pytest

from tagferry.names import Repository, Tag
from tests.registries.contents import Repository as Stored
from tests.registries.samples import samples
from tests.registries.server import Registry, listening
from tests.registries.vendor import Vendor
from tests.registries.vendors.acr import ACR
from tests.registries.vendors.ecr import ECR
from tests.registries.vendors.ghcr import GHCR
from tests.registries.vendors.quay import QUAY
from tests.registries.vendors.registry_k8s import REGISTRY_K8S
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, deployed, name_in
from tests.support.images import push

TAGS = [sample.tag for sample in samples()]


def _region(vendor: Vendor, registry: Registry, folder: Path) -> dict[str, Any]:
    """Return a region at the registry, with the credentials in the form that its page shows."""
    access = registry.tokens.access
    region: dict[str, Any] = {"registry": registry.url, "poll_interval_seconds": 0, "token_hosts": registry.token_hosts}
    host = registry.url.partition("://")[2]
    if access.refresh_token:
        return {**region, "docker_config": _config(folder, {"auths": {host: {"identitytoken": access.refresh_token}}})}
    if vendor is ECR:
        _write_helper(folder, access.username, access.password)
        return {**region, "docker_config": _config(folder, {"credHelpers": {host: "of-the-test"}})}
    if access.scheme == "open":
        return region
    return {**region, "username": access.username, "password": access.password}


def _config(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "docker.json"
    path.write_text(json.dumps(document))
    return path


def _write_helper(folder: Path, username: str, secret: str) -> None:
    helper = folder / "docker-credential-of-the-test"
    helper.write_text(f"#!/bin/sh\necho '{json.dumps({'Username': username, 'Secret': secret})}'\n")
    helper.chmod(0o755)


@pytest.fixture(autouse=True)
def helpers_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


async def _synchronized(deployment: Deployment) -> dict[Tag, str]:
    """Return every tag of the samples with the status of its job."""
    job_ids = await deployment.start_sync(name_in(TEAM), TAGS, RELEASE)
    jobs = await deployment.ended_jobs(name_in(TEAM), job_ids)
    return {Tag(job["tag"]): f"{job['status']}: {job['reason']}" for job in jobs if job["status"] != "success"}


@pytest.mark.parametrize("vendor", [GHCR, ACR, REGISTRY_K8S], ids=lambda vendor: vendor.name)
async def test_a_vendor_as_the_source_of_an_embedded_region(vendor: Vendor, tmp_path: Path):
    async with listening(vendor.registry()) as registry:
        repository = registry.contents.repositories[f"{TEAM}/app"] = Stored()
        for sample in samples():
            sample.store(repository)
            if not any(behavior.name == "lists of tags not permitted" for behavior in vendor.behaviors):
                sample.store_referrers_tag(repository)
        regions: dict[str, dict[str, Any]] = {
            NORTH: {"listen": "", **_region(vendor, registry, tmp_path)},
            SOUTH: {"listen": ""},
        }
        async with deployed(tmp_path / "data", regions=regions) as one:
            assert await _synchronized(one) == {}
            target = one.store(SOUTH)
            for sample in samples():
                assert (await target.get_manifest(name_in(RELEASE), sample.tag)).raw == sample.image.manifest.raw
        assert registry.leaks == []


@pytest.mark.parametrize("vendor", [QUAY, ECR], ids=lambda vendor: vendor.name)
async def test_a_vendor_as_the_target_of_an_embedded_region(vendor: Vendor, tmp_path: Path):
    async with listening(vendor.registry()) as registry:
        if vendor.refuses.new_repository:
            registry.contents.repositories[f"{RELEASE}/app"] = Stored()
        regions: dict[str, dict[str, Any]] = {NORTH: {"listen": ""}, SOUTH: _region(vendor, registry, tmp_path)}
        async with deployed(tmp_path / "data", regions=regions) as one:
            for sample in samples():
                await push(one.store(NORTH), name_in(TEAM), sample.image, sample.tag)
                for tag, signature in sample.signatures.items():
                    await push(one.store(NORTH), name_in(TEAM), signature, tag)
                for referrer in sample.referrers:
                    await push(one.store(NORTH), name_in(TEAM), referrer)
            assert await _synchronized(one) == {}
        stored = registry.contents.find(f"{RELEASE}/app")
        assert [difference for sample in samples() for difference in sample.differences(stored)] == []


async def test_a_repository_that_was_not_created_is_named_in_the_reason(tmp_path: Path):
    async with listening(ECR.registry()) as registry:
        regions: dict[str, dict[str, Any]] = {NORTH: {"listen": ""}, SOUTH: _region(ECR, registry, tmp_path)}
        async with deployed(tmp_path / "data", regions=regions) as one:
            await push(one.store(NORTH), name_in(TEAM), samples()[0].image, TAGS[0])
            async with one.client() as client:
                body = {"imageTag": [TAGS[0]], "remoteNamespace": RELEASE, "remoteRegionId": SOUTH}
                started = await client.start_sync(TEAM, Repository("app"), body)
            (job,) = await one.ended_jobs(name_in(TEAM), list(started.tags))
    assert job["status"] == "failed"
    assert "release/app" in job["reason"]
    assert "does not exist" in job["reason"]
