"""The cost of registry tokens: real clients request few, and other requests are the same as with a login each time."""

import asyncio
import base64
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from tagferry.accounts.model import Permission
from tagferry.accounts.repositories import RepositoryMetadata
from tagferry.names import RepositoryName, Tag
from tests.acceptance.test_skopeo import Skopeo, contents
from tests.support import images
from tests.support.debian_image import DebianImage
from tests.support.deployment import NORTH, SOUTH, TEAM, Deployment, deployed, name_in
from tests.support.request_log import Asked, RequestLog, logged

APP = RepositoryName("team/app")
SHARED = [images.layer(f"shared {number}", 1000) for number in range(4)]
TAGS = {
    Tag(f"v{number}"): images.image(*SHARED, images.layer(f"own {number}"), seed=str(number)) for number in range(6)
}
BASIC = 'Basic realm="tagferry", charset="UTF-8"'


def scopes(requests: list[Asked]) -> list[tuple[str, ...]]:
    """The scopes of each token request."""
    return [tuple(value for name, value in parse_qsl(one.query) if name == "scope") for one in requests]


async def test_anonymous_clients_pull_public_repositories_only(tmp_path: Path, debian: DebianImage) -> None:
    async with deployed(tmp_path / "data") as ferry, logged(ferry.app.listeners[0].app) as (url, log):
        admin = await ferry.app.accounts.users.find(ferry.admin.name)
        name = name_in("team", "debian/base")
        await ferry.app.services.swr.repositories.create(admin, NORTH, name, RepositoryMetadata(is_public=True))
        skopeo, host = Skopeo(ferry), url.removeprefix("http://")
        for repository in ("debian/base", "secret"):
            await skopeo.push(debian.skopeo_name, NORTH, f"team/{repository}")

        async def pull(repository: str, target: Path) -> None:
            source = f"docker://{host}/team/{repository}:{debian.skopeo_name.rpartition(':')[2]}"
            await skopeo.run("copy", "--all", "--src-no-creds", "--src-tls-verify=false", source, f"oci:{target}:x")

        await pull("debian/base", tmp_path / "pulled")

        assert contents(tmp_path / "pulled") == contents(debian.directory)
        assert scopes(log.tokens) == [("repository:team/debian/base:pull",)]
        with pytest.raises(AssertionError, match="without a login only public repositories can be read"):
            await pull("secret", tmp_path / "refused")
        layout = f"oci:{debian.directory}:{debian.skopeo_name.rpartition(':')[2]}"
        target = f"docker://{host}/team/debian/base:mine"
        with pytest.raises(AssertionError, match="without a login only public repositories can be read"):
            await skopeo.run("copy", "--dest-no-creds", "--dest-tls-verify=false", layout, target)


@pytest.mark.skipif(shutil.which("docker") is None, reason="the program docker is not on the PATH")
async def test_docker_reads_public_repositories_without_a_login_and_others_with_one(tmp_path: Path) -> None:
    """Run the part of docker's command line that needs no daemon."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "docker")}

    async def run(*arguments: str, given: str = "") -> tuple[int | None, str]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "docker", *arguments, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=environment
        )
        output, _ = await asyncio.wait_for(process.communicate(given.encode()), 60)
        return process.returncode, output.decode()

    async with deployed(tmp_path / "data") as ferry:
        admin = await ferry.app.accounts.users.find(ferry.admin.name)
        await ferry.app.services.swr.repositories.create(
            admin, NORTH, name_in("team", "open"), RepositoryMetadata(is_public=True)
        )
        for repository in ("open", "secret"):
            await images.push(ferry.store(NORTH), name_in("team", repository), images.image(), Tag("v1"))
        host = ferry.urls[NORTH].removeprefix("http://")
        inspect = ("manifest", "inspect", "--insecure")

        assert (await run(*inspect, f"{host}/team/open:v1"))[0] == 0
        assert (await run(*inspect, f"{host}/team/secret:v1"))[0] == 1
        login = ("login", "-u", ferry.admin.name, "--password-stdin", host)
        status, told = await run(*login, given="a guess")
        assert (status, "the user name or the password is wrong" in told) == (1, True)
        assert (await run(*login, given=ferry.admin.password))[0] == 0
        assert (await run(*inspect, f"{host}/team/secret:v1"))[0] == 0
        kept = json.loads((tmp_path / "docker" / "config.json").read_text())["auths"][host]
        assert base64.b64decode(kept["auth"]).decode() == f"{ferry.admin.name}:{ferry.admin.password}"


async def test_skopeo_requests_one_token_for_a_push(tmp_path: Path, debian: DebianImage) -> None:
    async with deployed(tmp_path / "data") as ferry, logged(ferry.app.listeners[0].app) as (url, log):
        password, _ = await ferry.user("editor", team=Permission.EDIT)
        login = ("--dest-tls-verify=false", "--dest-creds", f"editor:{password}")
        target = f"docker://{url.removeprefix('http://')}/team/debian:v1"
        await Skopeo(ferry).run("copy", "--all", *login, debian.skopeo_name, target)

        asked = scopes(log.tokens)
        assert asked == [("repository:team/debian:pull,push",)]
        assert {one.status for one in log.requests if one.path != "/v2/"} <= {200, 201, 202, 404}


@asynccontextmanager
async def two_deployments(folder: Path, challenge: str | None) -> AsyncIterator[tuple[Deployment, RequestLog]]:
    """A deployment whose south is another one's embedded registry, reached over HTTP with the login of an editor."""
    async with deployed(folder / "far", regions={SOUTH: {"listen": ""}}) as far:
        password, _ = await far.user("editor")
        await far.grant("editor", SOUTH, TEAM, Permission.EDIT)
        async with logged(far.app.listeners[0].app, challenge) as (url, log):
            reached = {"registry": url, "username": "editor", "password": password}
            # Checks of the registry's health would be counted, too.
            unchecked = {"health": {"check_interval_seconds": 0}}
            async with deployed(folder / "near", regions={NORTH: {"listen": ""}, SOUTH: reached}, **unchecked) as near:
                for tag, sample in TAGS.items():
                    await images.push(near.store(NORTH), APP, sample, tag)
                yield near, log


async def synchronize(ferry: Deployment, *tags: Tag) -> None:
    jobs = await ferry.ended_jobs(APP, await ferry.start_sync(APP, tags, TEAM))
    assert {job["status"] for job in jobs} == {"success"}


async def test_a_copy_to_an_embedded_registry_costs_one_token_and_no_other_request(tmp_path: Path) -> None:
    first, *others = TAGS
    logs = {}
    for challenge in (None, BASIC):
        async with two_deployments(tmp_path / str(challenge is None), challenge) as (near, log):
            await synchronize(near, first)
            assert len(log.tokens) == (1 if challenge is None else 0)
            await synchronize(near, *others)
            await synchronize(near, *TAGS)
            logs[challenge] = log

    tokens, logins = logs[None], logs[BASIC]
    assert scopes(tokens.tokens) == [("repository:team/app:pull,push",)]
    # How often is a matter of how many jobs start together.
    assert tokens.answered.keys() == logins.answered.keys()
    assert [one.status for one in tokens.requests].count(401) == [one.status for one in logins.requests].count(401) == 1
