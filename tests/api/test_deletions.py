"""A registry that accepts deletions and keeps what it should delete: nothing is called deleted that is not."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from huaweicloudsdkswr.v2 import (
    CreateRetentionRequest,
    CreateRetentionRequestBody,
    DeleteNamespacesRequest,
    DeleteRepoRequest,
    DeleteRepoTagRequest,
    ListRepoDetailsRequest,
    ListReposDetailsRequest,
    ListRetentionHistoriesRequest,
    Rule,
    ShowRepositoryRequest,
)

from tagferry.names import Tag
from tests.support.clock import Calendar
from tests.support.deployment import NORTH, Deployment, deployed, name_in
from tests.support.images import image, index
from tests.support.scripted_registry import error, said, scripted_registry
from tests.support.sdk_calls import ask, refused
from tests.support.shelf import Shelf, nothing, that_alone

APP = {"namespace": "team", "repository": "app"}
V1, V2 = Tag("v1"), Tag("v2")


@pytest.fixture
async def at_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Deployment, Shelf]]:
    """A region whose registry has `team/app` with two tags, and keeps them whatever is deleted."""
    monkeypatch.setattr("tagferry.oci.deletion._PAUSES", (0.0,))
    shelf = Shelf(name_in("team"), nothing)
    shelf.put(image(), V1)
    shelf.put(index(), V2)
    async with scripted_registry() as script:
        shelf.serve(script)
        async with deployed(tmp_path, regions={NORTH: {"listen": "", "registry": script.url}}) as ferry:
            yield ferry, shelf


async def test_what_stays_is_told_and_what_goes_is_gone(at_shelf: tuple[Deployment, Shelf]):
    ferry, shelf = at_shelf

    answer = await refused(ferry, "delete_repo_tag", DeleteRepoTagRequest(tag="v1", **APP))
    assert answer[:2] == (500, "SVCSTG.SWR.5000021")
    assert f"registry {NORTH} still has sha256:" in answer[2]
    answer = await refused(ferry, "delete_repo", DeleteRepoRequest(**APP))
    assert answer[:2] == (500, "SVCSTG.SWR.5000021")
    assert f"registry {NORTH} still has v1, v2, sha256:" in answer[2]
    assert (await ask(ferry, "show_repository", ShowRepositoryRequest(**APP))).num_images == 2

    shelf.delete = that_alone
    await ask(ferry, "delete_repo_tag", DeleteRepoTagRequest(tag="v1", **APP))
    assert shelf.tags() == ["v2"]
    await ask(ferry, "delete_repo", DeleteRepoRequest(**APP))
    assert shelf.tags() == []
    assert (await refused(ferry, "delete_repo", DeleteRepoRequest(**APP)))[:2] == (404, "SVCSTG.SWR.4040010")
    assert (await ask(ferry, "list_repo_details", ListRepoDetailsRequest(namespace="team"))).repos == []
    await ask(ferry, "delete_namespaces", DeleteNamespacesRequest(namespace="team"))


async def test_what_may_not_be_asked_for_tags_or_is_too_many_to_ask_is_listed_as_the_registry_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with scripted_registry() as script:
        script.always("GET", "/v2/_catalog", said({"repositories": ["team/a", "team/b", "team/c"]}))
        script.always("GET", "/v2/team/a/tags/list", said({"tags": ["v1"]}))
        script.always("GET", "/v2/team/b/tags/list", said({"tags": []}))
        script.always("GET", "/v2/team/c/tags/list", error(403, "DENIED"))
        async with deployed(tmp_path, regions={NORTH: {"listen": "", "registry": script.url}}) as ferry:
            listed = await ask(ferry, "list_repos_details", ListReposDetailsRequest(limit=1, offset=0))

            monkeypatch.setattr("tagferry.inventory.listed_names._ASKED_AT_MOST", 2)
            unasked = await ask(ferry, "list_repos_details", ListReposDetailsRequest(limit=1, offset=0))

    assert [(one.name, one.total_range) for one in listed.body] == [("a", 2)]
    assert [(one.name, one.total_range) for one in unasked.body] == [("a", 3)]


async def test_a_policy_has_on_record_only_what_is_gone(
    at_shelf: tuple[Deployment, Shelf], monkeypatch: pytest.MonkeyPatch
):
    ferry, shelf = at_shelf
    body = CreateRetentionRequestBody(algorithm="or", rules=[Rule(template="date_rule", params={"days": "1"})])
    created = await ask(ferry, "create_retention", CreateRetentionRequest(body=body, **APP))
    services = ferry.app.services.swr
    await services.retention.close()
    policy = await services.retention_policies.find(created.id)
    assert policy is not None
    calendar = Calendar()
    monkeypatch.setattr(services.retention, "_clock", calendar)
    assert await services.retention.run(policy) == 0
    calendar.ahead = timedelta(days=3)

    assert await services.retention.run(policy) == 0
    assert shelf.deleted
    history = await ask(ferry, "list_retention_histories", ListRetentionHistoriesRequest(**APP))
    assert history.retention_log == []

    shelf.delete = that_alone
    assert await services.retention.run(policy) == 2
    history = await ask(ferry, "list_retention_histories", ListRetentionHistoriesRequest(**APP))
    assert sorted(one.tag for one in history.retention_log) == ["v1", "v2"]
