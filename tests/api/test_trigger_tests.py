"""Test deliveries: one call of a trigger's webhook, with its result in the history."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tagferry import bounds
from tagferry.accounts.model import Permission
from tagferry.names import RepositoryRef, Tag
from tests.support import images
from tests.support.browser import Browser
from tests.support.deployment import NORTH, TEAM, Answer, Deployment, deployed, eventually, name_in
from tests.support.roles import trigger
from tests.support.webhook_receiver import Receiver, receiving

SECRET = "a secret of the webhook"
APP = name_in("team")
SAMPLE = images.image()
TRIGGERS = "/v2/manage/namespaces/team/repos/app/triggers"
PAGE = f"/console/images/{NORTH}/team/app/triggers/deploy"


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def ferry(tmp_path: Path, hook: Receiver) -> AsyncIterator[Deployment]:
    """The image `team/app:v1` with a disabled trigger."""
    webhook = {"cluster_name": "production", "url": hook.url, "secret": SECRET}
    async with deployed(tmp_path / "data", webhooks=[webhook]) as deployment:
        await images.push(deployment.store(NORTH), APP, SAMPLE, Tag("v1"))
        assert (await ask(deployment, "POST", TRIGGERS, trigger("deploy"))).status == 201
        yield deployment


async def ask(ferry: Deployment, method: str, path: str, body: Any = None, *, user: str | None = None) -> Answer:
    token = await ferry.token(user=user, password=f"password of {user}" if user else None)
    headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
    return await ferry.http(method, path, body=body, headers=headers)


async def result(ferry: Deployment, event_id: str) -> dict[str, Any]:
    """Wait for the end of a call, and return it as the history has it."""

    async def ended() -> dict[str, Any]:
        history = (await ask(ferry, "GET", f"{TRIGGERS}/deploy")).document["trigger_history"]
        return next((one for one in history if one["eventId"] == event_id and one["result"] != "waiting"), {})

    return await eventually(ended)


async def test_a_test_calls_the_webhook_once_with_the_newest_image(ferry: Deployment, hook: Receiver):
    await images.push(ferry.store(NORTH), APP, SAMPLE, Tag("v2"))

    started = await ask(ferry, "POST", f"{TRIGGERS}/deploy/test")
    ended = await result(ferry, started.document["eventId"])

    assert started.status == 202
    (call,) = hook.calls
    assert call.is_signed_with(SECRET)
    assert call.headers["x-tagferry-event"] == call.document["event"] == "test"
    assert (call.document["tag"], call.document["digest"]) == ("v2", SAMPLE.digest)
    assert call.document["pushedBy"] == "admin"
    assert {name: ended[name] for name in ("event", "result", "attempts", "detail")} == {
        "event": "test",
        "result": "success",
        "attempts": 1,
        "detail": "the webhook answered 200",
    }


async def test_a_test_that_fails_is_not_repeated(ferry: Deployment, hook: Receiver):
    hook.statuses = [500]

    started = await ask(ferry, "POST", f"{TRIGGERS}/deploy/test")
    ended = await result(ferry, started.document["eventId"])

    assert (ended["result"], ended["attempts"], len(hook.calls)) == ("failed", 1, 1)
    assert ended["detail"].startswith("attempt 1 of 1: ")


async def test_a_test_does_not_wait_behind_calls_that_fail(
    ferry: Deployment, hook: Receiver, monkeypatch: pytest.MonkeyPatch
):
    # The call about the tag waits for its second attempt from here on.
    monkeypatch.setattr("tagferry.automation.triggers.sender._SHORTEST", 600.0)
    hook.statuses = [500]
    assert (await ask(ferry, "PATCH", f"{TRIGGERS}/deploy", {"enable": "true"})).status == 201
    await images.push(ferry.store(NORTH), APP, images.image(seed="new"), Tag("v1"))
    await ferry.app.services.watch.try_scan(RepositoryRef.of(NORTH, APP))
    await eventually(lambda: hook.has(1))

    started = await ask(ferry, "POST", f"{TRIGGERS}/deploy/test")

    assert (await result(ferry, started.document["eventId"]))["result"] == "success"
    history = (await ask(ferry, "GET", f"{TRIGGERS}/deploy")).document["trigger_history"]
    assert [(one["event"], one["result"]) for one in history] == [("test", "success"), ("tag", "waiting")]


async def test_a_trigger_is_not_tested_again_at_once(ferry: Deployment, monkeypatch: pytest.MonkeyPatch):
    first = await ask(ferry, "POST", f"{TRIGGERS}/deploy/test")
    second = await ask(ferry, "POST", f"{TRIGGERS}/deploy/test")
    monkeypatch.setattr(bounds, "TRIGGER_TEST_SECONDS", 0.0)
    third = await ask(ferry, "POST", f"{TRIGGERS}/deploy/test")

    assert (first.status, second.status, third.status) == (202, 429, 202)
    assert "was tested a moment ago" in second.document["error_msg"]
    assert 1 <= int(second.headers["Retry-After"]) <= 10


async def test_what_cannot_be_tested_is_refused(ferry: Deployment, hook: Receiver):
    await ferry.user("reader", team=Permission.READ)
    assert (await ask(ferry, "POST", f"{TRIGGERS}/unknown/test")).status == 404
    assert (await ask(ferry, "POST", f"{TRIGGERS}/deploy/test", user="reader")).status == 403
    await ask(ferry, "DELETE", "/v2/manage/namespaces/team/repos/app/tags/v1")
    empty = await ask(ferry, "POST", f"{TRIGGERS}/deploy/test")
    assert (empty.status, hook.calls) == (404, [])


async def test_a_test_is_recorded_with_the_user(ferry: Deployment):
    await ask(ferry, "POST", f"{TRIGGERS}/deploy/test")

    async def records() -> list[dict[str, Any]]:
        found = await ask(ferry, "GET", "/v2/manage/audit-records?operation=test%20a%20trigger")
        return list(found.document["records"])

    (record,) = await eventually(records)
    assert (record["user"], record["repository"]) == ("admin", f"{TEAM}/app")


async def test_the_console_sends_a_test_and_shows_its_result(ferry: Deployment, hook: Receiver):
    browser = Browser(ferry.urls[NORTH])
    await browser.sign_in(ferry.admin.name, ferry.admin.password)

    page = await browser.submit(await browser.get(PAGE), f"{PAGE}/test")
    again = await browser.post(f"{PAGE}/test")

    assert "The result is among the newest calls." in page.text
    ((_, tag, state, reason, attempts, by),) = page.rows()
    assert tag.startswith("v1 test ")
    assert (state.split()[0], reason, attempts, by) == ("delivered", "the webhook answered 200", "1", "admin")
    assert (again.status, "was tested a moment ago" in again.text) == (429, True)
