"""`tagferry reload` and SIGHUP change a running server, and no job is lost."""

import json
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from tagferry.accounts.key_file import new_key
from tagferry.names import RegionId, Repository, RepositoryName, Tag
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tests.acceptance.served import Secrets, Served, client, serving, tagferry
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, eventually
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port

pytestmark = pytest.mark.long

WEST = RegionId("west")
APP = Repository("app")
RELOADS = 20
LAYER, RATE = 300_000, 20_000
"""Bytes of each tag's layer, and the bytes a second at which all of them take minutes."""
TAGS = [f"v{number}" for number in range(12)]


@dataclass(frozen=True)
class Site:
    """A served installation of two embedded regions, with `team` in the north and `release` in the south."""

    folder: Path
    served: Served
    secrets: Secrets
    urls: dict[RegionId, str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "tagferry.toml"

    def log(self) -> str:
        return self.served.log.read_text()

    async def signal(self, text: str, event: str, *, times: int = 1) -> None:
        """Write the configuration, send SIGHUP, and wait until the log has an event so many times."""
        self.config.write_text(text)
        self.served.process.send_signal(signal.SIGHUP)

        async def is_logged() -> bool:
            return self.log().count(event) >= times

        await eventually(is_logged, seconds=60)

    def west(self, *, rate: int = 0) -> str:
        """A region that reaches the registry of the south over HTTP."""
        limit = f"max_bytes_per_second = {rate}\n" if rate else ""
        return (
            f'\n[regions.{WEST}]\nregistry = "{self.urls[SOUTH]}"\norganizations = "open"\n'
            f'username = "admin"\npassword = "{self.secrets.password}"\n{limit}'
        )

    def reload(self, text: str) -> tuple[int, str]:
        """Write the configuration and reload it; returns the exit code and the output."""
        self.config.write_text(text)
        done = tagferry(self.folder, "reload", environment=self.environment)
        return done.returncode, done.stdout + done.stderr

    async def push(self, *tags: str) -> None:
        credentials = Credentials(username="admin", password=self.secrets.password)
        store = RemoteStore(Endpoint(name="push", url=self.urls[NORTH], credentials=credentials))
        try:
            for tag in tags:
                sample = images.image(Random(tag).randbytes(LAYER), seed=tag)
                await images.push(store, RepositoryName(f"{TEAM}/{APP}"), sample, Tag(tag))
        finally:
            await store.close()

    async def start(self, *tags: str) -> list[int]:
        body = {"imageTag": list(tags), "remoteNamespace": RELEASE, "remoteRegionId": WEST, "override": True}
        async with client(self.urls[NORTH], self.secrets) as asking:
            return list((await asking.start_sync(TEAM, APP, body)).tags)

    async def states(self, jobs: list[int]) -> list[str]:
        async with client(self.urls[NORTH], self.secrets) as asking:
            return [job["status"] for job in (await asking.sync_jobs(TEAM, APP, jobs)).values()]

    async def ended(self, jobs: list[int]) -> list[str]:
        async def states() -> list[str]:
            found = await self.states(jobs)
            return [] if {"waiting", "running"} & set(found) else found

        return await eventually(states, seconds=120)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    addresses = {region: f"127.0.0.1:{free_port()}" for region in (NORTH, SOUTH)}
    urls = {region: f"http://{address}" for region, address in addresses.items()}
    regions = [part for region, address in addresses.items() for part in ("--region", f"{region}={address}")]
    initialized = tagferry(tmp_path, "init", *regions)
    assert initialized.returncode == 0, initialized.stderr
    with serving(tmp_path, urls[NORTH]) as served:
        found = Site(tmp_path, served, Secrets.read(initialized.stdout), urls)
        for region, organization in ((NORTH, TEAM), (SOUTH, RELEASE)):
            async with client(urls[region], found.secrets) as asking:
                await asking.create_organization(organization)
        yield found


@pytest.mark.timeout(300)
async def test_no_job_is_lost_while_a_server_is_reloaded_again_and_again(site: Site):
    first = site.config.read_text()
    await site.push(*TAGS)
    code, output = site.reload(first + site.west(rate=RATE))
    assert (code, "applied: regions.west" in output) == (0, True), output

    jobs = await site.start(*TAGS)
    for number in range(1, RELOADS + 1):
        await site.signal(first + site.west(rate=RATE + number), "reloaded the configuration", times=number + 1)
    assert set(await site.states(jobs)) & {"waiting", "running"}, "the jobs ended before the last reload"
    await site.signal(first + site.west(), "reloaded the configuration", times=RELOADS + 2)

    assert await site.ended(jobs) == ["success"] * len(TAGS)


@pytest.mark.timeout(300)
async def test_a_signal_that_cannot_be_obeyed_changes_nothing_and_a_region_is_removed(site: Site):
    first = site.config.read_text()
    await site.push("v1")
    await site.signal(first + site.west(), "reloaded the configuration")

    moved = first.replace("data_dir = ", "# data_dir = ")
    await site.signal(f'data_dir = "elsewhere"\n{moved}', "data_dir cannot change while running; restart to apply it")
    await site.signal(f"unknown = 1\n{first}", "unknown")
    assert await site.ended(await site.start("v1")) == ["success"]
    code, output = site.reload(first)
    listed = tagferry(site.folder, "region", "list", "--json")

    assert (code, "applied: regions.west" in output) == (0, True), output
    assert (WEST in listed.stdout, listed.stderr) == (False, "")


@pytest.mark.timeout(300)
async def test_a_reload_that_a_server_refuses_is_the_exit_code(site: Site):
    text = site.config.read_text()
    code, output = site.reload(text + '\n[regions.east]\nlisten = "127.0.0.1:1"\n')

    assert code == 1
    assert "regions.east has a listen address, and cannot be added while running; restart to apply it" in output
    listed = tagferry(site.folder, "region", "list")
    assert "east" not in listed.stdout
    assert "apply it with: tagferry reload" in listed.stderr


def test_a_reload_without_a_server_says_so(tmp_path: Path):
    assert tagferry(tmp_path, "init", "--region", "north=127.0.0.1:1").returncode == 0

    done = tagferry(tmp_path, "reload")
    listed = tagferry(tmp_path, "region", "list")

    assert (done.returncode, done.stderr) == (
        1,
        "error: no tagferry process uses this database; start one with: tagferry serve\n",
    )
    assert "no tagferry process uses this database; these are the regions of the configuration file" in listed.stderr
    assert "north" in listed.stdout


@pytest.mark.timeout(300)
async def test_the_key_of_secrets_is_rotated_while_a_server_runs(site: Site):
    rotated = tagferry(site.folder, "secret", "rotate")
    async with client(site.urls[NORTH], site.secrets) as asking:
        assert await asking.list_regions()
    pruned = tagferry(site.folder, "secret", "prune")

    assert (rotated.returncode, pruned.returncode) == (0, 0), rotated.stderr + pruned.stderr
    async with client(site.urls[NORTH], site.secrets) as asking:
        assert await asking.list_regions()
    assert len((site.folder / "tagferry-data" / "secret.key").read_text().split()) == 1


@dataclass(frozen=True)
class Pair:
    """Two servers of one database: the first one serves the north, the second one the south."""

    first: Site
    second: Site

    def configure(self, west: str) -> None:
        """Write both configurations, with the region `west`."""
        for one, other in ((NORTH, SOUTH), (SOUTH, NORTH)):
            site = self.first if one == NORTH else self.second
            remote = site.west().replace(f"[regions.{WEST}]", f"[regions.{other}]")
            remote = remote.replace(f'registry = "{site.urls[SOUTH]}"', f'registry = "{site.urls[other]}"')
            listen = site.urls[one].removeprefix("http://")
            site.config.write_text(f'[regions.{one}]\nlisten = "{listen}"\n{remote}{west}')


@pytest.fixture
async def pair(tmp_path: Path, postgres: PostgresServer, postgres_template: str) -> AsyncIterator[Pair]:
    environment = {
        "TAGFERRY_DATABASE_URL": postgres.url(postgres.new_database(like=postgres_template)),
        "TAGFERRY_SECRET_KEY": new_key(),
    }
    addresses = {region: f"127.0.0.1:{free_port()}" for region in (NORTH, SOUTH)}
    urls = {region: f"http://{address}" for region, address in addresses.items()}
    folders = {region: tmp_path / region for region in addresses}
    for folder in folders.values():
        folder.mkdir()
    initialized = tagferry(folders[NORTH], "init", "--region", f"{NORTH}={addresses[NORTH]}", environment=environment)
    assert initialized.returncode == 0, initialized.stderr
    secrets = Secrets.read(initialized.stdout)
    (folders[SOUTH] / "tagferry.toml").write_text(f'[regions.{SOUTH}]\nlisten = "{addresses[SOUTH]}"\n')
    with (
        serving(folders[NORTH], urls[NORTH], environment, start_limit=120) as first,
        serving(folders[SOUTH], urls[SOUTH], environment, start_limit=120) as second,
    ):
        made = Pair(
            *(
                Site(folders[region], served, secrets, urls, environment)
                for region, served in ((NORTH, first), (SOUTH, second))
            )
        )
        for region, organization in ((NORTH, TEAM), (SOUTH, RELEASE)):
            async with client(urls[region], secrets) as asking:
                await asking.create_organization(organization)
        yield made


@pytest.mark.timeout(600)
async def test_two_processes_of_one_database_are_reloaded_together_and_no_job_is_lost(pair: Pair):
    first, tags = pair.first, TAGS[:4]
    # Each of the two copies at this rate, so that all of it takes minutes.
    rate = RATE // 8
    pair.configure(first.west(rate=rate))
    added = tagferry(first.folder, "reload", "--json", environment=first.environment)
    assert added.returncode == 0, added.stdout + added.stderr
    assert [(one["has_answered"], one["error"], WEST in str(one["changed"])) for one in json.loads(added.stdout)] == [
        (True, None, True)
    ] * 2

    await first.push(*tags)
    jobs = await first.start(*tags)
    for number in (1, 2):
        pair.configure(first.west(rate=rate + number))
        done = tagferry(first.folder, "reload", "--json", environment=first.environment)
        assert [one["changed"] for one in json.loads(done.stdout)] == [[f"regions.{WEST}.max_bytes_per_second"]] * 2
    assert set(await first.states(jobs)) & {"waiting", "running"}, "the jobs ended before the last reload"
    pair.configure(first.west())
    done = tagferry(first.folder, "reload", environment=first.environment)

    assert done.returncode == 0, done.stdout + done.stderr
    assert await first.ended(jobs) == ["success"] * len(tags)


@pytest.mark.timeout(600)
async def test_a_process_that_refuses_does_not_keep_another_one_from_reloading(pair: Pair):
    pair.configure("")
    assert tagferry(pair.first.folder, "reload", environment=pair.first.environment).returncode == 0
    pair.configure(pair.first.west())
    pair.second.config.write_text(f'data_dir = "elsewhere"\n{pair.second.config.read_text()}')

    done = tagferry(pair.first.folder, "reload", environment=pair.first.environment)

    assert done.returncode == 1
    assert sorted(line.partition("  ")[2] for line in done.stdout.splitlines()) == [
        f"applied: regions.{WEST}",
        "refused, nothing has changed: data_dir cannot change while running; restart to apply it",
    ]
