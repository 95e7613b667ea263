"""The unmodified SWR SDK shares repositories with other domains."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkswr.v2 import (
    CreateRepoDomainsRequest,
    CreateRepoDomainsRequestBody,
    DeleteRepoDomainsRequest,
    ListRepoDomainsRequest,
    ListRepositoryTagsRequest,
    ShowAccessDomainRequest,
    UpdateRepoDomainsRequest,
    UpdateRepoDomainsRequestBody,
)

from tagferry.accounts.model import AccessKey, Permission
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, Deployment, deployed, name_in
from tests.support.sdk_calls import ask, assert_filled, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORBIDDEN, ORGANIZATION_MISSING, REPOSITORY_MISSING, OTHER_MISSING = (
    (403, "SVCSTG.SWR.4039002"),
    (404, "SVCSTG.SWR.4040058"),
    (404, "SVCSTG.SWR.4040010"),
    (404, "SVCSTG.SWR.4040000"),
)
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """Images in `team/app` and `team/shop/web`; `editor` of `team`, and `partner` and `rival` of domains of theirs."""
    async with deployed(tmp_path_factory.mktemp("sharing")) as deployment:
        for repository in ("app", "shop/web"):
            await images.push(deployment.store(NORTH), name_in("team", repository), images.image(), Tag("v1"))
        await deployment.user("editor", team=Permission.EDIT)
        await deployment.user("partner", domain="partners")
        await deployment.user("rival", domain="rivals")
        yield deployment


async def key_of(ferry: Deployment, name: str) -> AccessKey:
    return await ferry.key(name)


def create(
    domain: str | None = "partners",
    *,
    repository: str = "shop$web",
    namespace: str = "team",
    permit: str | None = "read",
    deadline: Any = "forever",
    description: str | None = None,
) -> tuple[str, Any]:
    body = CreateRepoDomainsRequestBody(access_domain=domain, permit=permit, deadline=deadline, description=description)
    return "create_repo_domains", CreateRepoDomainsRequest(namespace=namespace, repository=repository, body=body)


def update(domain: str, *, permit: str = "read", deadline: Any, description: str | None = None) -> tuple[str, Any]:
    body = UpdateRepoDomainsRequestBody(permit=permit, deadline=deadline, description=description)
    request = UpdateRepoDomainsRequest(namespace="team", repository="shop$web", access_domain=domain, body=body)
    return "update_repo_domains", request


def delete(domain: str) -> tuple[str, Any]:
    return "delete_repo_domains", DeleteRepoDomainsRequest(
        namespace="team", repository="shop$web", access_domain=domain
    )


def show(domain: str, *, repository: str = "shop$web") -> tuple[str, Any]:
    return "show_access_domain", ShowAccessDomainRequest(namespace="team", repository=repository, access_domain=domain)


def list_all(*, repository: str = "shop$web", namespace: str = "team") -> tuple[str, Any]:
    return "list_repo_domains", ListRepoDomainsRequest(namespace=namespace, repository=repository)


def tags() -> tuple[str, Any]:
    return "list_repository_tags", ListRepositoryTagsRequest(namespace="team", repository="shop$web")


async def test_a_repository_is_shared_shown_changed_and_shared_no_longer(ferry: Deployment) -> None:
    today = datetime.now(UTC).date()
    partner, rival = await key_of(ferry, "partner"), await key_of(ferry, "rival")
    assert (await refused(ferry, *tags(), key=partner))[:2] == FORBIDDEN
    await ask(ferry, *create(deadline=f"{today}T00:00:00Z", description="for tests"))
    assert [one.tag for one in (await ask(ferry, *tags(), key=partner)).body] == ["v1"]
    assert (await refused(ferry, *tags(), key=rival))[:2] == FORBIDDEN

    shown = await ask(ferry, *show("partners"))
    assert_filled(shown)
    assert (shown.exist, shown.status, shown.permit) == (True, True, "read")
    assert (shown.namespace, shown.repository, shown.access_domain) == ("team", "shop/web", "partners")
    assert (shown.deadline[:10], shown.description, shown.creator_name) == (str(today), "for tests", "admin")

    await ask(ferry, *update("partners", deadline="forever"))
    (listed,) = (await ask(ferry, *list_all())).body
    assert_filled(listed)
    assert (listed.access_domain, listed.deadline, listed.description) == ("partners", "forever", "for tests")
    await ask(ferry, *update("partners", deadline=str(today + timedelta(days=1)), description=""))
    changed = await ask(ferry, *show("partners"))
    assert (changed.deadline[:10], changed.description) == (str(today + timedelta(days=1)), "")

    await ask(ferry, *delete("partners"))
    assert not (await ask(ferry, *list_all())).body
    assert (await refused(ferry, *show("partners")))[:2] == OTHER_MISSING
    assert (await refused(ferry, *tags(), key=partner))[:2] == FORBIDDEN


async def test_what_is_over_is_shown_as_over_and_lets_nobody_in(ferry: Deployment) -> None:
    partner = await key_of(ferry, "partner")
    await ask(ferry, *create())
    record = await ferry.app.services.swr.repositories.find(NORTH, name_in("team", "shop/web"))
    assert record is not None
    yesterday = datetime.now(UTC) - timedelta(days=1)
    await ferry.app.services.swr.shares.update(record.id, "partners", deadline=yesterday, description=None)
    assert (await refused(ferry, *tags(), key=partner))[:2] == FORBIDDEN
    assert (await ask(ferry, *show("partners"))).status is False
    await ask(ferry, *delete("partners"))


async def test_guests_are_told_of_their_own_domain_only(ferry: Deployment) -> None:
    await ask(ferry, *create("partners"))
    await ask(ferry, *create("rivals"))
    rival = await key_of(ferry, "rival")
    assert [one.access_domain for one in (await ask(ferry, *list_all())).body] == ["partners", "rivals"]
    assert [one.access_domain for one in (await ask(ferry, *list_all(), key=rival)).body] == ["rivals"]
    assert (await refused(ferry, *show("partners"), key=rival))[:2] == OTHER_MISSING
    for domain in ("partners", "rivals"):
        await ask(ferry, *delete(domain))


async def test_only_managers_share(ferry: Deployment) -> None:
    await ask(ferry, *create("rivals"))
    editor = await key_of(ferry, "editor")
    for call in (create("partners"), update("rivals", deadline="forever"), delete("rivals")):
        assert (await refused(ferry, *call, key=editor))[:2] == FORBIDDEN
    assert [one.access_domain for one in (await ask(ferry, *list_all(), key=editor)).body] == ["rivals"]
    await ask(ferry, *delete("rivals"))


async def test_what_does_not_exist_is_told(ferry: Deployment) -> None:
    assert (await refused(ferry, *create("nobody")))[:2] == OTHER_MISSING
    for call in (show("rivals"), update("rivals", deadline="forever"), delete("rivals")):
        assert (await refused(ferry, *call))[:2] == OTHER_MISSING
    for missing in (create(repository="no"), list_all(repository="no"), show("partners", repository="no")):
        assert (await refused(ferry, *missing))[:2] == REPOSITORY_MISSING
    for missing in (create(namespace="nowhere"), list_all(namespace="nowhere")):
        assert (await refused(ferry, *missing))[:2] == ORGANIZATION_MISSING


async def test_what_is_shared_already_is_not_shared_again(ferry: Deployment) -> None:
    await ask(ferry, *create(repository="app"))
    assert (await refused(ferry, *create(repository="app")))[:2] == (409, "SVCSTG.SWR.4090000")


@pytest.mark.parametrize(
    ("call", "code", "told"),
    [
        (create(permit="write"), "4000014", "permit must be read"),
        (create(deadline="tomorrow"), "4000014", "deadline must be forever, or a date"),
        (create(deadline="2027-02-30"), "4000014", "deadline must be forever, or a date"),
        (create(deadline="2027-01-01T00:00:00+08:00"), "4000014", "deadline must be forever, or a date"),
        (create(deadline=str(YESTERDAY)), "4000014", "from today on"),
        (create(deadline=None), "4001014", "deadline is mandatory"),
        (create(permit=None), "4001014", "permit is mandatory"),
        (create(None), "4001014", "access_domain is mandatory"),
        (create(deadline=7), "4001018", "deadline must be a string"),
        (update("partners", permit="write", deadline="forever"), "4000014", "permit must be read"),
        (update("partners", deadline="never"), "4000014", "deadline must be forever, or a date"),
        (update("partners", deadline=None), "4001014", "deadline is mandatory"),
        (create(repository="Shop"), "4001029", "repository may contain only lowercase"),
        (list_all(namespace="Team"), "4001028", "namespace may contain only lowercase"),
    ],
)
async def test_what_breaks_a_rule_is_refused_by_the_name_of_what_is_wrong(
    ferry: Deployment, call: tuple[str, Any], code: str, told: str
) -> None:
    status, found, message = await refused(ferry, *call)
    assert (status, found) == (400, f"SVCSTG.SWR.{code}")
    assert told in message
    assert not (await ask(ferry, *list_all())).body
