"""Terraform's provider reads back what it wrote, so a second plan is empty."""

import itertools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tagferry.names import Namespace, Tag
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed, name_in
from tests.support.terraform import (
    AutoSync,
    Config,
    ImagePermissions,
    Organization,
    Permissions,
    Provider,
    Repository,
    Resource,
    RetentionPolicy,
    Sharing,
    State,
    Trigger,
)
from tests.support.terraform_iam import GroupMembership, Key, User

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLUSTER = "5b28c12f-dc10-11e9-97b3-0255ac1001b5"
_numbers = itertools.count()


@dataclass(frozen=True)
class World:
    """A provider, an image `team/app` in the north, users in no order of their names, and the group."""

    provider: Provider
    users: Mapping[str, str]
    group: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    webhooks = [{"cluster_id": CLUSTER, "url": "http://127.0.0.1:9/hook"}]
    async with deployed(
        tmp_path_factory.mktemp("terraform"), webhooks=webhooks, limits={"unknown_fields": "refuse"}
    ) as ferry:
        await images.push(ferry.store(NORTH), name_in("team"), images.image(), Tag("v1"))
        users = {name: (await _user(ferry, name)).user_id for name in ("zoe", "mia", "ada", "bob")}
        await ferry.app.accounts.users.create("partner", "a password", domain="partners")
        admin = await ferry.app.accounts.users.find("admin")
        provider = Provider(ferry, await ferry.token(), admin.domain_id)
        (group,) = (await provider.read("/v3/groups"))["groups"]
        yield World(provider, users, group["id"])


async def _user(ferry: Deployment, name: str) -> Any:
    await ferry.user(name)
    return await ferry.app.accounts.users.find(name)


async def follow(world: World, resource: Resource, *steps: Config, secret: frozenset[str] = frozenset()) -> None:
    """A resource's life: each configuration in turn, an import, and its end."""
    provider, first = world.provider, steps[0]
    resource_id = await resource.create(provider, first)
    state = await unchanged(world, resource, first, resource_id, secret)
    for old, new in itertools.pairwise(steps):
        await resource.update(provider, old, new, resource_id)
        state = await unchanged(world, resource, new, resource_id, secret)
    assert await resource.read(provider, steps[-1], resource_id) == state
    await resource.delete(provider, steps[-1], resource_id)
    gone = await resource.read(provider, steps[-1], resource_id)
    assert gone is None or gone["users"] == []


async def unchanged(
    world: World, resource: Resource, config: Config, resource_id: str, secret: frozenset[str]
) -> State:
    """The state, once nothing in it differs from the configuration."""
    state = await resource.read(world.provider, config, resource_id)
    assert state is not None
    wanted = {field: value for field, value in {**resource.defaults, **config}.items() if field not in secret}
    assert {field: state[field] for field in wanted} == wanted
    return state


def fresh(prefix: str) -> str:
    return f"{prefix}{next(_numbers)}"


async def test_an_organization(world: World) -> None:
    await follow(world, Organization(), {"name": fresh("org"), "creator": "admin", "permission": "Manage"})


@pytest.mark.parametrize("resource", [Permissions(), ImagePermissions()], ids=["organization", "image"])
async def test_permissions_are_in_the_order_in_which_they_were_given(world: World, resource: Resource) -> None:
    where = {"organization": "team"} | ({"repository": "app"} if isinstance(resource, ImagePermissions) else {})

    def given(*users: tuple[str, str]) -> Config:
        return {**where, "users": [{"user_id": world.users[name], "permission": what} for name, what in users]}

    await follow(
        world,
        resource,
        given(("zoe", "Read"), ("ada", "Manage"), ("mia", "Write")),
        given(("mia", "Write"), ("zoe", "Manage"), ("bob", "Read"), ("ada", "Read")),
        given(("ada", "Read")),
        given(("zoe", "Read"), ("ada", "Manage")),
    )


@pytest.mark.parametrize("resource", [Permissions(), ImagePermissions()], ids=["organization", "image"])
async def test_permissions_that_are_changed_in_place_keep_their_order(world: World, resource: Resource) -> None:
    where = {"organization": "team"} | ({"repository": "app"} if isinstance(resource, ImagePermissions) else {})
    first = [{"user_id": world.users[name], "permission": "Read"} for name in ("zoe", "ada", "mia")]
    resource_id = await resource.create(world.provider, {**where, "users": first})
    path = (
        "/v2/manage/namespaces/team/repos/app/access" if "repository" in where else "/v2/manage/namespaces/team/access"
    )
    change = [{"user_id": world.users["ada"], "auth": 7}]
    await world.provider.call("PATCH", path, change, status=201)
    await world.provider.call("POST", path, [{"user_id": world.users["bob"], "auth": 1}], status=201)
    state = await resource.read(world.provider, where, resource_id)
    assert state is not None
    names = {user_id: name for name, user_id in world.users.items()}
    held = [(names[user["user_id"]], user["permission"]) for user in state["users"]]
    assert held == [("zoe", "Read"), ("ada", "Manage"), ("mia", "Read"), ("bob", "Read")]
    await resource.delete(world.provider, {**where, "users": state["users"]}, resource_id)


@pytest.mark.parametrize("resource", [Permissions(), ImagePermissions()], ids=["organization", "image"])
async def test_permissions_that_are_gone_already_are_deleted_without_fault(world: World, resource: Resource) -> None:
    where = {"organization": "team"} | ({"repository": "app"} if isinstance(resource, ImagePermissions) else {})
    await resource.delete(world.provider, {**where, "users": []}, "")


@pytest.mark.parametrize("resource", [Permissions(), ImagePermissions()], ids=["organization", "image"])
async def test_permissions_of_no_users_are_given_changed_and_deleted(world: World, resource: Resource) -> None:
    where = {"organization": "team"} | ({"repository": "app"} if isinstance(resource, ImagePermissions) else {})
    some = {**where, "users": [{"user_id": world.users["zoe"], "permission": "Read"}]}
    none: Config = {**where, "users": []}
    await follow(world, resource, none, some, none)
    path = f"/v2/manage/namespaces/team{'/repos/app' if 'repository' in where else ''}/access"
    resource_id = await resource.create(world.provider, some)
    bodies: list[Any] = [[], b"null"]
    for body in bodies:
        for method, status in (("POST", 201), ("PATCH", 201), ("DELETE", 204)):
            await world.provider.call(method, path, body, status=status)
    await unchanged(world, resource, some, resource_id, frozenset())
    await resource.delete(world.provider, some, resource_id)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"category": "linux", "description": "an image", "is_public": True},
        {"category": "other"},
        {"description": "an image"},
        {"is_public": True},
    ],
    ids=str,
)
async def test_a_repository(world: World, said: State) -> None:
    where = {"organization": "team", "name": fresh("repo/")}
    changed = {"category": "windows", "description": "another", "is_public": not said.get("is_public", False)}
    await follow(world, Repository(), {**where, **said}, {**where, **changed})


async def test_a_repository_that_was_only_pushed_to_is_imported(world: World) -> None:
    store = world.provider.ferry.store(NORTH)
    await images.push(store, name_in("team", "imported"), images.image(), Tag("v1"))
    config = {"organization": "team", "name": "imported", "category": "other"}
    await unchanged(world, Repository(), config, "imported", frozenset())


@pytest.mark.parametrize("deadline", ["forever", "2099-12-31"])
async def test_a_sharing(world: World, deadline: str) -> None:
    where = {"organization": "team", "repository": "app", "sharing_account": "partners"}
    await follow(
        world,
        Sharing(),
        {**where, "deadline": deadline},
        {**where, "deadline": "2098-01-01", "description": "for a while"},
        {**where, "deadline": "forever", "permission": "pull"},
    )


async def test_a_retention_policy(world: World) -> None:
    where = {"organization": "team", "repository": "app"}
    selectors = [{"kind": "label", "pattern": "stable"}, {"kind": "regexp", "pattern": "^v1.*"}]
    for kind in ("date_rule", "tag_rule"):
        await follow(
            world,
            RetentionPolicy(),
            {**where, "type": kind, "number": 30},
            {**where, "type": kind, "number": 20, "tag_selectors": selectors},
            {**where, "type": kind, "number": 20, "tag_selectors": selectors[::-1]},
        )


async def test_a_trigger(world: World) -> None:
    config = {
        "organization": "team",
        "repository": "app",
        "name": "deploy",
        "workload_type": "deployments",
        "workload_name": "web",
        "cluster_id": CLUSTER,
        "cluster_name": "production",
        "namespace": "default",
        "condition_type": "all",
        "condition_value": ".*",
        "type": "cce",
    }
    await follow(world, Trigger(), config, {**config, "enabled": "false"}, {**config, "enabled": "true"})


@pytest.mark.parametrize("said", [{}, {"override": True}, {"override": False}], ids=str)
async def test_an_auto_sync(world: World, said: State) -> None:
    where = {"organization": "team", "repository": "app"}
    await follow(world, AutoSync(), {**where, "target_region": SOUTH, "target_organization": "release", **said})


async def test_a_user(world: World) -> None:
    name = fresh("user")
    full = {
        "name": name,
        "password": "a good password",
        "description": "the build",
        "email": "build@example.com",
        "phone": "13800000000",
        "country_code": "0086",
        "access_type": "default",
        "external_identity_id": "an id elsewhere",
        "external_identity_type": "TenantIdp",
        "enabled": False,
        "pwd_reset": False,
    }
    secret = frozenset({"password"})
    await follow(world, User(), {"name": name}, full | {"pwd_reset": True}, full, secret=secret)
    await follow(world, User(), full, full | {"email": "other@example.com", "description": ""}, secret=secret)


async def test_an_access_key(world: World) -> None:
    user_id = world.users["zoe"]
    await follow(
        world,
        Key(),
        {"user_id": user_id},
        {"user_id": user_id, "description": "the build", "status": "inactive"},
        {"user_id": user_id, "description": "the build", "status": "active"},
    )


async def test_a_group_membership(world: World) -> None:
    def of(*names: str) -> Config:
        return {"group": world.group, "users": sorted(world.users[name] for name in names)}

    await follow(world, GroupMembership(), of("zoe"), of("ada", "zoe"), of("bob"))


async def test_organizations_are_listed_with_their_users_and_repositories(world: World) -> None:
    provider = world.provider
    name = fresh("counted")
    await provider.ferry.organization(NORTH, Namespace(name))
    path = "/v2/manage/namespaces?filter=mode::visible"

    async def counts() -> tuple[int, int]:
        listed = (await provider.read(path))["namespaces"]
        (found,) = [one for one in listed if one["name"] == name]
        return found["access_user_count"], found["repo_count"]

    assert await counts() == (1, 0)
    await provider.call(
        "POST", f"/v2/manage/namespaces/{name}/repos", {"repository": "a", "is_public": False}, status=201
    )
    await images.push(provider.ferry.store(NORTH), name_in(name, "a"), images.image(), Tag("v1"))
    await images.push(provider.ferry.store(NORTH), name_in(name, "b/c"), images.image(), Tag("v1"))
    grants = [{"user_id": world.users[user], "auth": 1} for user in ("zoe", "ada")]
    await provider.call("POST", f"/v2/manage/namespaces/{name}/access", grants, status=201)
    assert await counts() == (3, 2)


async def test_repositories_are_listed_by_what_the_data_sources_filter(world: World) -> None:
    provider, names = world.provider, [fresh("listed") for _ in range(2)]
    for name, is_public in zip(names, (True, False), strict=True):
        said = {"repository": name, "is_public": is_public, "category": "linux"}
        await provider.call("POST", "/v2/manage/namespaces/release/repos", said, status=201)
    for query, found in (
        ("namespace=release", names),
        ("namespace=release&is_public=true", names[:1]),
        ("namespace=release&is_public=false", names[1:]),
        ("namespace=release&category=linux&is_public=True", names[:1]),
        ("namespace=release&category=other", []),
    ):
        v2 = await provider.read(f"/v2/manage/repos?{query}")
        v3 = (await provider.read(f"/v3/manage/repos?{query}"))["repos"]
        assert {one["name"] for one in v2} == {one["name"] for one in v3} == set(found)
    assert [one["name"] for one in await provider.read("/v2/manage/repos?filter=is_public::true")] == names[:1]
    refused = await provider.request("GET", "/v2/manage/repos?is_public=maybe")
    assert refused.refused()[2] == 'is_public must be true or false: got "maybe"'
