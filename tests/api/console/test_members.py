"""The pages of members, sharing and triggers: the same use cases and permissions as by the API."""

from pathlib import Path
from typing import Any

import pytest

from tagferry.accounts.model import Permission
from tagferry.names import Tag
from tests.api.console.test_images import signed_in
from tests.support import images
from tests.support.browser import Browser
from tests.support.deployment import NORTH, Deployment, deployed, name_in

APP = name_in("team")
MEMBERS = f"/console/images/{NORTH}/team:members"
REPOSITORY = f"/console/images/{NORTH}/team/app"
PERMISSIONS, SHARING, TRIGGERS = f"{REPOSITORY}/members", f"{REPOSITORY}/sharing", f"{REPOSITORY}/triggers"
TRIGGER = {
    "name": "deploy",
    "trigger_type": "all",
    "condition": "",
    "trigger_mode": "cce",
    "cluster_name": "production",
    "cluster_id": "",
    "cluster_ns": "default",
    "app_type": "deployments",
    "application": "shop",
    "container": "",
    "enabled": "on",
}


@pytest.fixture
async def pushed(ferry: Deployment) -> None:
    await images.push(ferry.store(NORTH), APP, images.image(), Tag("v1"))


async def test_members_are_granted_changed_and_revoked(ferry: Deployment, administrator: Browser):
    await ferry.user("carol")
    page = await administrator.get(MEMBERS)
    assert [row[0] for row in page.rows()] == ["admin you"]

    page = await administrator.submit(page, MEMBERS, user="carol", permission="3")
    carol = await ferry.app.accounts.users.find("carol")
    assert [row[0] for row in page.rows()] == ["admin you", "carol"]
    assert "The permission was granted." in page.text
    again = await administrator.submit(page, MEMBERS, user="carol", permission="3")
    assert (again.status, "already has a permission" in again.text) == (409, True)

    change = f"{MEMBERS}/{carol.user_id}"
    page = await administrator.submit(page, change, permission="7")
    assert page.form(change) == {"permission": "7"}

    question = await administrator.get(f"{change}/remove")
    assert "Revoke the permission of carol in team?" in question.heading
    page = await administrator.submit(question, f"{change}/remove")
    assert [row[0] for row in page.rows()] == ["admin you"]
    assert (await administrator.get(f"{change}/remove")).status == 404


@pytest.mark.parametrize("path", [MEMBERS, PERMISSIONS])
async def test_a_refused_member_is_explained_at_the_field(
    ferry: Deployment, administrator: Browser, pushed: None, path: str
):
    page = await administrator.get(path)
    for user, permission, status in (("nobody", "1", 404), ("", "1", 400), ("admin", "9", 400)):
        refused = await administrator.submit(page, path, user=user, permission=permission)
        assert refused.status == status
        assert refused.form(path)["user"] == user


async def test_a_manager_grants_by_id_and_learns_no_names(ferry: Deployment, pushed: None):
    manager = await signed_in(ferry, "manager", team=Permission.MANAGE)
    await ferry.user("carol")
    carol = await ferry.app.accounts.users.find("carol")
    page = await manager.get(PERMISSIONS)

    by_name = await manager.submit(page, PERMISSIONS, user="carol", permission="1")
    by_id = await manager.submit(page, PERMISSIONS, user=carol.user_id, permission="1")

    assert by_name.status == 404
    assert [row[0] for row in by_id.rows()] == ["carol"]


async def test_members_are_paged_and_found_by_name(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.web.console.pages.members._ROWS", 2)
    for name in ("carol", "dave", "erin"):
        await ferry.user(name, team=Permission.READ)

    first = await administrator.get(MEMBERS)
    second = await administrator.get(first.one("a[@rel='next']").attrib["href"])
    found = await administrator.get(f"{MEMBERS}?name=da")

    assert [len(first.rows()), len(second.rows())] == [2, 2]
    assert second.all("a[@rel='next']") == []
    assert [row[0] for row in found.rows()] == ["dave"]
    assert "No member has such a name" in (await administrator.get(f"{MEMBERS}?name=x")).text


@pytest.mark.parametrize(
    ("permission", "statuses"),
    [
        (None, {"members": 403, "permissions": 403, "sharing": 403, "triggers": 403, "new": 403}),
        (Permission.READ, {"members": 200, "permissions": 200, "sharing": 200, "triggers": 200, "new": 403}),
        (Permission.EDIT, {"members": 200, "permissions": 200, "sharing": 200, "triggers": 200, "new": 200}),
        (Permission.MANAGE, {"members": 200, "permissions": 200, "sharing": 200, "triggers": 200, "new": 200}),
    ],
    ids=["stranger", "reader", "editor", "manager"],
)
async def test_each_role_sees_and_may_do_what_the_api_lets_it(
    ferry: Deployment, pushed: None, permission: Permission | None, statuses: dict[str, int]
):
    browser = await signed_in(ferry, "carol", **({} if permission is None else {"team": permission}))
    await ferry.user("dave", domain="partners")
    dave = await ferry.app.accounts.users.find("dave")
    paths = {
        "members": MEMBERS,
        "permissions": PERMISSIONS,
        "sharing": SHARING,
        "triggers": TRIGGERS,
        "new": f"{TRIGGERS}:new",
    }

    pages = {name: await browser.get(path) for name, path in paths.items()}
    granted = await browser.post(MEMBERS, {"user": dave.user_id, "permission": "1"})
    permitted = await browser.post(PERMISSIONS, {"user": dave.user_id, "permission": "1"})
    shared = await browser.post(SHARING, {"domain": "partners", "deadline": "", "description": ""})
    ends = await browser.get(f"{SHARING}/end?domain=partners")

    assert {name: page.status for name, page in pages.items()} == statuses
    manages = permission is Permission.MANAGE
    assert [one.status for one in (granted, permitted, shared)] == [303 if manages else 403] * 3
    assert ends.status == (200 if manages else 403)
    forms = [form for name in ("members", "permissions", "sharing") for form in pages[name].all("form[@method='post']")]
    assert any(form.get("action") in (MEMBERS, PERMISSIONS, SHARING) for form in forms) == manages


async def test_a_guest_sees_no_members_and_no_triggers(ferry: Deployment, administrator: Browser, pushed: None):
    await administrator.post(SHARING, {"domain": "partners", "deadline": "", "description": ""})
    await ferry.user("dave", domain="partners")
    await administrator.post(SHARING, {"domain": "partners", "deadline": "", "description": ""})
    guest = Browser(ferry.urls[NORTH])
    await guest.sign_in("dave", "password of dave")

    permissions, triggers, shares = [await guest.get(path) for path in (PERMISSIONS, TRIGGERS, SHARING)]

    assert permissions.rows() == triggers.rows() == []
    assert "shared with your domain" in permissions.text
    assert [row[0] for row in shares.rows()] == ["partners"]


async def test_a_share_is_created_changed_and_ended(ferry: Deployment, administrator: Browser, pushed: None):
    await ferry.user("dave", domain="partners")
    page = await administrator.get(SHARING)
    assert "Not shared" in page.text

    page = await administrator.submit(page, SHARING, domain="partners", deadline="2999-12-31")
    assert page.rows()[0][:3] == ["partners", "shared", "2999-12-31"]
    past = await administrator.submit(page, SHARING, domain="partners", deadline="2020-01-01")
    assert past.status == 400
    assert "from today on" in past.text

    change = next(one.attrib["href"] for one in page.all("a[@href]") if "?domain=" in one.attrib["href"])
    form = await administrator.get(change)
    assert form.form(SHARING) == {"edited": "partners", "deadline": "2999-12-31", "description": ""}
    page = await administrator.submit(form, SHARING, deadline="", description="for the audit")
    assert page.rows()[0][1:4] == ["shared", "no end", "for the audit"]

    end = next(one.attrib["href"] for one in page.all("a[@href]") if "/end?" in one.attrib["href"])
    page = await administrator.submit(await administrator.get(end), f"{SHARING}/end")
    assert "Not shared" in page.text


@pytest.fixture
async def hooked(tmp_path: Path) -> Any:
    webhook = {"url": "http://127.0.0.1:9/hook", "cluster_name": "production"}
    async with deployed(tmp_path / "hooked", webhooks=[webhook]) as ferry:
        await images.push(ferry.store(NORTH), APP, images.image(), Tag("v1"))
        yield ferry


async def test_a_trigger_is_created_disabled_and_deleted(hooked: Deployment):
    browser = Browser(hooked.urls[NORTH])
    await browser.sign_in(hooked.admin.name, hooked.admin.password)
    form = await browser.get(f"{TRIGGERS}:new")
    assert form.form(f"{TRIGGERS}:new")["cluster_name"] == "production"

    page = await browser.submit(form, f"{TRIGGERS}:new", TRIGGER)
    assert (page.heading, "No calls yet" in page.text) == ("deploy", True)
    page = await browser.submit(page, f"{TRIGGERS}/deploy")
    assert "The trigger is disabled." in page.text
    listed = await browser.get(TRIGGERS)
    assert listed.rows()[0][:3] == ["deploy", "disabled", "all tags"]

    page = await browser.submit(await browser.get(f"{TRIGGERS}/deploy/delete"), f"{TRIGGERS}/deploy/delete")
    assert "No triggers yet" in page.text
    assert (await browser.get(f"{TRIGGERS}/deploy")).status == 404


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "1"}, "name"),
        ({"trigger_type": "regular", "condition": "("}, "condition"),
        ({"cluster_name": "another"}, "cluster_name"),
        ({"application": "No!"}, "application"),
    ],
)
async def test_a_refused_trigger_is_explained_at_its_field(hooked: Deployment, fields: dict[str, str], field: str):
    browser = Browser(hooked.urls[NORTH])
    await browser.sign_in(hooked.admin.name, hooked.admin.password)

    page = await browser.post(f"{TRIGGERS}:new", {**TRIGGER, **fields})

    assert page.status == 400
    assert page.one(f"p[@id='{field}-problem']") is not None
    assert page.form(f"{TRIGGERS}:new")["application"] == {**TRIGGER, **fields}["application"]


async def test_the_calls_of_a_trigger_are_shown_with_their_reasons(hooked: Deployment):
    browser = Browser(hooked.urls[NORTH])
    await browser.sign_in(hooked.admin.name, hooked.admin.password)
    await browser.post(f"{TRIGGERS}:new", TRIGGER)
    await images.push(hooked.store(NORTH), APP, images.image(seed="new"), Tag("v2"))
    await hooked.app.services.watch.try_scan(_source())

    page = await browser.get(f"{TRIGGERS}/deploy")

    (call,) = page.rows()
    assert call[1].startswith("v2 ")
    assert call[2].startswith("waiting")


def _source() -> Any:
    from tagferry.names import RepositoryRef

    return RepositoryRef.of(NORTH, APP)


async def test_without_webhooks_the_page_says_what_to_configure(administrator: Browser, pushed: None):
    page = await administrator.get(TRIGGERS)

    assert "[[webhooks]]" in page.text
    assert f"{TRIGGERS}:new" not in page.html
