"""The unmodified SWR SDK lists shared repositories, for owners and for recipients."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkswr.v2 import ListSharedRepoDetailsRequest, ListSharedReposDetailsRequest

from tagferry.accounts.model import AccessKey, Permission
from tagferry.accounts.repositories import RepositoryMetadata
from tagferry.app import DEFAULT_DOMAIN
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, deployed, name_in
from tests.support.sdk_calls import ask, assert_filled, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHARED = {"team/app": "partners", "team/shop/web": "rivals", "release/tool": "partners", "release/over": "partners"}


@dataclass(frozen=True)
class Ferry:
    """The shared repositories, and the keys of the users who list them."""

    deployment: Deployment
    keys: dict[str, AccessKey]

    async def pages(self, who: str, **query: Any) -> list[Any]:
        """Return the response of ListSharedReposDetails."""
        request = ListSharedReposDetailsRequest(**query)
        return (await ask(self.deployment, "list_shared_repos_details", request, key=self.keys[who])).body or []

    async def marked(self, who: str, **query: Any) -> Any:
        """Return the response of ListSharedRepoDetails."""
        request = ListSharedRepoDetailsRequest(**query)
        return await ask(self.deployment, "list_shared_repo_details", request, key=self.keys[who])

    async def names(self, who: str, side: str, **query: Any) -> list[str]:
        """The full names that both lists have, by name."""
        pages = [f"{one.namespace}/{one.name}" for one in await self.pages(who, center=side, **query)]
        marked = (await self.marked(who, shared_by=side, **query)).repos
        assert sorted(f"{one.namespace_name}/{one.name}" for one in marked) == sorted(pages)
        return pages


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ferry]:
    """Four repositories that are shared, one of them until yesterday, one that is not, and one in another region."""
    async with deployed(tmp_path_factory.mktemp("shared")) as deployment:
        services = deployment.app.services.swr
        admin = await deployment.app.accounts.users.find(deployment.admin.name)
        _, reader = await deployment.user("reader", team=Permission.READ)
        _, outsider = await deployment.user("outsider")
        _, partner = await deployment.user("partner", domain="partners")
        _, rival = await deployment.user("rival", domain="rivals")
        for name in ("team/app", "team/shop/web", "team/own", "release/tool", "release/over"):
            repository = name_in(*name.split("/", 1))
            tags = ("v1", "v2") if name == "team/app" else ("v1",)
            for tag in tags:
                await images.push(deployment.store(NORTH), repository, images.image(seed=f"{name} {tag}"), Tag(tag))
            record = await services.repositories.create(admin, NORTH, repository, RepositoryMetadata(description=name))
            if domain := SHARED.get(name):
                deadline = datetime.now(UTC) - timedelta(days=1) if name == "release/over" else None
                await services.shares.create(admin, record.id, domain, deadline=deadline, description="")
        elsewhere = await services.repositories.create(admin, SOUTH, name_in("team", "app"), RepositoryMetadata())
        await services.shares.create(admin, elsewhere.id, "partners", deadline=None, description="")
        keys = {
            "admin": deployment.admin.key,
            "reader": reader,
            "outsider": outsider,
            "partner": partner,
            "rival": rival,
        }
        yield Ferry(deployment, keys)


async def test_what_one_shares_is_listed_with_all_that_lists_of_repositories_tell(ferry: Ferry) -> None:
    found = {one.name: one for one in await ferry.pages("admin", center="self", namespace=TEAM)}
    assert list(found) == ["app", "shop/web"]
    app = found["app"]
    assert_filled(app)
    assert (app.namespace, app.description, app.num_images, app.tags) == ("team", "team/app", 2, ["v1", "v2"])
    assert (app.domain_name, app.status, app.total_range) == (DEFAULT_DOMAIN, False, 2)
    for one in (await ferry.marked("admin", shared_by="self")).repos:
        assert_filled(one)


async def test_everybody_finds_what_is_shared_on_the_own_side_and_with_the_own_domain(ferry: Ferry) -> None:
    assert await ferry.names("admin", "self") == ["release/over", "release/tool", "team/app", "team/shop/web"]
    assert await ferry.names("reader", "self") == ["team/app", "team/shop/web"]
    assert await ferry.names("partner", "thirdparty") == ["release/over", "release/tool", "team/app"]
    assert await ferry.names("rival", "thirdparty") == ["team/shop/web"]
    for who, side in (("outsider", "self"), ("outsider", "thirdparty"), ("admin", "thirdparty"), ("partner", "self")):
        assert await ferry.names(who, side) == []


async def test_of_what_is_shared_no_longer_only_the_name_is_told(ferry: Ferry) -> None:
    found = {one.name: one for one in await ferry.pages("partner", center="thirdparty")}
    assert {name: one.status for name, one in found.items()} == {"over": False, "tool": True, "app": True}
    over, tool = found["over"], found["tool"]
    assert_filled(over)
    assert (over.domain_name, over.description, over.num_images, over.size, over.tags) == (DEFAULT_DOMAIN, "", 0, 0, [])
    assert (tool.domain_name, tool.description, tool.num_images, tool.tags) == (
        DEFAULT_DOMAIN,
        "release/tool",
        1,
        ["v1"],
    )

    for status, names in ((True, {"app", "tool"}), (False, {"over"}), (None, {"app", "tool", "over"})):
        marked = (await ferry.marked("partner", shared_by="thirdparty", status=status)).repos
        assert {one.name for one in marked} == names
    # Of what one shares oneself the status says nothing.
    assert len((await ferry.marked("admin", shared_by="self", status=True)).repos) == 4


async def test_what_is_looked_for_is_told_by_parameters_or_by_the_filter(ferry: Ferry) -> None:
    assert await ferry.names("admin", "self", name="o") == ["release/over", "release/tool", "team/shop/web"]
    assert await ferry.names("partner", "thirdparty", namespace=RELEASE, name="too") == ["release/tool"]
    for chosen, names in (
        ("center::thirdparty|namespace::team", ["app"]),
        ("center::thirdparty|status::false", ["over"]),
        (f"center::thirdparty|domain_name::{DEFAULT_DOMAIN}|name::t", ["tool"]),
        ("center::thirdparty|domain_name::rivals", []),
        ("center::thirdparty|limit::1|offset::1|order_column::name|order_type::desc", ["tool"]),
    ):
        assert [one.name for one in await ferry.pages("partner", filter=chosen)] == names, chosen


async def test_pages_come_in_the_order_asked_for(ferry: Ferry) -> None:
    request = ListSharedReposDetailsRequest(center="self", limit="2", offset="1")
    answer = await ask(ferry.deployment, "list_shared_repos_details", request)
    assert [one.name for one in answer.body] == ["tool", "app"]
    assert answer.content_range == "1-2/4"
    assert await ferry.pages("admin", center="self", limit="2", offset="9") == []
    for column in ("name", "namespace", "domain_name", "updated_at", "updated_time", "tag_count"):
        ordered = [one.name for one in await ferry.pages("admin", center="self", order_column=column)]
        assert sorted(ordered) == ["app", "over", "shop/web", "tool"]
    most = await ferry.pages("admin", center="self", order_column="tag_count", order_type="desc", limit="1")
    assert [one.name for one in most] == ["app"]


async def test_a_list_goes_on_behind_its_marker(ferry: Ferry) -> None:
    seen, marker = [], None
    for _ in range(4):
        page = await ferry.marked("admin", shared_by="self", limit=1, marker=marker)
        seen += [f"{one.namespace_name}/{one.name}" for one in page.repos]
        marker = page.next_marker
    assert (sorted(seen), marker) == (sorted(SHARED), None)


@pytest.mark.parametrize(
    ("query", "code", "told"),
    [
        ({}, "4001014", "center is mandatory"),
        ({"center": "others"}, "4000014", "center must be self or thirdparty"),
        ({"center": "self", "order_column": "size"}, "4000014", "order_column must be one of name, updated_time"),
        ({"center": "self", "order_type": "up"}, "4000014", "order_type must be asc or desc"),
        ({"center": "self", "limit": "0"}, "4000014", "limit must be a whole number from 1 to 1000"),
        ({"filter": "center::self|status::perhaps"}, "4000014", "status must be true or false"),
        ({"filter": "center"}, "4001035", "filter must have the form"),
    ],
)
async def test_a_page_is_refused_by_the_name_of_what_is_wrong(
    ferry: Ferry, query: dict[str, str], code: str, told: str
) -> None:
    request = ListSharedReposDetailsRequest(**query)
    status, found, message = await refused(ferry.deployment, "list_shared_repos_details", request)
    assert (status, found) == (400, f"SVCSTG.SWR.{code}")
    assert told in message


@pytest.mark.parametrize(
    ("query", "code", "told"),
    [
        ({}, "4001014", "shared_by is mandatory"),
        ({"shared_by": "others"}, "4000014", "shared_by must be self or thirdparty"),
        ({"shared_by": "self", "status": "perhaps"}, "4000014", "status must be true or false"),
        ({"shared_by": "self", "marker": -1}, "4000014", "marker must be a whole number"),
        ({"shared_by": "self", "limit": 1001}, "4000014", "limit must be a whole number from 1 to 1000"),
    ],
)
async def test_a_list_from_a_marker_is_refused_by_the_name_of_what_is_wrong(
    ferry: Ferry, query: dict[str, Any], code: str, told: str
) -> None:
    request = ListSharedRepoDetailsRequest(**query)
    status, found, message = await refused(ferry.deployment, "list_shared_repo_details", request)
    assert (status, found) == (400, f"SVCSTG.SWR.{code}")
    assert told in message
