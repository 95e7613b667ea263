"""A real image is pushed with skopeo, copied by one API call, and pulled with skopeo byte for byte unchanged."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from huaweicloudsdkswr.v2 import CreateAuthorizationTokenRequest, CreateSecretRequest

from tagferry.accounts.model import Permission
from tagferry.names import RegionId
from tests.support.debian_image import TAG, DebianImage
from tests.support.deployment import NORTH, SOUTH, Deployment, calling, deployed
from tests.support.docker_registry import PASSWORD, USERNAME, docker_registry
from tests.support.processes import outcome
from tests.support.programs import require_program, skopeo_environment

_PATIENCE = 120
EMBEDDED, DISTRIBUTION = "embedded", "docker-registry"


@asynccontextmanager
async def two_regions(folder: Path, source: str, target: str) -> AsyncIterator[Deployment]:
    """tagferry with these kinds of registry behind its two regions."""
    with ExitStack() as stack:
        regions: dict[str, dict[str, Any]] = {}
        for name, kind in ((NORTH, source), (SOUTH, target)):
            regions[name] = {"listen": ""}
            if kind == DISTRIBUTION:
                own = folder / name
                own.mkdir()
                url = stack.enter_context(docker_registry(own, auth=True)).url
                regions[name] |= {"registry": url, "username": USERNAME, "password": PASSWORD}
        async with deployed(folder / "data", regions=regions) as ferry:
            yield ferry


class Skopeo:
    """skopeo, logged into the registries of a deployment's regions, as the administrator or by another login."""

    def __init__(self, ferry: Deployment, login: str | None = None) -> None:
        self._program = require_program("skopeo")
        self._environment = skopeo_environment(ferry.settings.data_dir / "skopeo")
        self._ferry = ferry
        self._login = login

    def name(self, region: RegionId, repository: str, reference: str = f":{TAG}") -> str:
        return f"docker://{self._ferry.app.services.swr.regions[region].registry_host}/{repository}{reference}"

    def login(self, region: RegionId) -> str:
        if self._login is not None:
            return self._login
        if self._ferry.settings.regions[region].is_embedded:
            return f"{self._ferry.admin.name}:{self._ferry.admin.password}"
        return f"{USERNAME}:{PASSWORD}"

    async def push(self, layout: str, region: RegionId, repository: str) -> None:
        login = ("--dest-tls-verify=false", "--dest-creds", self.login(region))
        await self.run("copy", "--all", *login, layout, self.name(region, repository))

    async def pull(self, region: RegionId, repository: str, directory: Path) -> None:
        login = ("--src-tls-verify=false", "--src-creds", self.login(region))
        await self.run("copy", "--all", *login, self.name(region, repository), f"oci:{directory}:{TAG}")

    async def raw(self, region: RegionId, repository: str, reference: str = f":{TAG}") -> bytes:
        login = ("--tls-verify=false", "--creds", self.login(region))
        return await self.run("inspect", "--raw", *login, self.name(region, repository, reference))

    async def run(self, *arguments: str) -> bytes:
        command = (self._program, "--insecure-policy", *arguments)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=self._environment)
        output, errors = await outcome(process, seconds=_PATIENCE)
        assert process.returncode == 0, errors.decode(errors="replace")
        return output


@pytest.mark.parametrize("target", [EMBEDDED, DISTRIBUTION])
@pytest.mark.parametrize("source", [EMBEDDED, DISTRIBUTION])
async def test_a_multi_platform_image_is_copied_byte_for_byte(
    tmp_path: Path, debian: DebianImage, source: str, target: str
) -> None:
    async with two_regions(tmp_path, source, target) as ferry:
        skopeo = Skopeo(ferry)
        await skopeo.push(debian.skopeo_name, NORTH, "team/debian/base")

        assert await synchronize(ferry) == []

        crossed = await skopeo.raw(SOUTH, "release/debian/base")
        assert crossed == blob(debian.directory, debian.digest)
        assert crossed == await skopeo.raw(NORTH, "team/debian/base")
        children = [child["digest"] for child in json.loads(crossed)["manifests"]]
        assert len(children) == 2
        for digest in children:
            assert await skopeo.raw(SOUTH, "release/debian/base", f"@{digest}") == blob(debian.directory, digest)
        await skopeo.pull(SOUTH, "release/debian/base", tmp_path / "pulled")
        assert contents(tmp_path / "pulled") == contents(debian.directory)


@pytest.mark.parametrize("operation", ["create_secret", "create_authorization_token"])
async def test_a_login_secret_pushes_and_pulls_until_it_expires(
    tmp_path: Path, debian: DebianImage, operation: str
) -> None:
    async with two_regions(tmp_path, EMBEDDED, EMBEDDED) as ferry:
        _, key = await ferry.user("carol", team=Permission.EDIT)
        request = {
            "create_secret": CreateSecretRequest(projectname=NORTH),
            "create_authorization_token": CreateAuthorizationTokenRequest(),
        }[operation]
        given = await calling(getattr(ferry.sdk(key=key), operation), request)
        _, _, _, username, _, password = given.x_swr_dockerlogin.split()
        (host,) = given.auths
        skopeo = Skopeo(ferry, f"{username}:{password}")

        await skopeo.push(debian.skopeo_name, NORTH, "team/debian/base")
        await skopeo.pull(NORTH, "team/debian/base", tmp_path / "pulled")

        assert contents(tmp_path / "pulled") == contents(debian.directory)
        login = ("login", "--tls-verify=false", "--authfile", str(tmp_path / "made.json"))
        await skopeo.run(*login, "--username", username, "--password", password, host)
        written = json.dumps({"auths": {host: {"auth": given.auths[host].auth}}})
        assert json.loads((tmp_path / "made.json").read_text()) == json.loads(written)
        (tmp_path / "given.json").write_text(written)
        inspect = ("inspect", "--raw", "--tls-verify=false", "--authfile", str(tmp_path / "given.json"))
        assert await skopeo.run(*inspect, skopeo.name(NORTH, "team/debian/base")) == blob(
            debian.directory, debian.digest
        )
        with pytest.raises(AssertionError, match="403"):
            await skopeo.push(debian.skopeo_name, NORTH, "release/debian/base")
        with ferry.later(timedelta(hours=6)):
            with pytest.raises(AssertionError, match="has expired"):
                await skopeo.raw(NORTH, "team/debian/base")
            with pytest.raises(AssertionError, match="has expired"):
                await skopeo.push(debian.skopeo_name, NORTH, "team/debian/late")


async def synchronize(ferry: Deployment) -> list[str]:
    answer = await ferry.http(
        "POST",
        "/v2/manage/namespaces/team/repos/debian$base/sync_images",
        body={"imageTag": [TAG], "override": False, "remoteNamespace": "release", "remoteRegionId": SOUTH},
        headers={"X-Auth-Token": await ferry.token()},
    )
    assert answer.status == 200, answer.content
    failed: list[str] = answer.document
    return failed


def blob(layout: Path, digest: str) -> bytes:
    algorithm, _, encoded = digest.partition(":")
    return (layout / "blobs" / algorithm / encoded).read_bytes()


def contents(layout: Path) -> dict[str, bytes]:
    """Return everything in a layout, by digest."""
    return {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}
