"""Pages do not wait for what takes long: they show what is known, and the rest when it is loaded again."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from tagferry.comparison.locations import ImageLocations, LocationService
from tagferry.errors import Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.oci.images import TagRecord
from tests.support import images
from tests.support.browser import Browser, Page, text_of
from tests.support.deployment import NORTH, SOUTH, Deployment, name_in
from tests.support.memory_store import MemoryStore

APP = name_in("team")
PATH = f"/console/images/{NORTH}/team"


class SlowStore(MemoryStore):
    """A store whose lists take as long as `may_list` is not set, and then fail if `is_broken`."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.may_list = asyncio.Event()
        self.is_broken = False

    async def list_repositories(self) -> Any:
        await self.may_list.wait()
        async for name in super().list_repositories():
            yield name

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        records = await super().describe_tags(repository, only)
        if only is None:
            await self.may_list.wait()
        if self.is_broken:
            raise Unavailable("registry slow answered 503")
        return records


@pytest.fixture
async def slow(ferry: Deployment) -> SlowStore:
    """The store of the region `cn-north-4`, with two tags; pages are not patient."""
    store = SlowStore()
    ferry.replace(NORTH, store)
    for tag in ("v1", "v2"):
        await images.push(store, APP, images.image(seed=tag), Tag(tag))
    ferry.app.services.console.eventual.patience = 0.0
    return store


async def complete(browser: Browser, path: str) -> Page:
    """Open a page again until it is complete, as its script does."""
    while (page := await browser.get(path)).all("*[@data-pending]"):
        assert page.status == 200
    return page


async def test_organizations_are_shown_before_their_repositories_are_counted(slow: SlowStore, administrator: Browser):
    page = await administrator.get("/console/images")

    section = page.one(f"section[@id='images-{NORTH}']")
    assert "data-pending" in section.attrib
    assert ["team", "…", "…", "manage"] in page.rows()
    assert [one.get("href") for one in section.iter("a") if text_of(one) == "Show the present state"] == [
        "/console/images"
    ]
    slow.may_list.set()
    assert ["team", "1", "1", "manage"] in (await complete(administrator, "/console/images")).rows()


async def test_a_region_that_takes_long_does_not_delay_the_others(
    ferry: Deployment, slow: SlowStore, administrator: Browser
):
    await images.push(ferry.store(SOUTH), RepositoryName("team/app"), images.image(), Tag("v1"))

    page = await administrator.get("/console/images?q=app")
    while not page.all(f"section[@id='images-{SOUTH}']//td"):
        page = await administrator.get("/console/images?q=app")

    assert "data-pending" in page.one(f"section[@id='images-{NORTH}']").attrib
    assert page.rows() == [["team/app"]]


@pytest.mark.parametrize("path", [f"/console/images/{NORTH}", PATH, f"{PATH}?q=a", f"{PATH}/app/retention?number=1"])
async def test_a_part_that_takes_long_is_loaded_again(slow: SlowStore, administrator: Browser, path: str):
    page = await administrator.get(path)

    (part,) = page.all("*[@data-pending]")
    assert part.get("id")
    slow.may_list.set()
    found = await complete(administrator, path)
    assert found.all(f"*[@id='{part.get('id')}']//td")


async def test_an_error_of_what_takes_long_is_shown_when_it_is_loaded_again(slow: SlowStore, administrator: Browser):
    await administrator.get(f"{PATH}/app/retention?number=1")
    slow.is_broken = True
    slow.may_list.set()

    page = await administrator.get(f"{PATH}/app/retention?number=1")
    while page.all("*[@data-pending]"):
        page = await administrator.get(f"{PATH}/app/retention?number=1")

    assert page.status != 200
    assert "registry slow answered 503" in page.text


async def test_the_targets_of_a_synchronization_are_offered_without_the_registries(
    slow: SlowStore, administrator: Browser
):
    slow.may_list.set()
    page = await administrator.get("/console/synchronize?repository=team/app")

    assert f"{SOUTH}/team" in {one.get("value") for one in page.all("option")}


@pytest.mark.parametrize("path", ["/console/images?q={digest}", f"/console/images/{SOUTH}/team/app/tags/v1?locate=1"])
async def test_a_search_by_digest_continues(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch, path: str
):
    image, may_find, find = images.image(), asyncio.Event(), LocationService.find
    await images.push(ferry.store(SOUTH), APP, image, Tag("v1"))

    async def slow(*arguments: Any, **options: Any) -> ImageLocations:
        await may_find.wait()
        return await find(*arguments, **options)

    monkeypatch.setattr(LocationService, "find", slow)
    ferry.app.services.console.eventual.patience = 0.0
    path = path.format(digest=image.manifest.digest)

    first = await administrator.get(path)
    assert "The regions are being asked for this image." in first.text
    may_find.set()

    assert [SOUTH, APP] in (await complete(administrator, path)).rows()
