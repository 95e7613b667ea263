"""Pages of large lists read what they show, and not all of the rest."""

import pytest

from tagferry.accounts.repositories import Repositories
from tagferry.names import RepositoryName, Tag
from tests.support import images
from tests.support.browser import Browser
from tests.support.deployment import NORTH, Deployment

PATH = f"/console/images/{NORTH}/team"
MANY = 12


@pytest.fixture
async def many(ferry: Deployment, monkeypatch: pytest.MonkeyPatch) -> list[RepositoryName]:
    """Repositories of one organization, with a page of only three of them."""
    monkeypatch.setattr("tagferry.web.console.pages.organization._ROWS", 3)
    names = [RepositoryName(f"team/app{number:02}") for number in range(MANY)]
    for name in names:
        await images.push(ferry.store(NORTH), name, images.image(), Tag("v1"))
    return names


async def test_a_page_of_repositories_reads_the_records_of_those_that_it_shows(
    ferry: Deployment, many: list[RepositoryName], administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    for name in many:
        await administrator.post(f"{PATH}/{name.repository}/settings", {"description": f"the {name.repository}"})
    read: list[RepositoryName] = []
    some = Repositories.some

    async def counted(self, region, names):
        read.extend(names)
        return await some(self, region, names)

    async def refused(self, region, namespaces):
        raise AssertionError("all records were read")

    monkeypatch.setattr(Repositories, "some", counted)
    monkeypatch.setattr(Repositories, "list_in", refused)

    page = await administrator.get(f"{PATH}?after=team/app05")

    assert [row[0] for row in page.rows()] == [f"app{number:02}the app{number:02}" for number in (6, 7, 8)]
    assert read == many[6:9]
    # Nor are they read to count them.
    assert ["team", str(MANY), "1", "manage"] in (await administrator.get("/console/images")).rows()


async def test_a_page_of_repositories_describes_only_those_that_it_shows(
    ferry: Deployment, many: list[RepositoryName], administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    described: list[RepositoryName] = []
    store = ferry.store(NORTH)
    describe = type(store).describe_tags

    async def counted(self, repository, only=None):
        described.append(repository)
        return await describe(self, repository, only)

    monkeypatch.setattr(type(store), "describe_tags", counted)

    await administrator.get(PATH)

    assert sorted(described) == many[:3]
