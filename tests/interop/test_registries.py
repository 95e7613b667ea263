"""Other registries as regions: a real image with its signatures is copied to each and back, and deleted there."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tagferry.cli.region_check import check_regions
from tagferry.names import Digest, RegionId, RepositoryName, Tag
from tagferry.oci.images import ImageStore
from tagferry.oci.referrer_tags import cosign_tags
from tests.interop.programs import INTEROP, Client
from tests.interop.registries import REGISTRIES, Running, with_tokens
from tests.support.debian_image import TAG, DebianImage
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, deployed
from tests.support.images import artifact, image, layer, push
from tests.support.programs import require_program
from tests.support.token_server import LOGIN, SERVICE

pytestmark = INTEROP

APP, BACK = RepositoryName(f"{TEAM}/app"), RepositoryName(f"{RELEASE}/app")
IN_PLACE = 4
"""The maximum number of requests to a registry for an up-to-date tag with signatures: the tag, the list of tags,
the referrers or the tag that lists them, and cosign's tag."""


@asynccontextmanager
async def ferry_to(running: Running, folder: Path, **more: Any) -> AsyncIterator[Deployment]:
    """tagferry with an embedded region in the north, and this registry in the south."""
    south = {"listen": "", "organizations": "open", **running.settings, **more}
    async with deployed(folder / "ferry", regions={NORTH: {"listen": ""}, SOUTH: south}) as ferry:
        yield ferry


@pytest.mark.parametrize("name", REGISTRIES)
async def test_an_image_is_copied_with_its_signatures_there_and_back_and_deleted(
    name: str, tmp_path: Path, debian: DebianImage
):
    skopeo = Client(require_program("skopeo"), tmp_path)
    (tmp_path / "registry").mkdir()
    async with REGISTRIES[name](tmp_path / "registry") as running, ferry_to(running, tmp_path) as ferry:
        north, south = ferry.store(NORTH), ferry.store(SOUTH)
        signatures = await signed(ferry, skopeo, debian)

        await sync(ferry, NORTH, APP, SOUTH, TEAM)

        there = f"docker://{running.host}/{APP}"
        pulling = [f"--src-{option[2:]}" if option.startswith("--") else option for option in running.skopeo]
        await skopeo.run("--insecure-policy", "copy", "--all", *pulling, f"{there}:{TAG}", "oci:pulled:back")
        assert blobs(tmp_path / "pulled") == blobs(debian.directory)
        for reference in signatures:
            raw = await skopeo.run("inspect", "--raw", *running.skopeo, f"{there}{reference}")
            assert Digest.of(raw.encode()) == signatures[reference]
        with counted(south) as asked:
            await sync(ferry, NORTH, APP, SOUTH, TEAM)
        assert len(asked) <= IN_PLACE, asked
        (checked,) = await check_regions(ferry.settings, [SOUTH], None)
        assert checked.is_ok, checked.summary

        await sync(ferry, SOUTH, APP, NORTH, RELEASE)

        tags = [TAG, cosign_tags(debian.digest)[0]]
        assert [await digest(north, BACK, tag) for tag in tags] == [await digest(north, APP, tag) for tag in tags]
        assert [one.digest for one in await north.list_referrers(BACK, debian.digest)] == [
            one.digest for one in await north.list_referrers(APP, debian.digest)
        ]

        path = f"/v2/manage/namespaces/{TEAM}/repos/app"
        token = {"X-Auth-Token": await ferry.token(SOUTH)}
        assert (await ferry.http("DELETE", path, region=SOUTH, headers=token)).status == 204
        code, _, errors = await skopeo.attempt("inspect", "--raw", *running.skopeo, f"{there}:{TAG}")
        assert (code, "manifest unknown" in errors) == (1, True), errors
        assert await south.head_manifest(APP, debian.digest) is None
        assert (await ferry.http("GET", path, region=SOUTH, headers=token)).status == 404


@pytest.mark.parametrize(
    "ways",
    [
        {"redirects": True},
        {"called": "access_token"},
        {"stated_lifetime": None},
        {"wrong_answers": [(500, b""), (503, b""), (200, b"<html>"), (429, b"")]},
    ],
    ids=["redirecting realm", "access_token", "untold lifetime", "wrong first answers"],
)
async def test_all_forms_of_token_responses_are_accepted(ways: dict[str, Any], tmp_path: Path):
    async with with_tokens(tmp_path) as running, ferry_to(running, tmp_path) as ferry:
        assert running.tokens is not None
        await push(ferry.store(NORTH), APP, image(), Tag(TAG))
        for way, value in ways.items():
            setattr(running.tokens, way, value)

        await sync(ferry, NORTH, APP, SOUTH, TEAM)
        await sync(ferry, SOUTH, APP, NORTH, RELEASE)

        assert await digest(ferry.store(NORTH), BACK, Tag(TAG)) == image().digest


async def test_a_token_that_expires_in_the_middle_is_replaced(tmp_path: Path):
    layers = [layer(f"layer {number}") + bytes(30_000) for number in range(12)]
    async with with_tokens(tmp_path) as running, ferry_to(running, tmp_path, max_bytes_per_second=60_000) as ferry:
        assert running.tokens is not None
        running.tokens.lifetime, running.tokens.stated_lifetime = 3, 300
        await push(ferry.store(NORTH), APP, image(*layers), Tag(TAG))

        await sync(ferry, NORTH, APP, SOUTH, TEAM)
        pushes = len(running.tokens.granted)
        await sync(ferry, SOUTH, APP, NORTH, RELEASE)

        assert pushes > 1
        assert await digest(ferry.store(NORTH), BACK, Tag(TAG)) == image(*layers).digest


async def test_a_pull_token_is_not_used_to_push(tmp_path: Path):
    async with with_tokens(tmp_path) as running, ferry_to(running, tmp_path) as ferry, aiohttp.ClientSession() as http:
        tokens = running.tokens
        assert tokens is not None
        query = {"service": SERVICE, "scope": f"repository:{APP}:pull"}
        async with http.get(tokens.url, params=query, headers={"Authorization": LOGIN}) as answer:
            token = (await answer.json())["token"]
        upload = f"{running.settings['registry']}/v2/{APP}/blobs/uploads/"
        async with http.post(upload, headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 401
        tokens.granted.clear()
        await push(ferry.store(NORTH), APP, image(), Tag(TAG))

        await sync(ferry, NORTH, APP, SOUTH, TEAM)

        actions = {scope.rpartition(":")[2] for scopes in tokens.granted for scope in scopes if "repository:" in scope}
        assert "pull,push" in actions


@pytest.mark.parametrize(
    ("name", "without", "told"),
    [
        (
            "docker-registry behind nginx with client certificates",
            ("client_certificate", "client_key"),
            "answered 400 No required SSL certificate was sent",
        ),
        ("docker-registry behind nginx", ("ca_file",), "set ca_file to trust it"),
        ("docker-registry with htpasswd behind nginx", ("username", "password"), "requires credentials"),
    ],
)
async def test_an_error_names_the_setting_that_is_missing_to_reach_a_registry(
    name: str, without: Sequence[str], told: str, tmp_path: Path
):
    (tmp_path / "registry").mkdir()
    async with REGISTRIES[name](tmp_path / "registry") as running:
        known = {setting: value for setting, value in running.settings.items() if setting not in without}
        async with ferry_to(Running(known), tmp_path) as ferry:
            await push(ferry.store(NORTH), APP, image(), Tag(TAG))

            (job,) = await ferry.ended_jobs(APP, await ferry.start_sync(APP, [Tag(TAG)], TEAM))

            assert (job["status"], told in job["reason"]) == ("failed", True), job["reason"]
            (checked,) = await check_regions(ferry.settings, [SOUTH], None)
            assert (checked.is_ok, told in checked.summary) == (False, True), checked.summary


async def signed(ferry: Deployment, skopeo: Client, debian: DebianImage) -> dict[str, Digest]:
    """Push the image to the north, with a signature of each kind; returns these by their references."""
    here = f"{ferry.app.services.swr.regions[NORTH].registry_host}/{APP}:{TAG}"
    login = ("--dest-tls-verify=false", "--dest-creds", f"{ferry.admin.name}:{ferry.admin.password}")
    await skopeo.run("--insecure-policy", "copy", "--all", *login, debian.skopeo_name, f"docker://{here}")
    store = ferry.store(NORTH)
    subject = await store.get_manifest(APP, debian.digest)
    referrer, cosigned = artifact(subject=subject), image(seed="signed by cosign")
    cosign_tag = cosign_tags(debian.digest)[0]
    await push(store, APP, referrer)
    await push(store, APP, cosigned, cosign_tag)
    return {f"@{referrer.digest}": referrer.digest, f":{cosign_tag}": cosigned.digest}


async def sync(
    ferry: Deployment, source: RegionId, repository: RepositoryName, target: RegionId, namespace: str
) -> None:
    """Synchronize the tag with the source's management API, and wait for its success."""
    path = f"/v2/manage/namespaces/{repository.namespace}/repos/{repository.repository}"
    token = {"X-Auth-Token": await ferry.token(source)}
    body = {"imageTag": [TAG], "override": False, "remoteNamespace": namespace, "remoteRegionId": target}
    answer = await ferry.http("POST", f"{path}/sync_images", region=source, body=body, headers=token)
    assert (answer.status, json.loads(answer.content or b"[]")) == (200, []), answer.content


def blobs(layout: Path) -> dict[str, bytes]:
    """Return everything in a layout, by digest."""
    return {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}


async def digest(store: ImageStore, repository: RepositoryName, tag: str) -> Digest | None:
    found = await store.head_manifest(repository, Tag(tag))
    return found.digest if found else None


@contextmanager
def counted(store: Any) -> Iterator[list[str]]:
    """Record the requests that a remote store sends meanwhile, to its registry and for tokens."""
    asked: list[str] = []
    send = store._transport._exchange.send

    async def noting(call: Any, url: str, *arguments: Any, **options: Any) -> Any:
        asked.append(f"{call.method} {url}")
        return await send(call, url, *arguments, **options)

    store._transport._exchange.send = noting
    try:
        yield asked
    finally:
        store._transport._exchange.send = send
