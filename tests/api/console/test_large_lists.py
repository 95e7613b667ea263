"""Pages of large lists read what they show, and not all of the rest."""

import pytest
from sqlalchemy import event

from tagferry.accounts.repositories import Repositories
from tagferry.catalog import describe_tags
from tagferry.names import Namespace, RepositoryName, Tag
from tests.support import images
from tests.support.browser import Browser
from tests.support.deployment import NORTH, SOUTH, Deployment, name_in

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


async def test_the_images_of_a_repository_with_many_tags_are_not_read_for_its_size(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.web.console.pages.organization._DESCRIBED", 2)
    for tag in ("v1", "v2", "v3"):
        await images.push(ferry.store(NORTH), RepositoryName("team/large"), images.image(seed=tag), Tag(tag))
    await images.push(ferry.store(NORTH), RepositoryName("team/small"), images.image(), Tag("v1"))
    described: list[RepositoryName] = []
    monkeypatch.setattr("tagferry.catalog.repositories.describe_tags", _noting(described))

    large, small = (await administrator.get(PATH)).rows()
    assert (await administrator.get(f"{PATH}/large/settings")).status == 200
    assert "(tags: 3)" in (await administrator.get(f"{PATH}/large/delete")).text

    assert described == ["team/small"]
    assert large[:3] == ["large", "3", "\N{EN DASH}"]
    assert small[2].endswith("B")


def _noting(described: list[RepositoryName]):
    async def noted(store, name, records, *, reader=None):
        described.append(name)
        return await describe_tags(store, name, records, reader=reader)

    return noted


@pytest.fixture
def statements(ferry: Deployment):
    """The statements that the database executes."""
    executed: list[str] = []
    engine = ferry.app.accounts.database._engine.sync_engine

    def noted(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        executed.append(statement)

    event.listen(engine, "before_cursor_execute", noted)
    yield executed
    event.remove(engine, "before_cursor_execute", noted)


async def test_more_rules_of_a_repository_need_no_more_statements(
    ferry: Deployment, administrator: Browser, statements: list[str]
):
    await images.push(ferry.store(NORTH), name_in("team"), images.image(), Tag("v1"))
    needed = []
    for number in range(3):
        await ferry.organization(SOUTH, Namespace(f"copy{number}"))
        made = await administrator.post(f"{PATH}/app/rules/new", {"to_region": SOUTH, "to_namespace": f"copy{number}"})
        assert made.status == 303
        # What the rules need of the accounts is remembered from here on.
        await administrator.get("/console/policies")
        statements.clear()
        page = await administrator.get("/console/policies")
        assert len(page.rows()) == number + 1
        needed.append(len([one for one in statements if "sync_jobs.rule_id" in one or "users.is_admin" in one]))

    # The newest jobs of the repository, and the creator.
    assert needed == [2, 2, 2]
