"""Expired credentials are renewed after a refusal by the registry or its token server."""

import asyncio
import json
from pathlib import Path

import pytest

from tagferry.errors import Refused, Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.remote import store as client
from tagferry.remote.transport.docker_config import DockerCredentials
from tests.support.images import image
from tests.support.scripted_registry import ScriptedRegistry, error
from tests.support.token_registry import TokenRegistry
from tests.unit.remote.conftest import Opening

APP, V1 = RepositoryName("team/app"), Tag("v1")
SAMPLE = image()


@pytest.fixture
def registry(script: ScriptedRegistry) -> TokenRegistry:
    registry = TokenRegistry(script, hides=True)
    registry.hold(APP, V1, SAMPLE)
    return registry


class Helper:
    """A credential helper with a changeable password, and the count of its runs."""

    def __init__(self, folder: Path, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
        self._answer, self._runs, self._host = folder / "answer", folder / "runs", registry.url.partition("://")[2]
        program = folder / "docker-credential-changing"
        program.write_text(f'#!/bin/sh\ncat >/dev/null; echo x >>"{self._runs}"; . "{self._answer}"\n')
        program.chmod(0o755)
        self.config = folder / "config.json"
        self.config.write_text(json.dumps({"credHelpers": {self._host: "changing"}}))
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        self.give("p")

    @property
    def runs(self) -> int:
        return len(self._runs.read_text().splitlines()) if self._runs.exists() else 0

    def give(self, password: str) -> None:
        self._answer.write_text(f"""echo '{{"Username":"u","Secret":"{password}"}}'""")

    def fail(self, reason: str) -> None:
        self._answer.write_text(f"echo '{reason}' >&2; exit 1")

    @property
    def credentials(self) -> DockerCredentials:
        return DockerCredentials(self.config, self._host)


@pytest.fixture
def helper(tmp_path: Path, registry: TokenRegistry, monkeypatch: pytest.MonkeyPatch) -> Helper:
    return Helper(tmp_path, registry, monkeypatch)


@pytest.mark.parametrize("basic", [False, True], ids=["token server", "registry"])
async def test_a_helper_is_asked_again_where_its_credentials_have_expired(
    registry: TokenRegistry, opened: Opening, helper: Helper, basic: bool
):
    registry.basic, registry.hides = basic, False
    store = opened(credentials=helper.credentials)
    await store.head_manifest(APP, V1)
    registry.passwords = {"u": "new"}
    registry._tokens.clear()
    helper.give("new")

    found = await asyncio.gather(*(store.head_manifest(APP, V1) for _ in range(20)))

    assert {one.digest if one else None for one in found} == {SAMPLE.digest}
    assert helper.runs == 2


async def test_a_helper_that_keeps_giving_what_is_refused_is_not_asked_all_the_time(
    registry: TokenRegistry, opened: Opening, helper: Helper
):
    helper.give("wrong")
    store = opened(credentials=helper.credentials)

    for _ in range(5):
        with pytest.raises(Refused, match="401 UNAUTHORIZED"):
            await store.head_manifest(APP, V1)

    assert helper.runs == 2
    assert registry.script.lines().count("GET /token") <= 2, "and a wrong password does not lock the account"


async def test_a_helper_s_error_is_reported_by_the_request(registry: TokenRegistry, opened: Opening, helper: Helper):
    helper.fail("session expired, run login")
    store = opened(credentials=helper.credentials)

    with pytest.raises(Unavailable, match=r"docker-credential-changing failed for .* session expired, run login"):
        await store.head_manifest(APP, V1)
    assert registry.script.asked == []
    assert helper.runs == 1


async def test_a_403_for_expired_credentials_renews_them(
    registry: TokenRegistry, opened: Opening, helper: Helper, script: ScriptedRegistry
):
    store = opened(credentials=helper.credentials)
    await store.head_manifest(APP, V1)
    registry.passwords = {"u": "new"}
    helper.give("new")
    script.on("HEAD", "/v2/*", error(403, "DENIED", "your token has expired"))

    assert await store.head_manifest(APP, V1) is not None
    assert helper.runs == 2


async def test_each_part_of_a_registry_has_the_token_of_its_own_credentials(
    registry: TokenRegistry, opened: Opening, tmp_path: Path
):
    host = registry.url.partition("://")[2]
    registry.passwords = {"a": "1", "b": "2"}
    registry.grants = lambda user, scope: "pull" if scope.startswith(f"repository:team-{user}/") else ""
    auths = {f"{host}/team-{user}": {"username": user, "password": word} for user, word in registry.passwords.items()}
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": auths}))
    store = opened(credentials=DockerCredentials(path, host))

    for user in ("a", "b"):
        registry.hold(f"team-{user}/app", V1, SAMPLE)
        assert await store.head_manifest(RepositoryName(f"team-{user}/app"), V1) is not None


async def test_official_images_of_docker_hub_are_asked_for_by_their_full_name(
    registry: TokenRegistry, opened: Opening, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client, "is_hub", lambda url: True)
    registry.hides = False
    registry.grants = lambda user, scope: "pull"
    registry.hold("library/alpine", V1, SAMPLE)
    store, alpine = opened(), RepositoryName("alpine")

    assert (await store.get_manifest(alpine, V1)).digest == SAMPLE.digest
    assert [tag async for tag in store.list_tags(alpine)] == [V1]
    assert [record.tag for record in await store.describe_tags(alpine)] == [V1]
    assert set(registry.scopes) == {"repository:library/alpine:pull"}
