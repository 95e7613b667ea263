"""`tagferry region check` asks a registry what a synchronization would ask it."""

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
    """One that refuses the catalog to everyone, as most do."""
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
    assert (own.region, own.told, own.is_fine) == ("own", "ok", True)
    return result


async def test_a_registry_that_refuses_everyone_at_its_door_passes(tmp_path: Path, registry: TokenRegistry) -> None:
    def refuse(asked: Asked) -> Reply:
        return registry.challenge()

    registry.script.on("GET", "/v2/", *[refuse] * 10)

    result = await check(settings(tmp_path, registry, **USER))

    assert (result.told, result.is_fine) == (
        'ok  asked for /v2/ alone, since no repository is known (name one with --repository ORG/REPO), as user "u"',
        True,
    )


@pytest.mark.parametrize(
    ("name", "asked"), [("team/app", "the tags of team/app"), ("team/app:v1", "the manifest team/app:v1")]
)
async def test_the_repository_that_is_named_is_asked_for(
    tmp_path: Path, registry: TokenRegistry, name: str, asked: str
) -> None:
    result = await check(settings(tmp_path, registry, **USER), name)

    assert (result.told, result.is_fine) == (f'ok  asked for {asked}, as user "u"', True)


async def test_a_repository_that_may_be_read_but_not_listed_passes(tmp_path: Path, registry: TokenRegistry) -> None:
    registry.script.on("GET", "/v2/team/app/tags/list", error(403, "DENIED"))

    result = await check(settings(tmp_path, registry, **USER), "team/app")

    assert result.is_fine
    assert "the manifest team/app:latest, since the tags are not listed" in result.told


async def test_a_repository_that_a_sync_has_used_is_asked_for(tmp_path: Path, registry: TokenRegistry) -> None:
    parsed = settings(tmp_path, registry, **USER)
    async with open_accounts(parsed) as accounts, accounts.database.write() as session:
        session.add_all([used("app"), used("gone")])

    result = await check(parsed)

    assert result.told == 'ok  asked for the manifest team/app:v1, as user "u"'
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


async def test_a_repository_of_the_catalog_is_asked_for(tmp_path: Path, registry: TokenRegistry) -> None:
    registry.script._once.clear()
    registry.script.on("GET", "/v2/_catalog", said({"repositories": ["gone/app", "no name", "team/app"]}))

    assert (await check(settings(tmp_path, registry, **USER))).told == 'ok  asked for the tags of team/app, as user "u"'


async def test_a_wrong_password_fails_and_is_told_with_what_to_do(tmp_path: Path, registry: TokenRegistry) -> None:
    result = await check(settings(tmp_path, registry, username="u", password="wrong"))

    assert not result.is_fine
    assert "401 UNAUTHORIZED: wrong password when asked to give a token" in result.told
    assert result.told.endswith("; check username and password, or docker_config, in [regions.hub]")


async def test_a_wrong_password_fails_where_the_registry_does_not_ask_for_it(
    tmp_path: Path, registry: TokenRegistry
) -> None:
    def let_the_unnamed_in(asked: Asked) -> Reply:
        return error(403, "DENIED") if "Authorization" in asked.headers else Reply()

    registry.script.on("GET", "/v2/", *[let_the_unnamed_in] * 10)

    assert not (await check(settings(tmp_path, registry, username="u", password="wrong"))).is_fine


async def test_an_expired_helper_fails(
    tmp_path: Path, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, config = tmp_path / "docker-credential-old", tmp_path / "config.json"
    program.write_text("#!/bin/sh\necho session expired >&2; exit 1\n")
    program.chmod(0o755)
    config.write_text(json.dumps({"credsStore": "old"}))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    result = await check(settings(tmp_path, registry, docker_config=str(config)))

    assert not result.is_fine
    assert re.search("docker-credential-old failed for .* session expired; renew what it needs", result.told)
    assert result.told.endswith("or check docker_config in [regions.hub]")


async def test_a_file_without_an_entry_is_named(tmp_path: Path, registry: TokenRegistry) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")

    result = await check(settings(tmp_path, registry, docker_config=str(config)), "team/app")

    assert not result.is_fine
    assert re.search(r"the anonymous user \(.*config\.json has no entry for 127\.0\.0\.1:\d+\) needs", result.told)


@pytest.mark.parametrize("repository", [None, "team/app", "team/app:v1"])
async def test_a_web_site_is_no_registry(tmp_path: Path, repository: str | None) -> None:
    page = Reply(body=b"<html><title>Welcome</title></html>", headers={"Content-Type": "text/html"})
    async with scripted_registry() as site:
        for method in ("GET", "HEAD"):
            site.on(method, "*", *[page] * 50)

        result = await check(settings(tmp_path, TokenRegistry(site), **USER), repository)

    assert not result.is_fine
    assert result.told.endswith("in [regions.hub]") or "check registry" in result.told


async def test_an_address_where_nothing_is_known_is_told_with_what_to_do(tmp_path: Path) -> None:
    async with scripted_registry() as nothing:
        nothing.on("GET", "*", *[Reply(status=404)] * 50)

        result = await check(settings(tmp_path, TokenRegistry(nothing), **USER))

    assert not result.is_fine
    assert result.told.endswith("; check registry in [regions.hub]: no registry answers there")


async def test_what_is_missing_is_told_with_what_to_do(tmp_path: Path, registry: TokenRegistry) -> None:
    result = await check(settings(tmp_path, registry, **USER), "team/gone")

    assert not result.is_fine
    assert result.told.startswith("repository team/gone does not exist; name a repository")


async def test_a_registry_that_wants_a_user_fails_without_one(tmp_path: Path, registry: TokenRegistry) -> None:
    registry.basic = True

    result = await check(settings(tmp_path, registry))

    assert not result.is_fine
    assert "asks for credentials" in result.told


async def test_a_registry_that_wants_a_certificate_is_told_with_its_settings(
    tmp_path: Path, registry: TokenRegistry
) -> None:
    page = b"<html><head><title>400 No required SSL certificate was sent</title></head></html>"
    reply = Reply(status=400, body=page, headers={"Content-Type": "text/html"})
    registry.script.on("GET", "/v2/", reply)

    result = await check(settings(tmp_path, registry))

    assert not result.is_fine
    assert result.told.endswith(
        "answered 400 No required SSL certificate was sent; check ca_file, client_certificate and client_key in"
        " [regions.hub]"
    )


async def test_a_region_that_is_not_configured_is_not_found(tmp_path: Path, registry: TokenRegistry) -> None:
    with pytest.raises(NotFound, match="the known regions are hub, own"):
        await check_regions(settings(tmp_path, registry), ["elsewhere"], None)
    (result,) = await check_regions(settings(tmp_path, registry), ["own"], None)
    assert result.region == "own"
