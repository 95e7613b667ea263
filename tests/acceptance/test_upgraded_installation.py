"""An installation of the version before names were standardized works with this one.

`upgrade/write_fixture.py` says how the installation was made.
"""

import base64
import json
import os
import re
import sqlite3
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from tagferry.cli.client import ManagementClient
from tagferry.names import Namespace, Repository, RepositoryName, Tag
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tagferry.settings.renames import RENAMED_SETTINGS
from tests.acceptance.served import Served, serving, tagferry
from tests.support import images
from tests.support.deployment import eventually
from tests.support.docker_registry import docker_registry
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port

pytestmark = pytest.mark.long

FIXTURES = Path(__file__).parent / "upgrade"
NORTH, SOUTH, FAR = "cn-north-4", "cn-north-208", "eu-west-1"
TEAM, APP = Namespace("team"), Repository("app")
REPOSITORY = "/v2/manage/namespaces/team/repos/app"
MIGRATION_SECONDS = 120.0
NEW = images.image(seed="pushed after the upgrade")


@dataclass(frozen=True)
class Installation:
    """The restored installation.

    Attributes:
        secrets: what the old version showed or gave out.
        environment: the addresses and the database of this test; the configuration file is as it was written.
    """

    folder: Path
    secrets: Mapping[str, str]
    environment: dict[str, str]
    urls: Mapping[str, str]

    async def get(self, path: str, *, region: str = NORTH) -> Any:
        """Ask the management API with the token that the old version issued."""
        headers = {"X-Auth-Token": self.secrets["admin token"]}
        async with aiohttp.ClientSession() as http, http.get(f"{self.urls[region]}{path}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def log_in(self, name: str) -> int:
        """Request an IAM token with the password of a user; returns the status."""
        user = {"name": name, "password": self.secrets[f"{name} password"]}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.urls[NORTH]}/v3/auth/tokens", json=body) as answer,
        ):
            return answer.status

    def client(self, name: str) -> ManagementClient:
        """Return a client that signs with a user's access key."""
        return ManagementClient(
            self.urls[NORTH], self.secrets[f"{name} access key"], self.secrets[f"{name} secret key"]
        )

    @asynccontextmanager
    async def registry(self, name: str, region: str = NORTH) -> AsyncIterator[RemoteStore]:
        """Use an embedded registry over HTTP with a user's password."""
        credentials = Credentials(username=name, password=self.secrets[f"{name} password"])
        store = RemoteStore(Endpoint(name=region, url=self.urls[region], credentials=credentials))
        try:
            yield store
        finally:
            await store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    """Restore an installation with its database."""
    fixture, data = FIXTURES / request.param, tmp_path / "tagferry-data"
    (tmp_path / "tagferry.toml").write_text((fixture / "tagferry.toml").read_text())
    restore_files(json.loads((fixture / "files.json").read_text()), data)
    dump = (fixture / "database.sql").read_text()
    urls = {region: f"http://127.0.0.1:{free_port()}" for region in (NORTH, SOUTH)}
    environment = {f"TAGFERRY_REGIONS__{name}__LISTEN": url.removeprefix("http://") for name, url in urls.items()}
    if request.param == "sqlite":
        with closing(sqlite3.connect(data / "tagferry.db")) as database:
            database.executescript(dump)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = environment["TAGFERRY_DATABASE_URL"] = server.url(server.new_database())
        with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
            connection.execute(dump.encode())
    return Installation(tmp_path, json.loads((fixture / "secrets.json").read_text()), environment, urls)


def restore_files(files: Mapping[str, str], folder: Path) -> None:
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir()
        elif content.startswith("="):
            os.link(folder / content[1:], path)
        else:
            path.write_bytes(base64.b64decode(content))


def former_keys(folder: Path) -> list[str]:
    """Return the former keys that the configuration file uses."""
    document = tomllib.loads((folder / "tagferry.toml").read_text())
    sections = {
        **{f"{name}.": ((name,), document[name]) for name in ("sync", "retention", "limits")},
        **{f"regions.{name}.": (("regions", "*"), region) for name, region in document["regions"].items()},
        **{f"webhooks.{index}.": (("webhooks", "*"), hook) for index, hook in enumerate(document["webhooks"])},
    }
    return [
        f"{prefix}{name}"
        for prefix, (section, values) in sections.items()
        for name in values
        if name in RENAMED_SETTINGS.get(section, {})
    ]


def warned(served: Served) -> list[str]:
    """Return the former keys that the server has logged."""
    lines = [line for line in served.log.read_text().splitlines() if "a setting has a new name" in line]
    return [re.findall(r"\bold=(\S+)", line)[0] for line in lines]


async def test_an_installation_with_former_names_is_upgraded(installation: Installation):
    (installation.folder / "far").mkdir()
    with docker_registry(installation.folder / "far") as far:
        installation.environment[f"TAGFERRY_REGIONS__{FAR}__REGISTRY"] = far.url
        # All migrations run at this start.
        started = serving(
            installation.folder, installation.urls[NORTH], installation.environment, start_limit=MIGRATION_SECONDS
        )
        with started as served:
            assert sorted(warned(served)) == sorted(former_keys(installation.folder))
            assert len(warned(served)) > 20
            await require_records(installation)
            await require_jobs(installation, far.url)
            await require_images(installation)
    assert tagferry(installation.folder, "org", "list", SOUTH, environment=installation.environment).returncode == 0


async def require_records(old: Installation) -> None:
    """Users authenticate as before, and everything that was recorded is listed."""
    assert [await old.log_in(name) for name in ("admin", "carol")] == [201, 201]
    listed = await old.get("/v2/manage/namespaces")
    assert [(one["name"], one["auth"]) for one in listed["namespaces"]] == [("archive", 7), ("team", 7)]
    shown = await old.get("/v2/manage/namespaces/team/access")
    assert [(one["user_name"], one["auth"]) for one in shown["others_auths"]] == [("carol", 3)]
    shown = await old.get(f"{REPOSITORY}/access")
    assert ("carol", 7) in [(one["user_name"], one["auth"]) for one in shown["others_auths"]]
    repository = await old.get(REPOSITORY)
    assert (repository["description"], repository["category"]) == ("the team's application", "linux")
    shares = await old.get("/v2/manage/namespaces/team/repositories/app/access-domains")
    assert [(share["access_domain"], share["permit"]) for share in shares] == [("partners", "read")]
    (rule,) = await old.get(f"{REPOSITORY}/sync_repo")
    assert (rule["remoteRegionId"], rule["remoteNamespace"], rule["syncAuto"]) == (SOUTH, "release", True)
    (trigger,) = await old.get(f"{REPOSITORY}/triggers")
    assert (trigger["name"], [one["tag"] for one in trigger["trigger_history"]]) == ("deploy", ["v2", "v1"])
    (policy,) = await old.get("/v2/manage/namespaces/team/repos/old/retentions")
    assert policy["rules"][0]["params"] == {"num": "1"}
    history = await old.get("/v2/manage/namespaces/team/repos/old/retentions/histories")
    assert [one["tag"] for one in history["retention_log"]] == ["v1"]


async def require_jobs(old: Installation, far: str) -> None:
    """Jobs that ended are listed as they were; those that ran or waited run to their end."""
    async with old.client("carol") as client:

        async def ended() -> list[dict[str, Any]]:
            jobs = await client.list_jobs(TEAM, APP, limit=100)
            return [] if any(job["status"] in ("waiting", "running") for job in jobs) else jobs

        jobs = {job["id"]: job for job in await eventually(ended, seconds=120)}
    before = {number: (job["tag"], job["status"]) for number, job in jobs.items() if number < 7}
    assert before == {1: ("v1", "success"), 3: ("v2", "success"), 5: ("v1", "success"), 6: ("none", "failed")}
    after = {number: (job["tag"], job["status"], job["remoteRegionId"]) for number, job in jobs.items() if number >= 7}
    assert set(after.values()) == {("v1", "success", FAR), ("v2", "success", FAR)}
    assert len(after) == 4
    store = RemoteStore(Endpoint(name=FAR, url=far))
    try:
        for tag in ("v1", "v2"):
            copied = await store.get_manifest(RepositoryName("backup/app"), Tag(tag))
            assert copied.digest in {job["digest"] for job in jobs.values() if job["tag"] == tag}
    finally:
        await store.close()


async def require_images(old: Installation) -> None:
    """Images are pulled as before, and a push is synchronized by the rules."""
    repository = RepositoryName("team/app")
    async with old.registry("carol") as registry:
        manifest = await registry.get_manifest(repository, Tag("v1"))
        assert await images.read(registry, repository, manifest.layers[0]) == b"layer v1"
        await images.push(registry, repository, NEW, Tag("v3"))
    for name, region in (("release/app", SOUTH), ("archive/app", NORTH)):
        async with old.registry("admin", region) as registry:

            async def arrived(store: RemoteStore = registry, name: str = name) -> bool:
                found = await store.head_manifest(RepositoryName(name), Tag("v3"))
                return found is not None and found.digest == NEW.digest

            await eventually(arrived, seconds=120)
