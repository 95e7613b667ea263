"""The pages of auto-sync rules, and of retention."""

import pytest

from tagferry.accounts.model import Permission
from tagferry.accounts.repositories import RepositoryMetadata
from tagferry.names import Tag
from tests.api.console.test_images import signed_in
from tests.support import images
from tests.support.browser import Browser, Page, text_of
from tests.support.deployment import NORTH, RELEASE, SOUTH, Deployment, eventually, name_in

APP = name_in("team")
PATH = f"/console/images/{NORTH}/team/app"
NEW = f"{PATH}/rules/new"
RETENTION = f"{PATH}/retention"


async def create_rule(browser: Browser, **fields: str) -> Page:
    target = {"to_region": SOUTH, "to_namespace": RELEASE, **fields}
    return await browser.post(NEW, target, follow=True)


async def test_a_rule_is_previewed_before_it_is_created(ferry: Deployment, administrator: Browser):
    old, new = images.image(seed="old"), images.image(seed="new")
    await images.push(ferry.store(NORTH), APP, old, Tag("same"))
    await images.push(ferry.store(SOUTH), name_in("release"), old, Tag("same"))
    await images.push(ferry.store(NORTH), APP, new, Tag("new"))

    form = await administrator.get(NEW)
    assert form.form(NEW)["to_region"] == SOUTH
    preview = await administrator.get(f"{NEW}?to_region={SOUTH}&to_namespace={RELEASE}&override=on")

    size = sum(map(len, new.all_blobs.values()))
    assert preview.rows() == [["new", "would be copied", f"{size} B"], ["same", "up to date", "0 B"]]
    assert await ferry.app.services.swr.rules._rules.page(after=0, limit=10) == []
    page = await create_rule(administrator, override="on")
    assert page.path == "/console/policies/1"
    assert "The rule is active from now on." in page.text
    assert "no push yet" in page.text


async def test_a_preview_without_tags_or_permission_says_so(ferry: Deployment, administrator: Browser):
    await ferry.app.services.swr.repositories.create(
        await ferry.app.accounts.users.find(ferry.admin.name), NORTH, APP, RepositoryMetadata(is_public=False)
    )

    empty = await administrator.get(f"{NEW}?to_region={SOUTH}&to_namespace={RELEASE}")
    assert "The repository has no tags yet." in empty.text
    await images.push(ferry.store(NORTH), APP, images.image(), Tag("v1"))
    for query, status in (
        (f"to_region={SOUTH}&to_namespace=nowhere", 404),
        (f"to_region=nowhere&to_namespace={RELEASE}", 400),
        (f"to_region={NORTH}&to_namespace=team", 400),
        (f"to_region={SOUTH}&to_namespace=Not!", 400),
    ):
        assert (await administrator.get(f"{NEW}?{query}")).status == status
    reader = await signed_in(ferry, "reader", team=Permission.READ)
    assert (await reader.get(f"{NEW}?to_region={SOUTH}&to_namespace={RELEASE}")).status == 403


async def test_a_rule_shows_its_executions_and_whether_it_is_behind(ferry: Deployment, administrator: Browser):
    await images.push(ferry.store(NORTH), APP, images.image(seed="old"), Tag("v0"))
    await create_rule(administrator)
    sample = images.image(seed="pushed")
    await images.push(ferry.store(NORTH), APP, sample, Tag("v1"))
    await ferry.app.services.swr.watch.pushed(NORTH, APP, Tag("v1"), sample.digest, "ci")

    async def shown() -> Page | None:
        page = await administrator.get("/console/policies/1")
        return page if "in sync" in page.one("h1").itertext() or "success" in page.text else None

    page = await eventually(shown)
    assert page is not None
    assert page.rows()[0][:2] == ["v1", "success"]
    (row,) = (await administrator.get("/console/policies")).rows()
    assert row[:3] == ["team/appcn-north-4", "releasecn-north-208", "in sync"]
    assert "older ones were not looked at" not in page.text
    (rule,) = await ferry.app.services.swr.rules._rules.page(after=0, limit=10)
    state = await ferry.app.services.console.rule_states.of(rule, newest=1)
    assert (state.status, state.is_partial) == ("in sync", True)
    # The target got another image: the next push is a conflict.
    await images.push(ferry.store(SOUTH), name_in("release"), images.image(seed="other"), Tag("v2"))
    await images.push(ferry.store(NORTH), APP, sample, Tag("v2"))
    await ferry.app.services.swr.watch.pushed(NORTH, APP, Tag("v2"), sample.digest, "ci")

    async def behind() -> bool:
        return "behind" in (await administrator.get("/console/policies/1")).text

    assert await eventually(behind)
    (row,) = (await administrator.get(f"{PATH}/rules")).rows()
    assert row[2].startswith("behind tags: 1")


async def test_a_rule_leads_to_the_plan_for_the_tags_that_existed_before_it(ferry: Deployment, administrator: Browser):
    await images.push(ferry.store(NORTH), APP, images.image(), Tag("v1"))
    page = await create_rule(administrator, override="on")

    (link,) = [one for one in page.all("a") if text_of(one) == "Synchronize existing tags"]
    plan = await administrator.complete(link.get("href", ""))

    assert [row[:2] for row in plan.rows()] == [["v1", "will be copied"]]
    form = plan.one("form[@action='/console/synchronize'][@method='post']")
    sent = {one.get("name"): one.get("value") for one in form.iter("input")}
    assert (sent["tags"], sent["to"], sent["override"]) == ("all", f"{SOUTH}/{RELEASE}", "on")
    reader = await signed_in(ferry, "reader", team=Permission.READ)
    await ferry.grant("reader", SOUTH, RELEASE, Permission.READ)
    assert "Synchronize existing tags" not in (await reader.get("/console/policies/1")).text


async def test_a_rule_is_paused_resumed_and_deleted(ferry: Deployment, administrator: Browser):
    await images.push(ferry.store(NORTH), APP, images.image(), Tag("v1"))
    await create_rule(administrator)

    assert "paused" in (await administrator.post("/console/policies/1/pause", follow=True)).text
    assert "no push yet" in (await administrator.post("/console/policies/1/resume", follow=True)).text
    question = await administrator.get("/console/policies/1/delete")
    assert question.heading == f"Delete the rule from team/app to {SOUTH}/release?"
    deleted = await administrator.submit(question, "/console/policies/1/delete")
    assert "The rule was deleted." in deleted.text
    assert "No rules yet" in deleted.text
    assert (await administrator.get("/console/policies/1")).status == 404
    assert (await administrator.get("/console/policies/99999999999999999999")).status == 404


async def test_a_rule_whose_creator_lost_a_permission_is_blocked_with_the_reason(
    ferry: Deployment, administrator: Browser
):
    await images.push(ferry.store(NORTH), APP, images.image(), Tag("v1"))
    editor = await signed_in(ferry, "editor", team=Permission.READ)
    await ferry.grant("editor", SOUTH, RELEASE, Permission.EDIT)
    await create_rule(editor)
    await ferry.grant("editor", SOUTH, RELEASE, Permission.READ)

    page = await administrator.get("/console/policies/1")
    assert "The rule starts no syncs: " in page.text
    assert "needs the permission to edit" in page.text
    await ferry.app.accounts.users.delete((await ferry.app.accounts.users.find("editor")).user_id)
    assert "creator was deleted or disabled" in (await administrator.get("/console/policies/1")).text


async def test_rules_are_listed_page_by_page_and_only_to_those_who_may_read_their_repository(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.web.console.pages.rules._ROWS", 1)
    for owner in ("team", "release"):
        await images.push(ferry.store(NORTH), name_in(owner), images.image(), Tag("v1"))
        path = f"/console/images/{NORTH}/{owner}/app/rules/new"
        await administrator.post(path, {"to_region": SOUTH, "to_namespace": "team"})

    first = await administrator.get("/console/policies")
    (following,) = [one.get("href", "") for one in first.all("a[@rel='next']")]
    second = await administrator.get(following)
    assert [first.rows()[0][0], second.rows()[0][0]] == ["team/appcn-north-4", "release/appcn-north-4"]
    reader = await signed_in(ferry, "reader", release=Permission.READ)
    assert [row[0] for row in (await reader.get("/console/policies")).rows()] == ["release/appcn-north-4"]
    assert (await reader.get("/console/policies/1")).status == 404
    assert (await reader.post("/console/policies/1/pause")).status == 404
    assert (await reader.post("/console/policies/2/pause")).status == 403
    assert (await administrator.get("/console/policies?after=x")).status == 400


async def test_a_retention_policy_is_previewed_saved_changed_and_deleted(ferry: Deployment, administrator: Browser):
    for number in range(4):
        await images.push(ferry.store(NORTH), APP, images.image(seed=str(number)), Tag(f"v{number}"))

    empty = await administrator.get(RETENTION)
    assert "No policy: all tags stay." in empty.text
    query = "number=2&number_except=v0&number_pattern=%5Elatest"
    preview = await administrator.get(f"{RETENTION}?{query}")
    assert [(row[0], row[2]) for row in preview.rows()] == [("v1", "not among the newest")]
    assert await ferry.store(NORTH).head_manifest(APP, Tag("v1")) is not None

    fields = {"number": "2", "number_except": "v0", "number_pattern": "^latest"}
    saved = await administrator.post(RETENTION, fields, follow=True)
    assert "The policy was saved, and runs now." in saved.text
    assert saved.one("input[@id='number']").get("value") == "2"
    assert saved.one("input[@id='number_except']").get("value") == "v0"
    assert saved.one("input[@id='number_pattern']").get("value") == "^latest"

    async def deletions() -> list[list[str]]:
        return (await administrator.get(RETENTION)).rows()

    (row,) = await eventually(deletions)
    assert row[0] == "v1"
    changed = await administrator.post(RETENTION, {"days": "30"}, follow=True)
    assert changed.one("input[@id='number']").get("value") == ""
    assert changed.one("input[@id='days']").get("value") == "30"
    question = await administrator.get(f"{RETENTION}/delete")
    gone = await administrator.submit(question, f"{RETENTION}/delete")
    assert "The policy was deleted." in gone.text
    assert gone.rows() == [row]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "number"),
        ({"number": "0"}, "number"),
        ({"number": "many"}, "number"),
        ({"days": "366"}, "days"),
        ({"number": "5", "number_pattern": "("}, ""),
        ({"number": "5", "number_except": "not a tag"}, ""),
    ],
    ids=str,
)
async def test_wrong_rules_are_refused_at_their_field(
    ferry: Deployment, administrator: Browser, fields: dict[str, str], field: str
):
    await images.push(ferry.store(NORTH), APP, images.image(), Tag("v1"))

    page = await administrator.post(RETENTION, fields)

    assert page.status == 400
    invalid = [one.get("id") for one in page.all("input[@aria-invalid='true']")]
    assert invalid == ([field] if field else [])
    for name, value in fields.items():
        assert page.one(f"input[@id='{name}']").get("value") == value


async def test_a_policy_that_the_form_cannot_show_is_shown_as_it_is(ferry: Deployment, administrator: Browser):
    await images.push(ferry.store(NORTH), APP, images.image(), Tag("v1"))
    rule = {"template": "tag_rule", "params": {"num": "5"}, "tag_selectors": []}
    body = {"algorithm": "or", "rules": [rule, {**rule, "params": {"num": "7"}}]}
    headers = {"X-Auth-Token": await ferry.token()}
    path = "/v2/manage/namespaces/team/repos/app/retentions"
    assert (await ferry.http("POST", path, body=body, headers=headers)).status == 201

    page = await administrator.get(RETENTION)

    assert "has rules that the form cannot show" in page.text
    assert not page.all("input[@id='number']")
