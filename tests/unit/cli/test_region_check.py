"""`tagferry region check` sends the requests of a synchronization to a registry."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tagferry.app import open_accounts
from tagferry.cli.region_check import Result, check_regions, parse_image
from tagferry.db.tables import SyncJobRow
from tagferry.errors import NotFound
from tagferry.names import Tag
from tagferry.settings import Settings
from tests.support.images import image
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said, scripted_registry
from tests.support.token_registry import TokenRegistry

V1 = Tag("v1")
USER = {"username": "u", "password": "p"}


@pytest.fixture
async def script() -> AsyncIterator[ScriptedRegistry]:
    """A registry that denies access to the catalog, as most do."""
    async with scripted_registry() as running:
        running.on("GET", "/v2/_catalog", error(405, "UNSUPPORTED"))
        yield running


@pytest.fixture
def registry(script: ScriptedRegistry) -> TokenRegistry:
    registry = TokenRegistry(script)
    registry.hold("team/app", V1, image())
    return registry


def settings(folder: Path, registry: TokenRegistry, **terms: object) -> Settings:
    region = {"registry": registry.url, **terms}
    return Settings.parse({"data_dir": folder, "regions": {"hub": region, "own": {"listen": "127.0.0.1:1"}}})


async def check(parsed: Settings, repository: str | None = None) -> Result:
    result, own = await check_regions(parsed, (), parse_image(repository) if repository else None)
    assert (own.region, own.is_ok) == ("own", True)
    assert own.summary.startswith("ok  embedded, so nothing was requested")
    return result


async def test_a_registry_that_always_challenges_at_its_base_path_passes(
    tmp_path: Path, registry: TokenRegistry
) -> None:
    def refuse(asked: Asked) -> Reply:
        return registry.challenge()

    registry.script.on("GET", "/v2/", *[refuse] * 10)

    result = await check(settings(tmp_path, registry, **USER))

    assert (result.summary, result.is_ok) == (
        'ok  read /v2/ alone, since no repository is known (name one with --repository ORG/REPO), as user "u"',
        True,
    )


@pytest.mark.parametrize(
    ("name", "asked"), [("team/app", "the tags of team/app"), ("team/app:v1", "the manifest team/app:v1")]
)
async def test_the_named_repository_is_read(tmp_path: Path, registry: TokenRegistry, name: str, asked: str) -> None:
    result = await check(settings(tmp_path, registry, **USER), name)

    assert (result.summary, result.is_ok) == (f'ok  read {asked}, as user "u"', True)


async def test_a_repository_whose_tags_cannot_be_listed_passes(tmp_path: Path, registry: TokenRegistry) -> None:
    registry.script.on("GET", "/v2/team/app/tags/list", error(403, "DENIED"))

    result = await check(settings(tmp_path, registry, **USER), "team/app")

    assert result.is_ok
    assert "the manifest team/app:latest, since the tags are not listed" in result.summary


async def test_a_repository_that_a_sync_has_used_is_read(tmp_path: Path, registry: TokenRegistry) -> None:
    parsed = settings(tmp_path, registry, **USER)
    async with open_accounts(parsed) as accounts, accounts.database.write() as session:
        session.add_all([used("app"), used("gone")])

    result = await check(parsed)

    assert result.summary == 'ok  read the manifest team/app:v1, as user "u"'
    assert "GET /v2/_catalog" not in registry.script.lines()


def used(repository: str) -> SyncJobRow:
    """A sync of this repository to the registry."""
    now = datetime.now(UTC)
    return SyncJobRow(
        request_id="r",
        created_at=now,
        updated_at=now,
        domain_id="d",
        domain_name="d",
        operator_id="o",
        operator_name="o",
        source_region="own",
        namespace="mine",
        repository=repository,
        tag="v1",
        target_region="hub",
        target_namespace="team",
        override=False,
        status="success",
    )


async def test_a_repository_of_the_catalog_is_read(tmp_path: Path, registry: TokenRegistry) -> None:
    registry.script._once.clear()
    registry.script.on("GET", "/v2/_catalog", said({"repositories": ["gone/app", "no name", "team/app"]}))

    assert (await check(settings(tmp_path, registry, **USER))).summary == 'ok  read the tags of team/app, as user "u"'


async def test_a_wrong_password_fails_with_a_hint(tmp_path: Path, registry: TokenRegistry) -> None:
    result = await check(settings(tmp_path, registry, username="u", password="wrong"))

    assert not result.is_ok
    assert "401 UNAUTHORIZED: wrong password when asked to issue a token" in result.summary
    assert result.summary.endswith("; check username and password, or docker_config, in [regions.hub]")


async def test_a_wrong_password_fails_at_a_registry_that_allows_anonymous_access(
    tmp_path: Path, registry: TokenRegistry
) -> None:
    def allow_anonymous(asked: Asked) -> Reply:
        return error(403, "DENIED") if "Authorization" in asked.headers else Reply()

    registry.script.on("GET", "/v2/", *[allow_anonymous] * 10)

    assert not (await check(settings(tmp_path, registry, username="u", password="wrong"))).is_ok


async def test_an_expired_helper_fails(
    tmp_path: Path, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, config = tmp_path / "docker-credential-old", tmp_path / "config.json"
    program.write_text("#!/bin/sh\necho session expired >&2; exit 1\n")
    program.chmod(0o755)
    config.write_text(json.dumps({"credsStore": "old"}))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    result = await check(settings(tmp_path, registry, docker_config=str(config)))

    assert not result.is_ok
    assert re.search("docker-credential-old failed for .* session expired; log in again", result.summary)
    assert result.summary.endswith("or check docker_config in [regions.hub]")


async def test_a_file_without_an_entry_is_named(tmp_path: Path, registry: TokenRegistry) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")

    result = await check(settings(tmp_path, registry, docker_config=str(config)), "team/app")

    assert not result.is_ok
    assert re.search(r"the anonymous user \(.*config\.json has no entry for 127\.0\.0\.1:\d+\) needs", result.summary)


@pytest.mark.parametrize("repository", [None, "team/app", "team/app:v1"])
async def test_a_web_site_is_not_a_registry(tmp_path: Path, repository: str | None) -> None:
    page = Reply(body=b"<html><title>Welcome</title></html>", headers={"Content-Type": "text/html"})
    async with scripted_registry() as site:
        for method in ("GET", "HEAD"):
            site.on(method, "*", *[page] * 50)

        result = await check(settings(tmp_path, TokenRegistry(site), **USER), repository)

    assert not result.is_ok
    assert result.summary.endswith("in [regions.hub]") or "check registry" in result.summary


async def test_an_address_that_answers_404_fails_with_a_hint(tmp_path: Path) -> None:
    async with scripted_registry() as nothing:
        nothing.on("GET", "*", *[Reply(status=404)] * 50)

        result = await check(settings(tmp_path, TokenRegistry(nothing), **USER))

    assert not result.is_ok
    assert result.summary.endswith("; check registry in [regions.hub]: it is not the address of a registry")


async def test_a_missing_repository_fails_with_a_hint(tmp_path: Path, registry: TokenRegistry) -> None:
    result = await check(settings(tmp_path, registry, **USER), "team/gone")

    assert not result.is_ok
    assert result.summary.startswith('repository "team/gone" does not exist; name an existing repository')


async def test_a_registry_that_requires_a_user_fails_without_one(tmp_path: Path, registry: TokenRegistry) -> None:
    registry.basic = True

    result = await check(settings(tmp_path, registry))

    assert not result.is_ok
    assert "requires credentials" in result.summary


async def test_a_registry_that_requires_a_certificate_fails_with_a_hint(
    tmp_path: Path, registry: TokenRegistry
) -> None:
    page = b"<html><head><title>400 No required SSL certificate was sent</title></head></html>"
    reply = Reply(status=400, body=page, headers={"Content-Type": "text/html"})
    registry.script.on("GET", "/v2/", reply)

    result = await check(settings(tmp_path, registry))

    assert not result.is_ok
    assert result.summary.endswith(
        "answered 400 No required SSL certificate was sent; check ca_file, client_certificate and client_key in"
        " [regions.hub]"
    )


async def test_a_region_that_is_not_configured_is_not_found(tmp_path: Path, registry: TokenRegistry) -> None:
    with pytest.raises(NotFound, match="the configuration has hub, own"):
        await check_regions(settings(tmp_path, registry), ["elsewhere"], None)
    (result,) = await check_regions(settings(tmp_path, registry), ["own"], None)
    assert result.region == "own"
