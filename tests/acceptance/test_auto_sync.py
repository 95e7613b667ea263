"""An image that is pushed once is copied everywhere, and then requests stop."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tagferry.app import App, ensure_admin, open_app
from tagferry.automation.rules.store import RuleSpec
from tagferry.names import Digest, Namespace, RegionId, Repository, RepositoryName, RepositoryRef, Tag
from tagferry.oci.images import ImageStore
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tagferry.settings import Settings
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed, eventually
from tests.support.docker_registry import docker_registry
from tests.support.images import SampleImage, index, push
from tests.support.processes import free_port

TEAM, REPO = Namespace("team"), Repository("app")
APP = RepositoryName.of(TEAM, REPO)
V1, V2 = Tag("v1"), Tag("v2")
FIRST = index()
TOKEN = "t0ken-of-the-registry"


class CountingStore:
    """A store that counts the requests of all callers."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self.counts: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.counts[name] += 1
        return getattr(self._store, name)


async def rule(app: App, start: RegionId, end: RegionId) -> None:
    """Create a rule for `team/app` from one region to the other."""
    caller = await app.accounts.users.find("admin")
    wish = RuleSpec(caller, RepositoryRef(start, TEAM, REPO), end, TEAM, override=True, sync_auto=True)
    await app.services.swr.rules.put(wish)


async def jobs(app: App) -> list[str]:
    """Return a description of every job so far."""
    caller = await app.accounts.users.find("admin")
    found = []
    for region in (NORTH, SOUTH):
        page, _ = await app.services.swr.sync.jobs_of(
            caller, region, TEAM, REPO, limit=1000, offset=0, descending=False
        )
        found += [f"{region} > {job.target_region} {job.tag} {job.status}" for job in page]
    return found


async def standing(app: App, region: RegionId, tag: Tag) -> Digest | None:
    found = await app.services.swr.regions[region].store.head_manifest(APP, tag)
    return found.digest if found else None


async def push_over_http(ferry: Deployment, region: RegionId, sample: SampleImage, tag: Tag) -> None:
    credentials = Credentials(username=ferry.admin.name, password=ferry.admin.password)
    client = RemoteStore(Endpoint(name="client", url=ferry.urls[region], credentials=credentials))
    await push(client, APP, sample, tag)
    await client.close()


async def rounds(store: CountingStore, count: int) -> None:
    """Wait for the start of this many rounds of polls."""

    async def have_begun() -> bool:
        return store.counts["list_tags"] >= count

    store.counts.clear()
    await eventually(have_begun)


async def test_two_regions_that_synchronize_to_each_other_do_it_once_for_each_push(tmp_path: Path):
    regions: dict[str, dict[str, Any]] = {name: {"listen": "", "poll_interval_seconds": 0.1} for name in (NORTH, SOUTH)}
    async with deployed(tmp_path / "data", regions=regions) as ferry:
        stores = {region: CountingStore(ferry.store(region)) for region in (NORTH, SOUTH)}
        for region, store in stores.items():
            await push(ferry.store(region), APP, FIRST, V1)
            ferry.replace(region, store)
        await rule(ferry.app, NORTH, SOUTH)
        await rule(ferry.app, SOUTH, NORTH)
        second, third = index(docker=True), FIRST.children[0]

        async def everywhere(tag: Tag, sample: SampleImage) -> bool:
            return [await standing(ferry.app, region, tag) for region in stores] == [sample.digest] * 2

        await push_over_http(ferry, NORTH, second, V2)
        await eventually(lambda: everywhere(V2, second))
        await push_over_http(ferry, SOUTH, third, V2)
        await eventually(lambda: everywhere(V2, third))
        expected = [f"{NORTH} > {SOUTH} v2 success", f"{SOUTH} > {NORTH} v2 success"]

        async def recorded() -> bool:
            return await jobs(ferry.app) == expected

        await eventually(recorded)
        for store in stores.values():
            await rounds(store, 2)
            await rounds(store, 5)
            # One list and one HEAD for each tag; counting began and ended somewhere within a round.
            assert store.counts.keys() == {"list_tags", "head_manifest"}
            lists = store.counts["list_tags"]
            assert 2 * (lists - 1) <= store.counts["head_manifest"] <= 2 * (lists + 1)
        assert await jobs(ferry.app) == expected


async def test_a_real_registrys_notification_starts_a_sync_that_does_not_return(tmp_path: Path):
    port = free_port()
    # Its notification might arrive after the rules exist.
    with docker_registry(tmp_path) as silent:
        client = RemoteStore(Endpoint(name="client", url=silent.url))
        await push(client, APP, FIRST, V1)
        await client.close()
    with docker_registry(tmp_path, notify=(f"http://127.0.0.1:{port}/notifications", TOKEN)) as registry:
        client = RemoteStore(Endpoint(name="client", url=registry.url))
        north = {"listen": f"127.0.0.1:{port}", "registry": registry.url, "notifications_token": TOKEN}
        regions: dict[str, dict[str, Any]] = {
            NORTH: north | {"poll_interval_seconds": 0},
            SOUTH: {"listen": ""},
            "west": {"listen": ""},
        }
        async with deployed(tmp_path / "data", regions=regions) as ferry:
            west = RegionId("west")
            await push(ferry.store(SOUTH), APP, FIRST, V1)
            for start, end in ((NORTH, SOUTH), (SOUTH, NORTH), (SOUTH, west)):
                await rule(ferry.app, start, end)
            await push(client, APP, FIRST.children[0], V2)

            async def is_in_the_west() -> bool:
                return await standing(ferry.app, west, V2) == FIRST.children[0].digest

            await eventually(is_in_the_west)
            assert await standing(ferry.app, west, V1) is None
            expected = [f"{NORTH} > {SOUTH} v2 success", f"{SOUTH} > west v2 success"]

            async def recorded() -> bool:
                return await jobs(ferry.app) == expected

            await eventually(recorded)
            written = [seen.kind for seen in await registry.requests() if seen.kind.startswith("PUT manifest")]
            assert written == ["PUT manifest 201"]
            registry.forget_requests()
            assert await registry.requests() == []
            assert await jobs(ferry.app) == expected
        await client.close()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[App]:
    """tagferry on the data of the previous one."""
    regions = {region: {"listen": f"127.0.0.1:{free_port()}"} for region in (NORTH, SOUTH)}
    async with open_app(Settings.parse({"data_dir": folder, "regions": regions})) as app:
        if await ensure_admin(app.accounts) is not None:
            admin = await app.accounts.users.find("admin")
            for region in (NORTH, SOUTH):
                await app.accounts.organizations.create(admin, region, TEAM)
        yield app


async def test_images_pushed_while_nothing_ran_are_copied_at_the_next_start(tmp_path: Path):
    async with running(tmp_path) as app:
        await push(app.services.swr.regions[NORTH].store, APP, FIRST, V1)
        await rule(app, NORTH, SOUTH)
    disk = await DiskStore.open(tmp_path / "registries" / NORTH)
    await push(disk, APP, FIRST.children[0], V2)
    await disk.close()

    async with running(tmp_path) as app:

        async def crossed() -> bool:
            return await jobs(app) == [f"{NORTH} > {SOUTH} v2 success"]

        await eventually(crossed)
        assert [await standing(app, SOUTH, tag) for tag in (V1, V2)] == [None, FIRST.children[0].digest]
