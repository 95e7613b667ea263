"""The first page, and the way of a new installation to its first synchronized tag."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from tagferry.accounts.model import Caller, Permission
from tagferry.app import DEFAULT_DOMAIN, ensure_admin, open_app
from tagferry.db.tables import SyncJobRow
from tagferry.names import RepositoryName, Tag
from tagferry.settings import Settings
from tagferry.sync.job_service import JobService
from tagferry.sync.jobs.all_jobs import JobFilter, JobPage
from tagferry.sync.jobs.model import JobStatus
from tagferry.web.server.serve import listening
from tests.support.browser import Browser, Page, text_of
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment
from tests.support.images import image, push
from tests.support.job_rows import job_row
from tests.support.processes import free_port
from tests.support.schemas import sqlite_in

PASSWORD = "a long enough password"


def steps(page: Page) -> list[str]:
    """Return the state of each step of the first run."""
    return [(one.get("class") or "").split()[-1] for one in page.all("ol[@class='steps']/li")]


def commands(page: Page) -> str:
    return "\n".join("".join(one.itertext()) for one in page.all("code"))


async def record(ferry: Deployment, *jobs: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    own = {"created_at": now - timedelta(hours=1), "updated_at": now, "domain_name": DEFAULT_DOMAIN, "ended_at": now}
    own["rule_id"] = None
    rows = [job_row(**own | {"tag": f"v{index}"} | job) for index, job in enumerate(jobs)]
    async with ferry.app.accounts.database.write() as session:
        await session.execute(insert(SyncJobRow), rows)


async def test_a_new_installation_leads_to_the_first_synchronized_tag(tmp_path: Path):
    regions = {name: {"listen": f"127.0.0.1:{free_port()}"} for name in (NORTH, SOUTH)}
    settings = Settings.parse({"data_dir": tmp_path / "data", "regions": regions})
    sqlite_in(tmp_path / "data")
    async with open_app(settings) as app, listening(app.listeners, settings.limits):
        admin = await ensure_admin(app.accounts)
        assert admin is not None
        browser = Browser(f"http://{regions[NORTH]['listen']}")

        page = await browser.sign_in(admin.name, admin.password)
        assert steps(page) == ["step-next", "step", "step"]

        page = await browser.submit(page, "/console/first-run/organization", organization="shop")
        assert steps(page) == ["step-done", "step-next", "step"]
        # The form may be sent twice.
        again = await browser.post("/console/first-run/organization", {"organization": "shop"})
        assert (again.status, again.headers["Location"]) == (303, "/console/")
        host = regions[NORTH]["listen"]
        assert f"docker push {host}/shop/alpine:3" in commands(page)
        assert f"docker login {host} --username admin" in commands(page)
        assert "skopeo copy --dest-tls-verify=false" in commands(page)
        assert f"docker://{host}/shop/alpine:3" in commands(page)
        # On this machine, docker accepts an address without TLS.
        assert "insecure-registries" not in page.text

        store = app.services.swr.regions[NORTH].store
        await push(store, RepositoryName("shop/alpine"), image(), Tag("3"))
        page = await browser.get("/console/")
        assert steps(page) == ["step-done", "step-done", "step-next"]

        page = await browser.submit(page, "/console/first-run/synchronize", target=SOUTH)
        assert steps(page) == []
        assert "shop/alpine:3 is synchronized to " in page.text
        assert "1 synchronized in 24 hours" in page.text
        assert [one async for one in app.services.swr.regions[SOUTH].store.list_tags(RepositoryName("shop/alpine"))]


async def test_a_refused_organization_is_explained_at_its_field(ferry: Deployment, browser: Browser):
    await ferry.app.services.iam.users.create("wang.fang", PASSWORD, domain=DEFAULT_DOMAIN)
    page = await browser.sign_in("wang.fang", PASSWORD)

    for name, status, problem in (("Not valid", 400, "organization may contain"), (TEAM, 409, "already exists")):
        refused = await browser.submit(page, "/console/first-run/organization", organization=name)
        assert refused.status == status
        assert problem in refused.text
        assert refused.one("input[@id='organization']").get("value") == name


async def test_an_image_that_cannot_be_synchronized_says_why(ferry: Deployment, administrator: Browser):
    await push(ferry.store(NORTH), RepositoryName("team/web"), image(), Tag("v1"))
    page = await administrator.get("/console/")
    fields = {"repository": "team/web", "tag": "v1"}

    assert steps(page) == ["step-done", "step-done", "step-next"]
    for changed, status in (({"target": NORTH}, 400), ({"target": "x"}, 400), ({"tag": "-", "target": SOUTH}, 400)):
        refused = await administrator.post("/console/first-run/synchronize", {**fields, **changed})
        assert (refused.status, bool(refused.all("p[@role='alert']"))) == (status, True)


async def test_a_region_without_tls_elsewhere_needs_a_setting_of_docker(ferry: Deployment, administrator: Browser):
    page = await administrator.get("/console/", headers={"Host": "registry.example:5000"})

    assert "insecure-registries" in page.text
    assert "docker login registry.example:5000" in commands(page)


async def test_the_first_page_shows_what_is_in_sync_and_what_is_not(ferry: Deployment, administrator: Browser):
    reason = 'the registry has no <blob> "sha256:1"'
    await record(
        ferry,
        {"status": "success"},
        {"status": "failed", "reason": reason},
        {"status": "existed"},
        {"status": "success", "ended_at": datetime.now(UTC) - timedelta(days=2)},
    )

    page = await administrator.get("/console/")

    assert steps(page) == []
    for figure in ("1 failed in 24 hours", "1 conflicts in 24 hours", "1 synchronized in 24 hours", "0 running"):
        assert figure in page.text
    assert reason in page.text
    problems = page.one("section[@aria-labelledby='problems']")
    assert [text_of(one) for one in problems.iter("span") if "badge" in one.get("class", "")] == ["conflict", "failed"]
    assert len(page.all("g[@class='chart-hour']")) == 24


async def test_the_rules_that_need_attention_come_first(ferry: Deployment, administrator: Browser):
    for repository in ("good", "bad"):
        await push(ferry.store(NORTH), RepositoryName(f"team/{repository}"), image(), Tag("v1"))
        path = f"/console/images/{NORTH}/team/{repository}/rules/new"
        await administrator.post(path, {"to_region": SOUTH, "to_namespace": RELEASE})
    await record(
        ferry,
        {"repository": "good", "status": "success", "rule_id": 1},
        {"repository": "bad", "status": "failed", "rule_id": 2, "reason": "the target is full"},
        {"repository": "bad", "status": "failed", "rule_id": None},
    )

    rules = (await administrator.get("/console/")).one("section[@aria-labelledby='rules']")

    lines = [text_of(line) for line in rules.iter("li")]
    assert [line.split()[0] for line in lines] == ["team/bad", "team/good"]
    for words in ("behind", "the target is full", "1 tag"):
        assert words in lines[0]
    assert "in sync" in lines[1]


async def test_users_see_only_what_they_may_read(ferry: Deployment, administrator: Browser):
    await ferry.app.services.iam.users.create("wang.fang", PASSWORD, domain=DEFAULT_DOMAIN)
    organizations = {one.name: one for one in await ferry.app.services.swr.organizations.list_all(NORTH)}
    await record(
        ferry,
        {"status": "failed", "reason": "visible", "source_organization_id": organizations[TEAM].id},
        {"status": "running", "ended_at": None, "source_organization_id": organizations[TEAM].id},
        {"status": "failed", "reason": "secret", "namespace": "other", "source_organization_id": 999},
        {"status": "running", "ended_at": None, "namespace": "other", "source_organization_id": 999},
    )
    user = Browser(administrator.url)
    await user.sign_in("wang.fang", PASSWORD)
    assert "secret" not in (await user.get("/console/")).text

    await ferry.app.services.swr.organizations.grant(NORTH, TEAM, "wang.fang", Permission.READ)
    page = await user.get("/console/")

    assert "visible" in page.text
    assert "secret" not in page.text
    assert page.one("*[@data-live]").get("data-live") == "/console/events?jobs=2&after=2"
    assert "1 failed in 24 hours" in page.text
    assert "2 failed in 24 hours" in (await administrator.get("/console/")).text


async def test_a_reader_has_not_done_the_first_steps_of_others(ferry: Deployment, administrator: Browser):
    await push(ferry.store(NORTH), RepositoryName("team/web"), image(), Tag("v1"))
    await ferry.app.services.iam.users.create("wang.fang", PASSWORD, domain=DEFAULT_DOMAIN)
    await ferry.app.services.swr.organizations.grant(NORTH, TEAM, "wang.fang", Permission.READ)
    user = Browser(administrator.url)
    await user.sign_in("wang.fang", PASSWORD)

    page = await user.get("/console/")

    assert "Create the organization" in page.text
    assert "The organization team holds" not in page.text
    assert "team/web" not in page.text
    await ferry.app.services.swr.organizations.grant(NORTH, TEAM, "wang.fang", Permission.EDIT)
    assert "team/web:v1" in (await user.get("/console/")).text


async def test_the_regions_show_their_state(ferry: Deployment, administrator: Browser):
    admin = await ferry.app.services.iam.users.find(ferry.admin.name)
    await ferry.app.services.swr.health.check_now(admin, NORTH)

    regions = (await administrator.get("/console/")).one("section[@aria-labelledby='regions']")

    assert "reachable" in text_of(regions)


async def test_failures_that_were_not_looked_for_are_not_said_to_be_none(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    await record(ferry, {"status": "failed"}, *({"status": "success"} for _ in range(9)))

    async def ends_early(self: JobService, caller: Caller, wanted: JobFilter, **_: Any) -> JobPage:
        return JobPage([], marker=2) if JobStatus.FAILED in wanted.statuses else await page(self, caller, wanted, **_)

    page = JobService.page
    monkeypatch.setattr(JobService, "page", ends_early)
    shown = await administrator.get("/console/")

    assert "None among the newest jobs." in shown.text
    assert "There are no failures" not in shown.text
