"""The unmodified SWR SDK gives repositories policies, by which tags go."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkswr.v2 import (
    CreateRepoRequest,
    CreateRepoRequestBody,
    CreateRetentionRequest,
    CreateRetentionRequestBody,
    DeleteRepoRequest,
    DeleteRetentionRequest,
    ListRetentionHistoriesRequest,
    ListRetentionHistoriesResponse,
    ListRetentionsRequest,
    Rule,
    ShowRetentionRequest,
    TagSelector,
    UpdateRetentionRequest,
    UpdateRetentionRequestBody,
)

from tagferry.accounts.model import Permission
from tagferry.names import RepositoryName, Tag
from tagferry.oci.referrer_tags import cosign_tags
from tagferry.registry.storage.store import DiskStore
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, Deployment, deployed, eventually, name_in
from tests.support.sdk_calls import ask, assert_filled, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORBIDDEN, ORGANIZATION_MISSING, REPOSITORY_MISSING = (
    (403, "SVCSTG.SWR.4039002"),
    (404, "SVCSTG.SWR.4040058"),
    (404, "SVCSTG.SWR.4040010"),
)
DAY = 24 * 3600


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """`reader` and `editor` of `team`; every test has repositories of its own."""
    async with deployed(tmp_path_factory.mktemp("retention")) as deployment:
        await deployment.user("reader", team=Permission.READ)
        await deployment.user("editor", team=Permission.EDIT)
        await images.push(deployment.store(NORTH), name_in("team"), images.image(), Tag("v1"))
        yield deployment


def keeping(template: str | None, *exceptions: tuple[str | None, Any], **params: Any) -> Rule:
    selectors = [TagSelector(kind=kind, pattern=pattern) for kind, pattern in exceptions]
    return Rule(template=template, params=params, tag_selectors=selectors)


def create(
    repository: str, *rules: Any, namespace: str = "team", algorithm: Any = "or", **body: Any
) -> tuple[str, CreateRetentionRequest]:
    content = CreateRetentionRequestBody(**{"algorithm": algorithm, "rules": list(rules), **body})
    return "create_retention", CreateRetentionRequest(namespace=namespace, repository=repository, body=content)


def update(repository: str, retention: int, *rules: Rule) -> tuple[str, UpdateRetentionRequest]:
    body = UpdateRetentionRequestBody(algorithm="or", rules=list(rules))
    return "update_retention", UpdateRetentionRequest(
        namespace="team", repository=repository, retention_id=retention, body=body
    )


def show(repository: str, retention: int) -> tuple[str, ShowRetentionRequest]:
    return "show_retention", ShowRetentionRequest(namespace="team", repository=repository, retention_id=retention)


def delete(repository: str, retention: int) -> tuple[str, DeleteRetentionRequest]:
    return "delete_retention", DeleteRetentionRequest(namespace="team", repository=repository, retention_id=retention)


def list_all(repository: str, *, namespace: str = "team") -> tuple[str, ListRetentionsRequest]:
    return "list_retentions", ListRetentionsRequest(namespace=namespace, repository=repository)


def histories(repository: str, **page: str) -> tuple[str, ListRetentionHistoriesRequest]:
    return "list_retention_histories", ListRetentionHistoriesRequest(namespace="team", repository=repository, **page)


async def fill(ferry: Deployment, repository: str, days: dict[str, float]) -> None:
    """Push an image of its own under each of these tags, so many days ago."""
    name, store = name_in("team", repository), ferry.store(NORTH)
    assert isinstance(store, DiskStore)
    for tag in days:
        await images.push(store, name, images.image(seed=f"{repository} {tag}"), Tag(tag))
    for tag, ago in days.items():
        written = time.time() - ago * DAY
        os.utime(store._layout.tag(name, Tag(tag)), (written, written))


async def standing(ferry: Deployment, repository: str, *tags: str) -> None:
    """Wait until these tags are left."""

    async def are_left() -> bool:
        return [tag async for tag in ferry.store(NORTH).list_tags(name_in("team", repository))] == sorted(tags)

    await eventually(are_left)


async def recorded(ferry: Deployment, repository: str, number: int) -> ListRetentionHistoriesResponse:
    """Wait until this many deletions are recorded, which is after the tags were deleted, and return all of them."""

    async def history() -> ListRetentionHistoriesResponse | None:
        found = await ask(ferry, *histories(repository))
        return found if found.total == number else None

    return await eventually(history)


async def test_what_is_old_goes_at_once_but_for_the_exceptions_and_is_on_record(ferry: Deployment) -> None:
    await fill(ferry, "shop/web", {"v1": 40, "v2": 35, "v3": 3, "stable": 50, "1.0.1": 60})
    rule = keeping("date_rule", ("label", "stable"), ("regexp", r"^\d+\.\d+\.\d+$"), days="30")

    created = await ask(ferry, *create("shop$web", rule))

    assert_filled(created)
    await standing(ferry, "shop/web", "1.0.1", "stable", "v3")
    shown = await ask(ferry, *show("shop$web", created.id))
    assert_filled(shown)
    assert (shown.id, shown.algorithm) == (created.id, "or")
    (listed,) = (await ask(ferry, *list_all("shop$web"))).body
    assert_filled(listed)
    for found in (shown, listed):
        (told,) = found.rules
        assert (told.template, told.params) == ("date_rule", {"days": "30"})
        assert [(one.kind, one.pattern) for one in told.tag_selectors] == [
            ("label", "stable"),
            ("regexp", r"^\d+\.\d+\.\d+$"),
        ]
    history = await recorded(ferry, "shop$web", 2)
    assert history.content_range == "0-2/2"
    for entry, tag in zip(history.retention_log, ("v2", "v1"), strict=True):
        assert_filled(entry)
        assert (entry.tag, entry.rule_type, entry.retention_id) == (tag, "date_rule", created.id)
        assert (entry.namespace, entry.repo) == ("team", "shop/web")


async def test_all_but_the_newest_go_and_other_rules_are_followed_at_once(ferry: Deployment) -> None:
    await fill(ferry, "count", {f"v{n}": 10 - n for n in range(6)})
    created = await ask(ferry, *create("count", keeping("tag_rule", num=4)))
    await standing(ferry, "count", "v2", "v3", "v4", "v5")
    await ask(ferry, *update("count", created.id, keeping("tag_rule", ("label", "v2"), num="1")))
    await standing(ferry, "count", "v2", "v5")
    assert (await ask(ferry, *show("count", created.id))).rules[0].params == {"num": "1"}
    await recorded(ferry, "count", 4)

    page = await ask(ferry, *histories("count", limit="2", offset="1"))
    assert ([one.tag for one in page.retention_log], page.total) == (["v3", "v1"], 4)
    assert page.content_range == "1-2/4"
    page = await ask(ferry, *histories("count", filter="limit::1|offset::3"))
    assert ([one.tag for one in page.retention_log], page.content_range) == (["v0"], "3-1/4")
    past = await ask(ferry, *histories("count", limit="2", offset="9"))
    assert (past.retention_log, past.total, past.content_range) == ([], 4, "9-0/4")

    await ask(ferry, *delete("count", created.id))
    assert not (await ask(ferry, *list_all("count"))).body
    assert (await ask(ferry, *histories("count"))).total == 4


async def test_the_other_tag_of_an_image_and_what_is_attached_to_it_stay(ferry: Deployment) -> None:
    await fill(ferry, "signed", {"v1": 9, "v2": 8, "v3": 1})
    store, name = ferry.store(NORTH), name_in("team", "signed")
    signed = await store.get_manifest(name, Tag("v2"))
    await store.put_manifest(name, signed, Tag("latest"))
    signature = cosign_tags(signed.digest)[0]
    await images.push(store, name, images.image(seed="signature"), signature)
    referrer = images.artifact(subject=signed)
    await images.push(store, name, referrer)

    await ask(ferry, *create("signed", keeping("date_rule", days="7")))

    await standing(ferry, "signed", "latest", signature, "v3")
    assert (await store.get_manifest(name, Tag("latest"))).digest == signed.digest
    assert [one.digest for one in await store.list_referrers(name, signed.digest)] == [referrer.digest]


async def test_a_plan_tells_what_would_go(ferry: Deployment) -> None:
    await fill(ferry, "planned", {"v1": 9, "v2": 8, "v3": 1})
    headers = {"X-Auth-Token": await ferry.token(user="reader", password="password of reader")}
    path = "/v2/manage/namespaces/team/repos/planned/retentions/plan"
    rules = [
        {"template": "tag_rule", "params": {"num": "2"}, "tag_selectors": []},
        {"template": "date_rule", "params": {"days": "5"}},
    ]
    planned = await ferry.http("POST", path, body={"algorithm": "or", "rules": rules}, headers=headers)
    assert planned.status == 200, planned.content
    assert [(one["tag"], one["rule_type"]) for one in planned.document["tags"]] == [
        ("v1", "tag_rule"),
        ("v2", "date_rule"),
    ]
    assert planned.document["tags"][0]["digest"] == images.image(seed="planned v1").digest
    await standing(ferry, "planned", "v1", "v2", "v3")
    assert not (await ask(ferry, *list_all("planned"))).body
    wrong = await ferry.http("POST", path, body={"algorithm": "and", "rules": rules}, headers=headers)
    assert wrong.refused() == (400, "SVCSTG.SWR.4000014", 'algorithm must be or: got "and"')
    missing = await ferry.http(
        "POST", path.replace("planned", "no"), body={"algorithm": "or", "rules": rules}, headers=headers
    )
    assert missing.refused()[:2] == REPOSITORY_MISSING


async def test_a_policy_ends_with_its_repository(ferry: Deployment) -> None:
    body = CreateRepoRequestBody(repository="ending", is_public=False)
    await ask(ferry, "create_repo", CreateRepoRequest(namespace="team", body=body))
    created = await ask(ferry, *create("ending", keeping("tag_rule", num="5")))
    assert (await refused(ferry, *create("ending", keeping("tag_rule", num="6"))))[:2] == (409, "SVCSTG.SWR.4090000")
    await ask(ferry, "delete_repo", DeleteRepoRequest(namespace="team", repository="ending"))
    assert await ferry.app.services.swr.retention_policies.find(created.id) is None
    assert (await refused(ferry, *list_all("ending")))[:2] == REPOSITORY_MISSING


async def test_only_managers_make_policies_and_readers_see_them(ferry: Deployment) -> None:
    await fill(ferry, "watched", {"v1": 9})
    created = await ask(ferry, *create("watched", keeping("tag_rule", num="5")))
    editor, reader = await ferry.key("editor"), await ferry.key("reader")
    rule = keeping("tag_rule", num="1")
    for call in (
        create("watched", rule),
        update("watched", created.id, rule),
        delete("watched", created.id),
    ):
        assert (await refused(ferry, *call, key=editor))[:2] == FORBIDDEN
    assert [one.id for one in (await ask(ferry, *list_all("watched"), key=reader)).body] == [created.id]
    assert (await ask(ferry, *show("watched", created.id), key=reader)).id == created.id
    assert (await ask(ferry, *histories("watched"), key=reader)).total == 0
    await ferry.user("outsider")
    outsider = await ferry.key("outsider")
    for call in (list_all("watched"), show("watched", created.id), histories("watched")):
        assert (await refused(ferry, *call, key=outsider))[:2] == FORBIDDEN


async def test_what_does_not_exist_is_told(ferry: Deployment) -> None:
    rule = keeping("tag_rule", num="1")
    for call in (show("no", 1), delete("no", 1)):
        assert (await refused(ferry, *call))[:2] == REPOSITORY_MISSING
    for call in (create("app", rule, namespace="nowhere"), list_all("app", namespace="nowhere")):
        assert (await refused(ferry, *call))[:2] == ORGANIZATION_MISSING


@pytest.mark.parametrize(
    ("call", "code", "told"),
    [
        (create("app", algorithm="and"), "4000014", 'algorithm must be or: got "and"'),
        (create("app"), "4000014", "rules must hold 1 to 10 rules: got 0"),
        (create("app", keeping("size_rule", num="1")), "4000014", "rules[0].template must be date_rule or tag_rule"),
        (create("app", keeping("date_rule", days="366")), "4000014", "rules[0].params.days must be a whole number"),
        (create("app", keeping("date_rule", num="3")), "4001014", "rules[0].params.days is mandatory"),
        (create("app", keeping("tag_rule", ("glob", "v*"), num="3")), "4000014", "tag_selectors[0].kind must be label"),
        (create("app", keeping("tag_rule", ("label", "a:b"), num="3")), "4000014", "tag_selectors[0].pattern must"),
        (create("app", keeping("tag_rule", ("regexp", "("), num="3")), "4000014", "missing )"),
        (create("app", keeping("tag_rule", ("regexp", "((a{99}){99}){99}"), num="3")), "4000014", "repetition size"),
        (create("app", algorithm=None), "4001014", "algorithm is mandatory"),
        (create("app", rules=None), "4001014", "rules is mandatory"),
        (create("app", rules="all"), "4001018", "rules must be an array"),
        (create("app", keeping(None, num="1")), "4001014", "rules[0].template is mandatory"),
        (create("app", keeping("tag_rule", ("label", 7), num="3")), "4001018", "pattern must be a string"),
        (create("App", keeping("tag_rule", num="3")), "4001029", "repository may contain only lowercase"),
        (show("app", 0), "4000014", "retention_id"),
        (delete("app", 10**20), "4000014", "retention_id"),
        (histories("app", limit="0"), "4000014", "limit must be a whole number from 1 to 1000"),
        (histories("app", filter="limit"), "4001035", "filter must have the form"),
    ],
)
async def test_what_breaks_a_rule_is_refused_by_the_name_of_what_is_wrong(
    ferry: Deployment, call: tuple[str, Any], code: str, told: str
) -> None:
    status, found, message = await refused(ferry, *call)
    assert (status, found) == (400, f"SVCSTG.SWR.{code}")
    assert told in message
    assert not (await ask(ferry, *list_all("app"))).body


@pytest.mark.asyncio(loop_scope="function")
async def test_what_goes_at_the_source_of_a_rule_stays_at_its_target_and_crosses_when_it_is_pushed_again(
    tmp_path: Path,
) -> None:
    async with deployed(tmp_path / "data") as other:
        name, target = name_in("team"), name_in(RELEASE)
        await images.push(other.store(NORTH), name, images.image(seed="first"), Tag("v0"))
        body = {"remoteRegionId": SOUTH, "remoteNamespace": RELEASE, "syncAuto": True, "override": True}
        headers = {"X-Auth-Token": await other.token()}
        made = await other.http("POST", "/v2/manage/namespaces/team/repos/app/sync_repo", body=body, headers=headers)
        assert made.status == 200, made.content

        async def arrived(tag: str, repository: RepositoryName = target) -> None:
            async def is_there() -> bool:
                other.app.services.swr.watch.tag_changed(NORTH, name, Tag(tag))
                return await other.store(SOUTH).head_manifest(repository, Tag(tag)) is not None

            await eventually(is_there)

        sample = images.image(seed="again")
        await images.push(other.store(NORTH), name, sample, Tag("v1"))
        await arrived("v1")
        await fill(other, "app", {"v1": 30, "v2": 1})
        await images.push(other.store(NORTH), name, sample, Tag("v1"))
        written = time.time() - 30 * DAY
        store = other.store(NORTH)
        assert isinstance(store, DiskStore)
        os.utime(store._layout.tag(name, Tag("v1")), (written, written))

        await ask(other, *create("app", keeping("date_rule", days="7")))

        await standing(other, "app", "v0", "v2")
        await arrived("v2")
        assert await other.store(SOUTH).head_manifest(target, Tag("v1")) is not None
        await other.store(SOUTH).delete_manifest(target, Tag("v1"))
        await images.push(store, name, sample, Tag("v1"))
        await arrived("v1")
