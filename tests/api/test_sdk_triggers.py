"""The unmodified SWR SDK makes triggers, and webhooks are called when tags change."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from huaweicloudsdkswr.v2 import (
    CheckAgencyRequest,
    CreateAgencyRequest,
    CreateRepoTagRequest,
    CreateRepoTagRequestBody,
    CreateTriggerRequest,
    CreateTriggerRequestBody,
    DeleteRepoRequest,
    DeleteRepoTagRequest,
    DeleteTriggerRequest,
    ListTriggersDetailsRequest,
    ShowTriggerRequest,
    UpdateTriggerRequest,
    UpdateTriggerRequestBody,
)

from tagferry.accounts.model import Permission
from tagferry.names import RegionId, Tag
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tests.support import images
from tests.support.deployment import NORTH, SOUTH, TEAM, Deployment, deployed, eventually, name_in
from tests.support.images import SampleImage
from tests.support.sdk_calls import ask, assert_filled, refused
from tests.support.webhook_receiver import Receiver, receiving

SECRET = "a secret of the webhook"
CLUSTER = "5b28c12f-dc10-11e9-97b3-0255ac1001b5"
V1, V2 = Tag("v1"), Tag("v2")
FIRST, SECOND, THIRD = images.image(seed="first"), images.image(seed="second"), images.image(seed="third")
FIELDS = {
    "name": "deploy",
    "action": "update",
    "trigger_mode": "cce",
    "trigger_type": "all",
    "condition": ".*",
    "cluster_id": CLUSTER,
    "cluster_name": "production",
    "cluster_ns": "default",
    "app_type": "deployments",
    "application": "web",
    "container": "",
}


@pytest.fixture
async def hook(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    monkeypatch.setattr("tagferry.automation.triggers.sender._SHORTEST", 0.02)
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def ferry(tmp_path: Path, hook: Receiver) -> AsyncIterator[Deployment]:
    """The image `team/app:v1` in the north, and a webhook for a cluster."""
    webhooks = [
        {"cluster_id": CLUSTER, "url": hook.url, "secret": SECRET},
        {"cluster_name": "releases", "url": f"{hook.url}/releases", "organizations": ["release"]},
        {"trigger_mode": "cci", "url": f"{hook.url}/cci", "max_attempts": 2},
    ]
    async with deployed(tmp_path / "data", webhooks=webhooks) as deployment:
        await images.push(deployment.store(NORTH), name_in("team"), FIRST, V1)
        yield deployment


def create(*, repository: str = "app", namespace: str = "team", **fields: Any) -> tuple[str, Any]:
    body = CreateTriggerRequestBody(**({**FIELDS, "enable": "true"} | fields))
    return "create_trigger", CreateTriggerRequest(namespace=namespace, repository=repository, body=body)


def show(name: str = "deploy", *, repository: str = "app", namespace: str = "team") -> tuple[str, Any]:
    return "show_trigger", ShowTriggerRequest(namespace=namespace, repository=repository, trigger=name)


def list_all(*, repository: str = "app", namespace: str = "team") -> tuple[str, Any]:
    return "list_triggers_details", ListTriggersDetailsRequest(namespace=namespace, repository=repository)


def update(enable: str | None, name: str = "deploy", *, repository: str = "app") -> tuple[str, Any]:
    body = UpdateTriggerRequestBody(enable=enable)
    return "update_trigger", UpdateTriggerRequest(namespace="team", repository=repository, trigger=name, body=body)


def delete(name: str = "deploy", *, repository: str = "app") -> tuple[str, Any]:
    return "delete_trigger", DeleteTriggerRequest(namespace="team", repository=repository, trigger=name)


async def push(ferry: Deployment, sample: SampleImage, tag: Tag, region: RegionId = NORTH) -> None:
    """Push to `team/app` as docker does."""
    credentials = Credentials(username=ferry.admin.name, password=ferry.admin.password)
    client = RemoteStore(Endpoint(name="client", url=ferry.urls[region], credentials=credentials))
    await images.push(client, name_in("team"), sample, tag)
    await client.close()


async def ended(ferry: Deployment, count: int = 1) -> list[Any]:
    """The trigger's history, once so many of its calls have ended."""

    async def have_ended() -> list[Any]:
        history = (await ask(ferry, *show())).trigger_history
        return history if sum(one.result != "waiting" for one in history) >= count else []

    return await eventually(have_ended)


async def test_a_trigger_is_made_shown_listed_and_deleted(ferry: Deployment):
    made = await ask(ferry, *create(container="main", trigger_type="regular", condition="v[0-9]+"))
    assert made.status_code == 201

    shown = await ask(ferry, *show())
    assert_filled(shown)
    expected = FIELDS | {"container": "main", "trigger_type": "regular", "condition": "v[0-9]+"}
    assert {field: getattr(shown, field) for field in expected} == expected
    assert (shown.enable, shown.creator_name, shown.trigger_history) == ("true", "admin", [])
    (listed,) = (await ask(ferry, *list_all())).body
    assert listed.to_dict() == {field: getattr(shown, field) for field in type(listed).openapi_types}

    assert (await ask(ferry, *delete())).status_code == 204
    # The SDK reports an empty array as None.
    assert not (await ask(ferry, *list_all())).body


async def test_a_push_is_told_to_the_webhook_signed_and_whole(ferry: Deployment, hook: Receiver):
    await ask(ferry, *create())
    await push(ferry, SECOND, V2)

    (history,) = await ended(ferry)
    assert_filled(history)
    assert (history.tag, history.action, history.result) == ("v2", "update", "success")
    assert history.detail == "the webhook answered 200"
    (call,) = hook.calls
    assert call.path == "/hook"
    assert call.is_signed_with(SECRET)
    assert call.headers["content-type"] == "application/json"
    assert call.headers["x-tagferry-event"] == "tag"
    document = call.document
    assert document["id"] == call.headers["x-tagferry-delivery"]
    assert len(document.pop("id")) == 32
    assert document.pop("time") == history.created_at
    host = ferry.urls[NORTH].partition("://")[2]
    assert document == {
        "event": "tag",
        "region": NORTH,
        "namespace": "team",
        "repository": "app",
        "tag": "v2",
        "digest": SECOND.digest,
        "image": f"{host}/team/app:v2",
        "pushedBy": "admin",
        "trigger": FIELDS | {"creator_name": "admin"},
    }


async def test_what_stood_there_is_no_news_nor_is_the_same_image_again(ferry: Deployment, hook: Receiver):
    await ask(ferry, *create())
    await push(ferry, FIRST, V1)
    await push(ferry, SECOND, V1)
    await push(ferry, SECOND, V1)
    await push(ferry, THIRD, V1)

    await ended(ferry, 2)
    assert [call.document["digest"] for call in hook.calls] == [SECOND.digest, THIRD.digest]


async def test_every_kind_of_tag_event_is_told_once(ferry: Deployment, hook: Receiver):
    await ask(ferry, *create())
    tag = CreateRepoTagRequestBody(source_tag="v1", destination_tag="stable")
    await ask(ferry, "create_repo_tag", CreateRepoTagRequest(namespace="team", repository="app", body=tag))
    await ended(ferry)

    gone = DeleteRepoTagRequest(namespace="team", repository="app", tag="stable")
    await ask(ferry, "delete_repo_tag", gone)
    await ask(ferry, "create_repo_tag", CreateRepoTagRequest(namespace="team", repository="app", body=tag))
    await ended(ferry, 2)

    assert hook.tags() == ["stable", "stable"]
    assert [call.document["pushedBy"] for call in hook.calls] == ["admin", "admin"]


async def test_what_a_synchronization_brings_is_told_too(ferry: Deployment, hook: Receiver):
    body = {"repository": "app", "category": "other", "description": "", "is_public": False}
    headers = {"X-Auth-Token": await ferry.token(SOUTH), "Content-Type": "application/json"}
    path = f"/v2/manage/namespaces/{TEAM}/repos"
    assert (await ferry.http("POST", path, region=SOUTH, body=body, headers=headers)).status == 201
    await ask(ferry, *create(), region=SOUTH)

    jobs = await ferry.start_sync(name_in("team"), [V1], TEAM)
    await ferry.ended_jobs(name_in("team"), jobs)
    await eventually(lambda: hook.has(1))

    (call,) = hook.calls
    told = [call.document[field] for field in ("region", "tag", "digest", "pushedBy")]
    assert told == [SOUTH, "v1", FIRST.digest, None]


async def test_a_webhook_that_fails_is_called_again_with_the_same_event(ferry: Deployment, hook: Receiver):
    hook.statuses = [500, 302]
    await ask(ferry, *create())
    await push(ferry, SECOND, V1)

    (history,) = await ended(ferry)
    assert history.result == "success"
    assert [call.status for call in hook.calls] == [500, 302, 200]
    assert len({(call.body, call.headers["x-tagferry-delivery"]) for call in hook.calls}) == 1


async def test_a_webhook_that_goes_on_failing_is_given_up(ferry: Deployment, hook: Receiver):
    hook.statuses = [500, 302]
    hook.headers = [(b"location", f"{hook.url}/elsewhere".encode())]
    await ask(ferry, *create(trigger_mode="cci", cluster_id="", cluster_name=None))
    await push(ferry, SECOND, V1)

    (history,) = await ended(ferry)
    assert (history.result, history.tag) == ("failed", "v1")
    assert history.detail == "attempt 2 of 2: the webhook answered 302; redirects are not followed"
    assert [call.path for call in hook.calls] == ["/hook/cci"] * 2
    assert "x-tagferry-signature-256" not in hook.calls[0].headers


async def test_a_trigger_that_is_off_is_silent_until_it_is_switched_on(ferry: Deployment, hook: Receiver):
    await ask(ferry, *create(enable="false"))
    assert (await ask(ferry, *show())).enable == "false"
    await push(ferry, SECOND, V1)
    await ask(ferry, *update("true"))
    assert (await ask(ferry, *show())).enable == "true"
    await push(ferry, THIRD, V1)
    await ended(ferry)
    await ask(ferry, *update("false"))
    await push(ferry, FIRST, V1)
    await ask(ferry, *update("true"))
    await push(ferry, SECOND, V2)

    await ended(ferry, 2)
    assert [call.document["digest"] for call in hook.calls] == [THIRD.digest, SECOND.digest]


async def test_what_waits_for_a_webhook_is_given_up_when_the_trigger_is_switched_off(
    ferry: Deployment, hook: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.automation.triggers.sender._SHORTEST", 600.0)
    hook.statuses = [503]
    await ask(ferry, *create())
    await push(ferry, SECOND, V1)

    async def is_waiting() -> bool:
        (history,) = (await ask(ferry, *show())).trigger_history
        return (history.result, history.detail) == ("waiting", "attempt 1 of 30: the webhook answered 503")

    await eventually(is_waiting)
    await ask(ferry, *update("false"))

    (history,) = await ended(ferry)
    assert (history.result, history.detail) == ("failed", "the trigger was switched off")


@pytest.mark.parametrize(
    ("kind", "condition", "told"),
    [
        ("all", ".*", ["v1", "v1.2", "latest"]),
        ("tag", "v1", ["v1"]),
        ("tag", "v1;latest", ["v1", "latest"]),
        ("regular", "v[0-9.]+", ["v1", "v1.2"]),
    ],
)
async def test_a_condition_chooses_the_tags(
    ferry: Deployment, hook: Receiver, kind: str, condition: str, told: list[str]
):
    await ask(ferry, *create(trigger_type=kind, condition=condition))
    for tag in ("v1", "v1.2", "latest"):
        await push(ferry, SECOND, Tag(tag))

    await ended(ferry, len(told))
    assert sorted(hook.tags()) == sorted(told)
    assert len((await ask(ferry, *show())).trigger_history) == len(told)


async def test_a_trigger_ends_with_its_repository(ferry: Deployment, hook: Receiver):
    await ask(ferry, *create())
    await ask(ferry, "delete_repo", DeleteRepoRequest(namespace="team", repository="app"))
    await push(ferry, SECOND, V1)

    assert not (await ask(ferry, *list_all())).body
    assert hook.calls == []


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"name": None}, "4001014", "name is mandatory"),
    ({"name": "1st"}, "4000014", "name must be 1 to 64 letters"),
    ({"action": "delete"}, "4000014", 'action must be update: got "delete"'),
    ({"app_type": "jobs"}, "4000014", "app_type must be deployments or statefulsets"),
    ({"application": "web; rm -rf /"}, "4000014", "application must be 1 to 253 lowercase letters"),
    ({"cluster_ns": ""}, "4000014", "cluster_ns must be 1 to 63 lowercase letters"),
    ({"container": "Main"}, "4000014", "container must be"),
    ({"enable": "yes"}, "4000014", "enable must be the string"),
    ({"enable": True}, "4001018", "enable must be a string"),
    ({"trigger_mode": "cci"}, "4000014", "cluster_id must be empty if trigger_mode is cci"),
    ({"trigger_mode": "k8s"}, "4000014", "trigger_mode must be cce or cci"),
    ({"trigger_type": "some"}, "4000014", "trigger_type must be all or tag or regular"),
    ({"condition": "v1"}, "4000014", "condition must be .*"),
    ({"trigger_type": "tag", "condition": "v1;"}, "4000014", "condition must be 1 to 128 characters long"),
    ({"trigger_type": "regular", "condition": "(a"}, "4000014", "condition must be a regular expression"),
    ({"cluster_id": None, "cluster_name": None}, "4000014", "cluster_id or cluster_name must be given"),
    ({"cluster_id": "unknown"}, "4000014", "cluster_id must be a cluster of a webhook in the server's"),
    ({"cluster_id": None, "cluster_name": "releases"}, "4000014", 'for the organization team: got "releases"'),
]
"""Invalid fields, with the error code and the start of the message."""


async def test_a_trigger_that_cannot_be_is_refused_by_its_field(ferry: Deployment):
    for fields, code, message in REFUSED:
        status, error_code, error = await refused(ferry, *create(**fields))
        assert (status, error_code, message in error) == (400, f"SVCSTG.SWR.{code}", True), (fields, error)
    assert not (await ask(ferry, *list_all())).body


async def test_what_is_not_there_is_not_found_and_what_is_there_is_not_made_again(ferry: Deployment):
    await ask(ferry, *create())

    assert (await refused(ferry, *create()))[:2] == (409, "SVCSTG.SWR.4090000")
    for call in (show("other"), update("true", "other"), delete("other")):
        assert (await refused(ferry, *call))[:2] == (404, "SVCSTG.SWR.4040000")
    for call in (create(repository="missing"), list_all(repository="missing")):
        assert (await refused(ferry, *call))[:2] == (404, "SVCSTG.SWR.4040010")
    for call in (create(namespace="missing"), list_all(namespace="missing"), show(namespace="missing")):
        assert (await refused(ferry, *call))[:2] == (404, "SVCSTG.SWR.4040058")
    assert (await refused(ferry, *update(None)))[:2] == (400, "SVCSTG.SWR.4001014")
    assert (await refused(ferry, *update("on")))[:2] == (400, "SVCSTG.SWR.4000014")


async def test_who_edits_makes_triggers_who_reads_sees_them_and_guests_do_not(ferry: Deployment):
    await ask(ferry, *create())
    headers = {"X-Auth-Token": await ferry.token(), "Content-Type": "application/json"}
    public = {"is_public": True, "category": "other", "description": ""}
    assert (
        await ferry.http("PATCH", "/v2/manage/namespaces/team/repos/app", body=public, headers=headers)
    ).status < 300
    _, reader = await ferry.user("reader", team=Permission.READ)
    _, editor = await ferry.user("editor", team=Permission.EDIT)
    _, guest = await ferry.user("guest", domain="guests")

    assert [one.name for one in (await ask(ferry, *list_all(), key=reader)).body] == ["deploy"]
    for call in (create(name="mine"), update("false"), delete()):
        assert (await refused(ferry, *call, key=reader))[:2] == (403, "SVCSTG.SWR.4039002")
        assert (await refused(ferry, *call, key=guest))[:2] == (403, "SVCSTG.SWR.4039002")
    assert not (await ask(ferry, *list_all(), key=guest)).body
    assert (await refused(ferry, *show(), key=guest))[:2] == (404, "SVCSTG.SWR.4040000")
    await ask(ferry, *create(name="mine"), key=editor)
    assert (await ask(ferry, *show("mine"), key=editor)).creator_name == "editor"


async def test_the_agency_is_there_where_triggers_have_something_to_call(ferry: Deployment, tmp_path: Path):
    admin = await ferry.app.accounts.users.find("admin")
    checked = await ask(ferry, "check_agency", CheckAgencyRequest())
    assert (checked.domain_id, checked.is_agency) == (admin.domain_id, True)
    assert (await ask(ferry, "create_agency", CreateAgencyRequest())).status_code == 201

    async with deployed(tmp_path / "without") as other:
        assert (await ask(other, "check_agency", CheckAgencyRequest())).is_agency is False
        status, code, message = await refused(other, "create_agency", CreateAgencyRequest())
        assert (status, code) == (403, "SVCSTG.SWR.4039002")
        assert "[[webhooks]]" in message
