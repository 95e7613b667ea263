"""The pages of organizations, repositories and tags."""

# ruff: noqa: RUF001 - Chinese texts have their own punctuation.

import asyncio
from urllib.parse import urlencode

import pytest

from tagferry.accounts.model import Permission
from tagferry.names import Namespace, RepositoryName, Tag
from tests.api.test_comparison import UnreliableStore
from tests.support import images
from tests.support.browser import Browser, Page, text_of
from tests.support.deployment import NORTH, RELEASE, SOUTH, Deployment, name_in

APP = name_in("team")
DEEP = RepositoryName("team/shop/web")
PATH = f"/console/images/{NORTH}/team/app"
OLD, NEW = images.image(seed="old"), images.image(seed="new")
EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>%(name)s{{ 7*7 }}'


async def signed_in(ferry: Deployment, name: str, **permissions: Permission) -> Browser:
    password, _ = await ferry.user(name)
    for organization, permission in permissions.items():
        await ferry.grant(name, NORTH, Namespace(organization), permission)
    browser = Browser(ferry.urls[NORTH])
    await browser.sign_in(name, password)
    return browser


def links(page: Page) -> set[str]:
    return {one.get("href", "") for one in page.all("a")}


def heads(page: Page) -> list[str]:
    return [text_of(one) for one in page.all("th")]


async def test_all_organizations_of_all_regions_are_shown(ferry: Deployment, administrator: Browser):
    await images.push(ferry.store(NORTH), APP, OLD, Tag("v1"))

    page = await administrator.get("/console/images")

    assert [text_of(one) for one in page.all("h2")] == [NORTH, SOUTH]
    assert ["team", "1", "1", "manage"] in page.rows()
    assert f"/console/images/{NORTH}/team" in links(page)


async def test_a_region_that_does_not_answer_does_not_hide_the_others(ferry: Deployment, administrator: Browser):
    south = UnreliableStore()
    ferry.replace(SOUTH, south)

    page = await administrator.get("/console/images?q=team")

    assert page.status == 200
    assert "Nothing found" in page.text


async def test_repositories_are_found_by_the_beginning_of_a_part_of_their_name(
    ferry: Deployment, administrator: Browser
):
    for name in (APP, DEEP, RepositoryName("release/web")):
        await images.push(ferry.store(NORTH), name, OLD, Tag("v1"))

    assert (await administrator.get("/console/images?q=we")).rows() == [["release/web"], ["team/shop/web"]]
    assert (await administrator.get("/console/images?q=team/")).rows() == [["team/app"], ["team/shop/web"]]
    found = await administrator.get("/console/images?q=team/shop/web")
    assert (found.status, found.location) == (303, f"/console/images/{NORTH}/team/shop$web")
    nothing = await administrator.get("/console/images?q=op/")
    assert "Nothing found" in nothing.text


async def test_the_reference_of_an_image_finds_its_tag(ferry: Deployment, administrator: Browser):
    for region, name in ((NORTH, APP), (SOUTH, APP), (NORTH, RepositoryName("team/app2"))):
        await images.push(ferry.store(region), name, OLD, Tag("v1"))
    north, south = (ferry.urls[region].removeprefix("http://") for region in (NORTH, SOUTH))

    async def search(text: str) -> Page:
        return await administrator.get(f"/console/images?{urlencode({'q': text})}")

    assert (await search(f"{south}/team/app:v1")).location == f"/console/images/{SOUTH}/team/app/tags/v1"
    assert (await search(f"docker://{north}/team/app:v1")).location == f"/console/images/{NORTH}/team/app/tags/v1"
    assert (await search(f"{north}/team/app")).location == PATH
    assert (await search("team/app2:v1")).location == f"/console/images/{NORTH}/team/app2/tags/v1"
    several = await search("registry.example.com/team/app:v1")
    assert several.rows() == [["team/app"], ["team/app2"], ["team/app"]]
    assert f"{PATH}?q=v1" in links(several)


async def test_a_digest_finds_the_repositories_that_hold_the_image(ferry: Deployment, administrator: Browser):
    for region, name in ((NORTH, APP), (SOUTH, name_in(RELEASE))):
        await images.push(ferry.store(region), name, OLD, Tag("v1"))
    await images.push(ferry.store(NORTH), DEEP, NEW, Tag("v1"))
    digest = OLD.manifest.digest
    reader = await signed_in(ferry, "reader", team=Permission.READ)

    async def search(browser: Browser, text: str) -> Page:
        return await browser.get(f"/console/images?{urlencode({'q': text})}")

    for text in (digest, digest.encoded, f"registry.example.com/team/app:v1@{digest}"):
        page = await search(administrator, text)
        assert page.heading == "Where this image is"
        assert page.rows() == [[NORTH, "team/app"], [SOUTH, "release/app"]]
        assert {PATH, f"/console/images/{SOUTH}/release/app"} <= links(page)
    assert (await search(reader, digest)).rows() == [[NORTH, "team/app"]]
    nowhere = await search(administrator, f"sha256:{'0' * 64}")
    assert "Nothing found" in nowhere.text
    short = await search(administrator, digest[:20])
    assert (short.status, short.rows()) == (200, [])
    assert "64 lowercase hexadecimal digits" in short.text


async def test_an_organization_shows_its_repositories_page_by_page(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.web.console.pages.organization._ROWS", 2)
    for name in ("a", "b", "c/d"):
        await images.push(ferry.store(NORTH), RepositoryName(f"team/{name}"), OLD, Tag("v1"))

    first = await administrator.get(f"/console/images/{NORTH}/team")
    (following,) = [one.get("href", "") for one in first.all("a[@rel='next']")]
    second = await administrator.get(following)

    assert [row[0] for row in first.rows()] == ["a", "b"]
    assert [row[0] for row in second.rows()] == ["c/d"]
    assert not second.all("a[@rel='next']")
    assert [row[0] for row in (await administrator.get(f"/console/images/{NORTH}/team?q=d")).rows()] == ["c/d"]
    assert f"/console/images/{NORTH}/team/c$d" in links(second)


async def test_an_empty_organization_says_how_to_push(administrator: Browser):
    page = await administrator.get(f"/console/images/{SOUTH}/release")

    assert "docker push" in page.text
    assert "/release/app:v1" in page.text


async def test_organizations_and_repositories_are_created_and_deleted(administrator: Browser):
    form = await administrator.get(f"/console/organizations/new?region={SOUTH}")
    assert form.form("/console/organizations/new")["region"] == SOUTH
    bad = await administrator.submit(form, "/console/organizations/new", name="Not valid")
    assert (bad.status, bad.one("input[@id='name']").get("value")) == (400, "Not valid")
    made = await administrator.submit(form, "/console/organizations/new", name="fresh")
    assert "The organization fresh was created." in made.text
    again = await administrator.submit(form, "/console/organizations/new", name="fresh")
    assert again.status == 409

    here = f"/console/images/{SOUTH}/fresh"
    form = await administrator.get(f"{here}:new")
    made = await administrator.submit(form, f"{here}:new", name="shop/web", description=EVIL, is_public="on")
    assert made.heading == "fresh/shop/web"
    assert "No tags yet" in made.text
    assert EVIL in made.text
    assert "<script>alert" not in made.html

    full = await administrator.submit(await administrator.get(f"{here}:delete"), f"{here}:delete")
    assert full.status == 409
    assert "still has repositories" in full.text
    repository = f"{here}/shop$web/delete"
    await administrator.submit(await administrator.get(repository), repository)
    gone = await administrator.submit(await administrator.get(f"{here}:delete"), f"{here}:delete")
    assert "The organization fresh was deleted." in gone.text
    assert (await administrator.get(here)).status == 404


async def test_the_description_category_and_visibility_of_a_repository_are_changed(
    ferry: Deployment, administrator: Browser
):
    await images.push(ferry.store(NORTH), APP, OLD, Tag("v1"))
    path = f"{PATH}/settings"

    form = await administrator.get(path)
    saved = await administrator.submit(form, path, description=EVIL, category="linux", is_public="on")
    assert EVIL in saved.text
    assert "public" in saved.text
    fields = (await administrator.get(path)).form(path)
    assert fields == {"description": EVIL, "category": "linux", "is_public": "on"}
    assert (await administrator.post(path, {"category": "nothing"})).status == 400

    editor = await signed_in(ferry, "editor", team=Permission.EDIT)
    edited = await editor.post(path, {"description": "mine", "category": ""}, follow=True)
    assert "mine" in edited.text
    assert "public" in edited.text
    reader = await signed_in(ferry, "reader", team=Permission.READ)
    assert (await reader.get(path)).status == 403


async def test_the_tags_of_a_repository_are_filtered_ordered_and_paged(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.web.console.pages.repository._ROWS", 2)
    for tag in ("v1", "v3", "v2", "other"):
        await images.push(ferry.store(NORTH), APP, OLD, Tag(tag))
        await asyncio.sleep(0.02)  # so that the file system's clock shows the order

    async def tags(path: str) -> list[str]:
        found: list[str] = []
        while path:
            page = await administrator.get(path)
            found += [row[1] for row in page.rows()]
            path = next((one.get("href", "") for one in page.all("a[@rel='next']")), "")
        return found

    assert await tags(PATH) == ["other", "v2", "v3", "v1"]
    assert await tags(f"{PATH}?order=name") == ["other", "v1", "v2", "v3"]
    assert await tags(f"{PATH}?q=v&order=name") == ["v1", "v2", "v3"]
    assert (await administrator.get(f"{PATH}?after=x%20v1")).status == 400
    assert (await administrator.get(f"{PATH}?after=99999999999999999999-01-01%20v1")).status == 400


async def test_a_repository_that_does_not_exist_is_not_found(ferry: Deployment, administrator: Browser):
    assert (await administrator.get(PATH)).status == 404
    assert (await administrator.get("/console/images/nowhere/team/app")).status == 404
    assert (await administrator.get(f"/console/images/{NORTH}/nowhere/app")).status == 404


async def test_a_registry_that_fails_is_reported_on_the_page(ferry: Deployment, administrator: Browser):
    north = UnreliableStore()
    ferry.replace(NORTH, north)
    await images.push(north, APP, OLD, Tag("v1"))
    north.is_broken = True

    page = await administrator.get(PATH)

    assert page.status == 200
    assert "registry unreliable answered 503" in page.text


async def test_an_address_with_slashes_leads_to_the_repository_or_tag(ferry: Deployment, administrator: Browser):
    await images.push(ferry.store(NORTH), DEEP, OLD, Tag("v1"))

    for path, page in (("team/shop/web", "team/shop$web"), ("team/shop/web/tags/v1", "team/shop$web/tags/v1")):
        redirected = await administrator.get(f"/console/images/{NORTH}/{path}")
        assert (redirected.status, redirected.location) == (303, f"/console/images/{NORTH}/{page}")
        assert (await administrator.get(redirected.location)).status == 200
    assert (await administrator.get(f"/console/images/{NORTH}/team/No/x")).status == 404


async def test_a_tag_shows_what_it_consists_of(ferry: Deployment, administrator: Browser):
    image = images.index(images.image(images.layer("one")), images.image(images.layer("two"), seed="two"))
    signature = images.artifact(subject=image.manifest)
    await images.push(ferry.store(NORTH), APP, image, Tag("v1"))
    await images.push(ferry.store(NORTH), APP, signature)
    await images.push(ferry.store(SOUTH), APP, image, Tag("copy"))

    page = await administrator.get(f"{PATH}/tags/v1")

    assert page.heading == "team/app:v1"
    assert image.digest in page.text
    for child in image.children:
        assert child.digest in page.text
    assert images.SIGNATURE in page.text
    assert "docker pull" in page.text
    assert SOUTH not in page.text
    sizes = {one.get("value") for one in page.one("dl").iter("data")}
    assert sizes == {row.get("value") for row in (await administrator.get(PATH)).all("td//data")}
    located = await administrator.get(f"{PATH}/tags/v1?locate=1")
    assert [NORTH, "team/app"] in located.rows()
    assert [SOUTH, "team/app"] in located.rows()
    assert (await administrator.get(f"{PATH}/tags/missing")).status == 404


async def test_the_copies_of_a_repository_are_compared(ferry: Deployment, administrator: Browser):
    for tag, here, there in (("same", OLD, OLD), ("moved", NEW, OLD), ("new", NEW, None)):
        await images.push(ferry.store(NORTH), APP, here, Tag(tag))
        if there is not None:
            await images.push(ferry.store(SOUTH), APP, there, Tag(tag))

    page = await administrator.get(f"{PATH}/comparison")
    states = {row[0]: row[2].split(" ")[0] for row in page.rows()}
    assert states == {"moved": "different", "new": "missing", "same": "same"}
    page = await administrator.get(f"{PATH}/comparison?differences=on&to={SOUTH}")
    assert {row[0] for row in page.rows()} == {"moved", "new"}
    assert (await administrator.get(f"{PATH}/comparison?to=nowhere")).status == 400
    none = await administrator.get(f"/console/images/{NORTH}/team/app/comparison?q=nothing&to={SOUTH}/release")
    assert "Nothing found" in none.text


async def test_a_repository_and_its_tags_show_whether_their_copies_are_in_sync_and_why_not(
    ferry: Deployment, administrator: Browser
):
    for tag in ("copied", "changed", "conflict"):
        await images.push(ferry.store(NORTH), APP, OLD, Tag(tag))
    await images.push(ferry.store(SOUTH), name_in(RELEASE, APP.repository), NEW, Tag("conflict"))
    assert "Copies" not in heads(await administrator.get(PATH))

    jobs = await ferry.start_sync(APP, [Tag("copied"), Tag("changed"), Tag("conflict"), Tag("gone")], RELEASE)
    await ferry.ended_jobs(APP, jobs)
    await images.push(ferry.store(NORTH), APP, NEW, Tag("changed"))
    await images.push(ferry.store(NORTH), APP, NEW, Tag("never"))

    page = await administrator.get(PATH)
    assert {row[1]: row[2] for row in page.rows()} == {
        "copied": "in sync",
        "changed": "behind",
        "conflict": "conflict",
        "never": "–",
    }
    (copy,) = [text_of(one) for one in page.all("ul[@aria-label='Copies']/li")]
    assert "behind" in copy
    assert "3 of 4 tags" in copy
    assert f"{PATH}/comparison?to={SOUTH}/release" in links(page)
    assert "another image was pushed since" in (await administrator.get(f"{PATH}/tags/changed")).text
    conflict = await administrator.get(f"{PATH}/tags/conflict")
    assert "the target holds another image under this tag" in conflict.text
    assert any(one.startswith("/console/jobs/") for one in links(conflict))
    assert "another image" not in (await administrator.get(f"{PATH}/tags/copied")).text


async def test_selected_and_differing_tags_lead_to_the_plan_of_their_synchronization(
    ferry: Deployment, administrator: Browser
):
    for tag in ("v1", "v2"):
        await images.push(ferry.store(NORTH), APP, OLD, Tag(tag))

    page = await administrator.get(PATH)
    fields = page.form("/console/synchronize") | {"tag": "v1", "to": f"{SOUTH}/team"}
    plan = await administrator.get(f"/console/synchronize?{urlencode(fields)}")
    assert [row[0] for row in plan.rows()] == ["v1"]

    compared = await administrator.get(f"{PATH}/comparison?to={SOUTH}")
    (link,) = [one for one in links(compared) if one.startswith("/console/synchronize?")]
    assert sorted(row[0] for row in (await administrator.get(link)).rows()) == ["v1", "v2"]


async def test_tags_are_deleted_after_a_question(ferry: Deployment, administrator: Browser):
    for tag in ("v1", "v2", "v3"):
        await images.push(ferry.store(NORTH), APP, images.image(seed=tag), Tag(tag))

    nothing = await administrator.get(f"{PATH}/delete-tags", follow=True)
    assert "Select the tags to delete first." in nothing.text
    question = await administrator.get(f"{PATH}/delete-tags?tag=v1&tag=v2")
    assert question.heading == "Delete 2 tags of team/app?"
    done = await administrator.post(f"{PATH}/delete-tags", [("tag", "v1"), ("tag", "v2")], follow=True)
    assert "Deleted tags: 2." in done.text
    assert [row[1] for row in done.rows()] == ["v3"]
    failed = await administrator.post(f"{PATH}/delete-tags", [("tag", "v1"), ("tag", "v3")])
    assert failed.status == 409
    assert "v1" in failed.text
    assert await ferry.store(NORTH).head_manifest(APP, Tag("v3")) is None


ACTIONS = {
    "page": ("GET", PATH, {}),
    "tag": ("GET", f"{PATH}/tags/v1", {}),
    "comparison": ("GET", f"{PATH}/comparison", {}),
    "create a repository": ("POST", f"/console/images/{NORTH}/team:new", {"name": "made"}),
    "create a rule": ("POST", f"{PATH}/rules/new", {"to_region": SOUTH, "to_namespace": "release"}),
    "plan retention": ("GET", f"{PATH}/retention?number=5", {}),
    "save retention": ("POST", f"{PATH}/retention", {"number": "5"}),
    "delete a tag": ("POST", f"{PATH}/delete-tags", {"tag": "v1"}),
    "change the repository": ("POST", f"{PATH}/settings", {"description": "changed"}),
    "delete the repository": ("POST", f"{PATH}/delete", {}),
    "delete the organization": ("POST", f"/console/images/{NORTH}/team:delete", {}),
}
READ = {"page", "tag", "comparison", "plan retention", "create a rule"}
EDIT = READ | {"create a repository", "change the repository"}
MANAGE = set(ACTIONS) - {"delete the organization"}


@pytest.mark.parametrize(
    ("role", "permission", "allowed"),
    [
        ("stranger", None, set()),
        ("reader", Permission.READ, READ),
        ("editor", Permission.EDIT, EDIT),
        ("manager", Permission.MANAGE, MANAGE),
    ],
)
async def test_each_role_can_do_what_the_api_lets_it(
    ferry: Deployment, role: str, permission: Permission | None, allowed: set[str]
):
    await images.push(ferry.store(NORTH), APP, OLD, Tag("v1"))
    browser = await signed_in(ferry, role, **({"team": permission} if permission else {}))
    await ferry.grant(role, SOUTH, RELEASE, Permission.EDIT)

    done = set()
    for name, (method, path, fields) in ACTIONS.items():
        answer = await (browser.get(path) if method == "GET" else browser.post(path, fields))
        assert answer.status in (200, 303, 403, 404, 409), (name, answer.text)
        if answer.status in (200, 303):
            done.add(name)
    # The organization still has the repository that was made.
    assert done == allowed


async def test_pages_offer_only_what_the_caller_may_do(ferry: Deployment):
    await images.push(ferry.store(NORTH), APP, OLD, Tag("v1"))
    reader = await signed_in(ferry, "reader", team=Permission.READ)
    manager = await signed_in(ferry, "manager", team=Permission.MANAGE)

    for browser, may in ((reader, False), (manager, True)):
        assert (f"{PATH}/delete" in links(await browser.get(PATH))) is may
        organization = links(await browser.get(f"/console/images/{NORTH}/team"))
        assert (f"/console/images/{NORTH}/team:new" in organization) is may
        assert (f"/console/images/{NORTH}/team:delete" in organization) is may
    assert "cn-north-208" not in (await reader.get("/console/images")).text


async def test_what_users_and_registries_say_stays_text(ferry: Deployment, administrator: Browser):
    config = (
        b'{"architecture": "<b>amd64", "os": "<i>linux", "history": [{"created_by": "RUN <script>alert(1)</script>"}]}'
    )
    image = images.configured(config, images.layer("x"))
    await images.push(ferry.store(NORTH), APP, image, Tag("v1"))
    evil = "application/<script>alert(1)</script>"
    await images.push(ferry.store(NORTH), APP, images.artifact(subject=image.manifest, artifact_type=evil))

    for path in (
        f"{PATH}/tags/v1",
        f"{PATH}?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "/console/images?q=%3Cscript%3Ealert(1)%3C/script%3E",
        f"/console/images/{NORTH}/team?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        f"{PATH}/comparison?to=%3Cscript%3Ealert(1)%3C/script%3E",
        f"{PATH}/retention?number=%3Cscript%3Ealert(1)%3C/script%3E&days_pattern=%22%3E%3Cscript%3Ealert(1)",
        f"{PATH}/rules/new?to_region=%3Cscript%3Ealert(1)&to_namespace=%3Cscript%3Ealert(1)",
        "/console/organizations/new?region=%3Cscript%3Ealert(1)",
        f"{PATH}/delete-tags?tag=%3Cscript%3Ealert(1)",
        "/console/images/%3Cscript%3Ealert(1)/team",
    ):
        page = await administrator.get(path)
        assert page.status in (200, 400, 404), path
        assert "<script>alert" not in page.html, path
        assert not [one for one in page.tree.iter() for name in one.attrib if name.startswith("on")], path


async def test_every_page_is_in_both_languages(ferry: Deployment):
    await images.push(ferry.store(NORTH), APP, OLD, Tag("v1"))
    browser = Browser(ferry.urls[NORTH], **{"Accept-Language": "zh-CN"})
    await browser.sign_in(ferry.admin.name, ferry.admin.password)

    for path, heading in (
        ("/console/images", "镜像"),
        (f"/console/images/{NORTH}/team", "team"),
        (f"/console/images/{NORTH}/team:new", "新建镜像仓库"),
        (PATH, "team/app"),
        (f"{PATH}/tags/v1?locate=1", "team/app:v1"),
        (f"{PATH}/comparison?to={SOUTH}", "team/app"),
        (f"{PATH}/rules", "team/app"),
        (f"{PATH}/rules/new?to_region={SOUTH}&to_namespace=team", "新建规则"),
        (f"{PATH}/retention?number=1", "team/app"),
        ("/console/policies", "自动同步"),
        (f"{PATH}/delete", f"删除 {NORTH} 的镜像仓库 team/app？"),
        (f"{PATH}/delete-tags?tag=v1", "删除 team/app 的 1 个版本？"),
    ):
        page = await browser.get(path)
        assert (page.status, page.heading) == (200, heading), path
