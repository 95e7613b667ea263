"""Every operation of the basic edition through the SDK's method of the same name: its response, and its errors.

The tests of each kind of resource and the permission matrix cover the content of responses, the required permissions
and further errors.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkswr import v2 as swr

from tagferry.accounts.model import AccessKey
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed, name_in
from tests.support.sdk_calls import ask
from tests.support.sdk_operations import State, operations

pytestmark = pytest.mark.asyncio(loop_scope="module")

Refusal = tuple[int, str]

DENIED, NO_LOGIN = (403, "SVCSTG.SWR.4039002"), (401, "SVCSTG.SWR.4000031")
NO_ORGANIZATION, NO_REPOSITORY, NO_TAG, NOTHING = (
    (404, "SVCSTG.SWR.4040058"),
    (404, "SVCSTG.SWR.4040010"),
    (404, "SVCSTG.SWR.4040048"),
    (404, "SVCSTG.SWR.4040000"),
)
BAD, BAD_FILTER, BAD_ORGANIZATION, BAD_REPOSITORY = (
    (400, "SVCSTG.SWR.4000014"),
    (400, "SVCSTG.SWR.4001035"),
    (400, "SVCSTG.SWR.4001028"),
    (400, "SVCSTG.SWR.4001029"),
)
OWN = "every user sees its own"
FOUND = "what is not there is not among what is found"
UNNAMED = "it names nothing that could be missing"
FREE = "it takes no parameters"

USER = object()
"""Stands for a user's id."""
CLUSTER = "5b28c12f-dc10-11e9-97b3-0255ac1001b5"
TRIGGER = {
    "name": "deploy",
    "action": "update",
    "trigger_type": "all",
    "condition": ".*",
    "cluster_id": CLUSTER,
    "cluster_ns": "default",
    "app_type": "deployments",
    "application": "web",
    "enable": "true",
}
TARGET = {"remote_region_id": SOUTH, "remote_namespace": "release"}
RETENTION = 1
"""The id of the first policy of a database."""


class Change(NamedTuple):
    """A change of a request, by the names of its fields or of its body's, and the expected error."""

    fields: dict[str, Any]
    refusal: Refusal


class Case(NamedTuple):
    """An operation.

    Attributes:
        fields: the fields of a request that an administrator may make, in a body those of `body`.
        missing: something that does not exist; or why nothing can be missing.
        bad: a parameter that breaks a rule; or why none can.
        denied: why all users may make the request; empty if users without permissions are denied.
    """

    fields: dict[str, Any]
    missing: Change | str
    bad: Change | str
    denied: str = ""


TEAM = {"namespace": "team"}
APP = {**TEAM, "repository": "app"}
MADE = {**TEAM, "repository": "made"}
NOWHERE = Change({"namespace": "nowhere"}, NO_ORGANIZATION)
NO_APP = Change({"repository": "nothing"}, NO_REPOSITORY)
BAD_APP = Change({"repository": "App"}, BAD_REPOSITORY)
BAD_TEAM = Change({"namespace": "Team"}, BAD_ORGANIZATION)
AUTH = [{"user_id": USER, "auth": 1}]
WRONG_AUTH = Change({"body": [{"user_id": USER, "auth": 2}]}, BAD)
NOBODY = Change({"body": []}, BAD)
TWICE = Change({"body": ["f" * 32, "f" * 32]}, BAD)
RULES = [swr.Rule(template="tag_rule", params={"num": "5"}, tag_selectors=[])]

# In an order in which an administrator can make all of these requests, each after those before it.
TABLE = {
    "list_api_versions": Case({}, UNNAMED, FREE, OWN),
    "show_api_version": Case(
        {"api_version": "v2"},
        Change({"api_version": "v9"}, (404, "APIGW.0101")),
        "what is no version does not exist",
        OWN,
    ),
    "show_domain_overview": Case({}, UNNAMED, FREE, OWN),
    "show_share_feature_gates": Case({}, UNNAMED, FREE, OWN),
    "list_quotas": Case({}, UNNAMED, FREE, OWN),
    "show_domain_resource_reports": Case(
        {"resource_type": "store", "frequency": "daily"}, UNNAMED, Change({"resource_type": "weather"}, BAD), OWN
    ),
    "list_sync_regions": Case({}, UNNAMED, FREE, OWN),
    "create_secret": Case({}, UNNAMED, Change({"projectname": SOUTH}, BAD), OWN),
    "create_authorization_token": Case({}, UNNAMED, FREE, OWN),
    "check_agency": Case({}, UNNAMED, FREE, OWN),
    "create_agency": Case({}, UNNAMED, FREE, "it is denied to everybody where no webhook is configured"),
    "create_namespace": Case(
        {"body": {"namespace": "made"}},
        UNNAMED,
        Change({"body": {"namespace": "No"}}, BAD_ORGANIZATION),
        "everybody may, and manages what it made",
    ),
    "list_namespaces": Case({}, FOUND, Change({"filter": "namespace"}, BAD_FILTER), OWN),
    "show_namespace": Case(TEAM, NOWHERE, BAD_TEAM),
    "create_namespace_auth": Case({**TEAM, "body": AUTH}, NOWHERE, WRONG_AUTH),
    "show_namespace_auth": Case(TEAM, NOWHERE, BAD_TEAM),
    "update_namespace_auth": Case({**TEAM, "body": AUTH}, NOWHERE, WRONG_AUTH),
    "delete_namespace_auth": Case({**TEAM, "body": [USER]}, NOWHERE, TWICE),
    "create_repo": Case(
        {**TEAM, "body": {"repository": "made", "is_public": False}},
        NOWHERE,
        Change({"body": {"repository": "Made", "is_public": False}}, BAD_REPOSITORY),
    ),
    "update_repo": Case(
        {**MADE, "body": {"is_public": False, "description": "made"}},
        NO_APP,
        Change({"body": {"is_public": False, "category": "games"}}, BAD),
    ),
    "show_repository": Case(APP, NO_APP, BAD_APP),
    "list_repos_details": Case({}, FOUND, Change({"limit": 1001}, BAD), OWN),
    "list_repo_details": Case({}, FOUND, Change({"marker": "x"}, BAD), OWN),
    "create_user_repository_auth": Case({**APP, "body": AUTH}, NO_APP, WRONG_AUTH),
    "show_user_repository_auth": Case(APP, NO_APP, BAD_APP),
    "update_user_repository_auth": Case({**APP, "body": AUTH}, NO_APP, WRONG_AUTH),
    "delete_user_repository_auth": Case({**APP, "body": [USER]}, NO_APP, TWICE),
    "create_repo_domains": Case(
        {**APP, "body": {"access_domain": "strangers", "permit": "read", "deadline": "forever"}},
        Change({"body": {"access_domain": "nobody's", "permit": "read", "deadline": "forever"}}, NOTHING),
        Change({"body": {"access_domain": "strangers", "permit": "write", "deadline": "forever"}}, BAD),
    ),
    "show_access_domain": Case(
        {**APP, "access_domain": "strangers"}, Change({"access_domain": "nobody's"}, NOTHING), BAD_APP
    ),
    "list_repo_domains": Case(APP, NO_APP, BAD_APP),
    "update_repo_domains": Case(
        {**APP, "access_domain": "strangers", "body": {"permit": "read", "deadline": "forever"}},
        Change({"access_domain": "nobody's"}, NOTHING),
        Change({"body": {"permit": "read", "deadline": "never"}}, BAD),
    ),
    "list_shared_repos_details": Case({"center": "self"}, FOUND, Change({"center": "others"}, BAD), OWN),
    "list_shared_repo_details": Case({"shared_by": "self"}, FOUND, Change({"shared_by": "others"}, BAD), OWN),
    "delete_repo_domains": Case(
        {**APP, "access_domain": "strangers"}, Change({"access_domain": "nobody's"}, NOTHING), BAD_APP
    ),
    "create_repo_tag": Case(
        {**APP, "body": {"source_tag": "v1", "destination_tag": "stable"}},
        Change({"body": {"source_tag": "v9", "destination_tag": "stable"}}, NO_TAG),
        Change({"body": {"source_tag": "v1", "destination_tag": "-"}}, BAD),
    ),
    "list_repository_tags": Case(APP, NO_APP, Change({"limit": "0"}, BAD)),
    "list_repository_tag": Case(APP, NO_APP, Change({"marker": "x"}, BAD)),
    "show_repo_tag": Case({**APP, "tag": "v1"}, Change({"tag": "v9"}, NO_TAG), Change({"tag": "-"}, BAD)),
    "list_repo_accessories": Case({**APP, "tag": "v1"}, Change({"tag": "v9"}, NO_TAG), Change({"limit": 101}, BAD)),
    "list_references": Case({**APP, "tag": "v1"}, Change({"tag": "v9"}, NO_TAG), Change({"limit": 11}, BAD)),
    "create_manual_image_sync_repo": Case(
        {**APP, "body": {**TARGET, "image_tag": ["v1"], "override": True}},
        NO_APP,
        Change({"body": {**TARGET, "image_tag": []}}, BAD),
    ),
    "show_sync_job": Case(
        {**APP, "filter": "limit::10|offset::0|order::desc"}, NOWHERE, Change({"filter": "order::up"}, BAD)
    ),
    "create_image_sync_repo": Case(
        {**APP, "body": {**TARGET, "sync_auto": False, "override": False}},
        NO_APP,
        Change({"body": {"remote_region_id": "nowhere", "remote_namespace": "release"}}, BAD),
    ),
    "list_image_auto_sync_repos_details": Case(APP, NOWHERE, BAD_APP),
    "delete_image_sync_repo": Case(
        {**APP, "body": TARGET},
        Change({"body": {**TARGET, "remote_namespace": "team"}}, (400, "SVCSTG.SWR.4001158")),
        Change({"body": {**TARGET, "remote_namespace": "Team"}}, BAD_ORGANIZATION),
    ),
    "create_retention": Case(
        {**APP, "body": {"algorithm": "or", "rules": RULES}},
        NO_APP,
        Change({"body": {"algorithm": "and", "rules": RULES}}, BAD),
    ),
    "list_retentions": Case(APP, NO_APP, BAD_APP),
    "show_retention": Case(
        {**APP, "retention_id": RETENTION},
        Change({"retention_id": 10**9}, NOTHING),
        Change({"retention_id": 0}, BAD),
    ),
    "update_retention": Case(
        {**APP, "retention_id": RETENTION, "body": {"algorithm": "or", "rules": RULES}},
        Change({"retention_id": 10**9}, NOTHING),
        Change({"body": {"algorithm": "or", "rules": []}}, BAD),
    ),
    "list_retention_histories": Case(APP, NO_APP, Change({"limit": "0"}, BAD)),
    "delete_retention": Case(
        {**APP, "retention_id": RETENTION},
        Change({"retention_id": 10**9}, (400, "SVCSTG.SWR.4000306")),
        Change({"retention_id": 0}, BAD),
    ),
    "create_trigger": Case({**APP, "body": TRIGGER}, NO_APP, Change({"body": {**TRIGGER, "action": "delete"}}, BAD)),
    "list_triggers_details": Case(APP, NO_APP, BAD_APP),
    "show_trigger": Case({**APP, "trigger": "deploy"}, Change({"trigger": "other"}, NOTHING), BAD_APP),
    "update_trigger": Case(
        {**APP, "trigger": "deploy", "body": {"enable": "false"}},
        Change({"trigger": "other"}, NOTHING),
        Change({"body": {"enable": "on"}}, BAD),
    ),
    "delete_trigger": Case({**APP, "trigger": "deploy"}, Change({"trigger": "other"}, NOTHING), BAD_APP),
    "delete_repo_tag": Case({**APP, "tag": "stable"}, Change({"tag": "v9"}, NO_TAG), Change({"tag": "-"}, BAD)),
    "delete_repo": Case(MADE, NO_APP, BAD_APP),
    "delete_namespaces": Case({"namespace": "release"}, NOWHERE, BAD_TEAM),
}

EMPTY, LAST = "the SDK reports an empty array as None", "nothing follows"
UNFILLED = {
    "create_manual_image_sync_repo.body": EMPTY,
    "list_references.next_marker": LAST,
    "list_repo_details.next_marker": LAST,
    "list_repos_details.body": EMPTY,
    "list_repository_tag.next_marker": LAST,
    "list_repository_tags.body.deleted": "it is there",
    "list_shared_repo_details.next_marker": LAST,
    "list_shared_repos_details.body": EMPTY,
    "show_domain_overview.downflow_size": "not counted",
    "show_domain_resource_reports.body": EMPTY,
}
"""The fields that the responses do not have, with the reason."""


class World(NamedTuple):
    """A running tagferry with an image in `team/app`.

    Attributes:
        user_id: a user's.
        outsider: the key of a user without any permission.
    """

    ferry: Deployment
    user_id: str
    outsider: AccessKey

    async def ask(self, call: str, fields: dict[str, Any], *, key: AccessKey | None = None) -> Any:
        """Make a request, as the administrator or with another key."""
        request = getattr(swr, f"{NAMES[call]}Request")
        values = dict(fields)
        if "body" in fields:
            values["body"] = self._body(request.openapi_types["body"], fields["body"])
        return await ask(self.ferry, call, request(**values), key=key)

    async def refusal(self, call: str, fields: dict[str, Any], *, key: AccessKey | None = None) -> Refusal:
        """Make a request that is refused."""
        with pytest.raises(ServiceResponseException) as told:
            await self.ask(call, fields, key=key)
        return told.value.status_code, told.value.error_code

    def _body(self, kind: str, content: Any) -> Any:
        if isinstance(content, list):
            return [self._body(kind.removeprefix("list[").removesuffix("]"), one) for one in content]
        if isinstance(content, dict):
            return getattr(swr, kind)(**{field: self._body("", value) for field, value in content.items()})
        return self.user_id if content is USER else content


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    webhooks = [{"cluster_id": CLUSTER, "url": "http://127.0.0.1:9/"}]
    folder = tmp_path_factory.mktemp("operations")
    # The SDK sends no field that its operation does not know.
    limits = {"lockout_failure_attempts": 1000, "unknown_fields": "refuse"}
    async with deployed(folder, webhooks=webhooks, limits=limits) as ferry:
        await images.push(ferry.store(NORTH), name_in("team"), images.image(), Tag("v1"))
        await ferry.user("stranger", domain="strangers")
        _, outsider = await ferry.user("outsider")
        user = await ferry.app.accounts.users.create("somebody", None, domain="tagferry")
        yield World(ferry, user.user_id, outsider)


NAMES = {one.call: one.name for one in operations() if one.state is not State.ENTERPRISE}
UNKNOWN = AccessKey(access_key="A" * 20, secret_key="B" * 40)


async def test_the_table_has_every_operation() -> None:
    assert TABLE.keys() == NAMES.keys()


@pytest.mark.parametrize("call", TABLE)
async def test_each_operation_refuses_what_it_should(world: World, call: str) -> None:
    case = TABLE[call]
    assert await world.refusal(call, case.fields, key=UNKNOWN) == NO_LOGIN
    if not case.denied:
        assert await world.refusal(call, case.fields, key=world.outsider) == DENIED
    for change in (case.missing, case.bad):
        if isinstance(change, Change):
            assert await world.refusal(call, case.fields | change.fields) == change.refusal


async def test_each_operation_succeeds_where_nothing_is_wrong_and_fills_its_answer(world: World) -> None:
    unfilled: set[str] = set()
    for call, case in TABLE.items():
        # Operations that are denied to no user are called by the outsider.
        answer = await world.ask(call, case.fields, key=world.outsider if case.denied else None)
        unfilled.update(nulls(answer, call))
    assert unfilled == UNFILLED.keys()


def nulls(value: Any, place: str) -> Iterator[str]:
    """Return the paths of the fields of a response's model that have no value."""
    if value is None:
        yield place
    elif isinstance(value, list):
        for one in value:
            yield from nulls(one, place)
    elif hasattr(value, "openapi_types"):
        for field in value.openapi_types:
            yield from nulls(getattr(value, field), f"{place}.{field}")
