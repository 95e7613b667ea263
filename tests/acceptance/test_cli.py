"""The installed `tagferry` program does what its help says."""

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tagferry.cli.accounts import FIRST_ADMIN_FILE
from tagferry.names import Namespace, RegionId, Repository, RepositoryName, Tag
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tests.acceptance.served import Secrets, client, serving, tagferry
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM
from tests.support.processes import free_port

APP = RepositoryName("team/app")


@dataclass(frozen=True)
class Installation:
    """A served installation of two embedded regions, with `team` in the first and `release` in the second."""

    folder: Path
    initialized: str
    urls: dict[RegionId, str]

    @property
    def secrets(self) -> Secrets:
        return Secrets.read(self.initialized)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment for `tagferry sync`."""
        return {
            "TAGFERRY_ENDPOINT": self.urls[NORTH],
            "CLOUD_SDK_AK": self.secrets.access_key,
            "CLOUD_SDK_SK": self.secrets.secret_key,
        }

    async def push(self, region: RegionId, repository: RepositoryName, sample: images.SampleImage, *tags: str) -> None:
        credentials = Credentials(username="admin", password=self.secrets.password)
        store = RemoteStore(Endpoint(name="push", url=self.urls[region], credentials=credentials))
        try:
            for tag in tags:
                await images.push(store, repository, sample, Tag(tag))
        finally:
            await store.close()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    addresses = {region: f"127.0.0.1:{free_port()}" for region in (NORTH, SOUTH)}
    urls = {region: f"http://{address}" for region, address in addresses.items()}
    regions = [part for region, address in addresses.items() for part in ("--region", f"{region}={address}")]
    initialized = tagferry(folder, "init", *regions)
    assert initialized.returncode == 0, initialized.stderr
    for place in (f"{NORTH}/{TEAM}", f"{SOUTH}/{RELEASE}"):
        assert tagferry(folder, "org", "create", place).returncode == 0
    with serving(folder, urls[NORTH]):
        yield Installation(folder, initialized.stdout, urls)


def test_init_writes_a_configuration_for_its_owner_and_shows_the_secrets_once(installation: Installation) -> None:
    config = installation.folder / "tagferry.toml"
    secrets = installation.secrets
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE((installation.folder / "tagferry-data" / "secret.key").stat().st_mode) == 0o600
    written = config.read_text()
    assert installation.urls[NORTH].removeprefix("http://") in written
    assert secrets.password not in written + (installation.folder / "serve.log").read_text()
    before = written

    again = tagferry(installation.folder, "init")

    assert (again.returncode, again.stdout) == (4, "")
    assert again.stderr.count("\n") == 1
    assert "tagferry.toml exists already" in again.stderr
    assert config.read_text() == before


async def test_users_keys_and_permissions_hold_in_the_running_server_at_once(installation: Installation) -> None:
    folder = installation.folder
    assert "password" in tagferry(folder, "user", "create", "carrier").stdout
    shown = tagferry(folder, "key", "create", "carrier").stdout
    granted = tagferry(folder, "org", "grant", f"{NORTH}/{TEAM}", "carrier", "read")
    assert (granted.returncode, granted.stderr) == (0, "")

    _, access_key = shown.splitlines()[0].rsplit(maxsplit=1)
    _, secret_key = shown.splitlines()[1].rsplit(maxsplit=1)
    async with client(installation.urls[NORTH], Secrets("", access_key, secret_key)) as management:
        assert await management.sync_jobs(TEAM, Repository("app"), [1]) == {}


async def test_sync_prints_each_result_and_exits_with_3_if_one_failed(installation: Installation) -> None:
    old, new = images.image(seed="old"), images.image(seed="new")
    await installation.push(NORTH, APP, new, "v1", "v2")
    await installation.push(SOUTH, RepositoryName("release/app"), old, "v2")

    done = tagferry(
        installation.folder,
        *("sync", "team/app:v1", "--to", f"{SOUTH}/{RELEASE}", "--json"),
        environment=installation.environment,
    )
    mixed = tagferry(
        installation.folder,
        *("sync", "team/app:v1", "team/app:v2", "team/app:v3", "--to", f"{SOUTH}/{RELEASE}"),
        environment=installation.environment,
    )

    assert done.returncode == 0, done.stderr
    (job,) = json.loads(done.stdout)
    assert (job["tag"], job["status"], job["digest"]) == ("v1", "success", new.digest)
    assert mixed.returncode == 3
    assert mixed.stdout.strip().endswith("1 of 3 synchronized")
    assert "team/app:v2  existed  the target holds another image under this tag; send override=true" in mixed.stderr
    assert "team/app:v3  failed  the tag does not exist in the source repository" in mixed.stderr


def test_an_unreachable_endpoint_is_reported_in_one_sentence(installation: Installation) -> None:
    wrong = {**installation.environment, "TAGFERRY_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    done = tagferry(installation.folder, "sync", "team/app:v1", "--to", f"{SOUTH}/{RELEASE}", environment=wrong)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith(f"error: cannot reach {wrong['TAGFERRY_ENDPOINT']}: ")
    assert done.stderr.count("\n") == 1


async def test_a_first_serve_configures_itself_and_takes_the_environment_into_account(tmp_path: Path) -> None:
    addresses = {region: f"127.0.0.1:{free_port()}" for region in (NORTH, SOUTH)}
    listen = {f"TAGFERRY_REGIONS__{region}__LISTEN": address for region, address in addresses.items()}
    url = f"http://{addresses[NORTH]}"

    audit_log = tmp_path / "audit.log"

    with serving(tmp_path, url, {**listen, "TAGFERRY_AUDIT_LOG": str(audit_log)}) as served:
        kept = tmp_path / "tagferry-data" / FIRST_ADMIN_FILE
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        secrets = Secrets.read(kept.read_text())
        log = served.log.read_text()
        assert f"secrets are in {kept}" in log
        for secret in (secrets.password, secrets.access_key, secrets.secret_key):
            assert secret not in log
        async with client(url, secrets) as management:
            await management.create_organization(Namespace("first"))

    (told,) = map(json.loads, audit_log.read_text().splitlines())
    assert (told["logger"], told["user"], told["path"]) == ("tagferry.audit", "admin", "/v2/manage/namespaces")
    assert stat.S_IMODE((tmp_path / "tagferry.toml").stat().st_mode) == 0o600
    assert "stopping" in served.log.read_text()


def test_the_demo_ends_with_an_identical_image(tmp_path: Path) -> None:
    done = tagferry(tmp_path, "demo", seconds=120)
    assert done.returncode == 0, done.stderr
    assert "identical" in done.stdout
    assert list(tmp_path.iterdir()) == []
