"""Jobs in a real browser: planned, followed while another process copies, repaired, selected, and after a restart."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tagferry.app import ensure_admin, open_app
from tagferry.app.backend import open_backend
from tagferry.names import Repository, Tag
from tagferry.settings import Settings
from tagferry.web.console.pages import events
from tagferry.web.server.serve import listening
from tests.browser.visits import Visit, visiting
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, deployed, eventually, name_in
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port

WEB = Repository("shop/web")
SOURCE, TARGET = name_in(TEAM, WEB), name_in(RELEASE, WEB)
SECONDS = 60_000
"""Milliseconds to wait for a copy."""


async def signed_in(visit: Visit, ferry: Deployment) -> Page:
    await visit.sign_in(ferry.admin.name, ferry.admin.password)
    return visit.page


async def started(ferry: Deployment, *tags: str) -> list[int]:
    return await ferry.start_sync(SOURCE, [Tag(tag) for tag in tags], RELEASE)


@asynccontextmanager
async def two_processes(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Deployment]:
    """A server that runs no jobs, and a worker that shares only the database with it."""
    url = postgres.url(postgres.new_database())
    async with deployed(tmp_path / "server", database_url=url) as ferry:
        await ferry.app.worker.close()
        login = {"username": ferry.admin.name, "password": ferry.admin.password}
        regions = {
            NORTH: {"registry": ferry.urls[NORTH], **login},
            # Slow enough to see the progress.
            SOUTH: {"registry": ferry.urls[SOUTH], **login, "max_bytes_per_second": 2_000_000},
        }
        key = (tmp_path / "server" / "secret.key").read_text().strip()
        shared = {"database_url": url, "secret_key": key}
        settings = Settings.parse({"data_dir": tmp_path / "worker", "regions": regions, **shared})
        async with open_backend(settings):
            yield ferry


async def test_a_sync_is_planned_and_followed_while_another_process_copies(
    chromium: Browser, tmp_path: Path, postgres: PostgresServer
):
    async with two_processes(tmp_path, postgres) as ferry, visiting(chromium, ferry) as visit:
        layers = [secrets.token_bytes(4_000_000) for _ in range(3)]
        await images.push(ferry.store(NORTH), SOURCE, images.image(*layers), Tag("v1"))
        page = await signed_in(visit, ferry)

        await page.get_by_role("link", name="Synchronize").first.click()
        await page.get_by_label("Repository", exact=True).fill("team/shop/web")
        await page.get_by_role("button", name="Choose its tags").click()
        await page.get_by_label("v1").check()
        await page.get_by_label("Region and organization").fill(f"{SOUTH}/{RELEASE}")
        await page.get_by_role("button", name="Show the plan").click()
        await expect(page.locator("#plan .figure").first).to_contain_text("12.0 MB")
        await page.get_by_role("button", name="Synchronize now").click()

        # Nothing is loaded again: the rate and the remaining time arrive from the other process.
        await expect(page.locator("#job-1-progress")).to_contain_text("MB/s", timeout=SECONDS)
        await expect(page.locator("#job-1-progress")).to_contain_text("Remaining time")
        await expect(page.locator("#job-1-head")).to_contain_text("success", timeout=SECONDS)
        await expect(page.locator("#job-1-timeline")).to_contain_text("Tag written")
        await expect(page.locator("#job-1-moved .figure").first).to_contain_text("12.0 MB")
        await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


async def test_a_conflict_is_explained_and_resolved_with_override(chromium: Browser, ferry: Deployment):
    await images.push(ferry.store(NORTH), SOURCE, images.image(), Tag("v1"))
    await images.push(ferry.store(SOUTH), TARGET, images.image(seed="other"), Tag("v1"))
    (job,) = await started(ferry, "v1")
    await ferry.ended_jobs(SOURCE, [job])
    async with visiting(chromium, ferry) as visit:
        page = await signed_in(visit, ferry)
        await visit.open("/console/jobs?state=problems")
        await page.get_by_role("link", name="team/shop/web:v1").click()
        await expect(page.locator(f"#job-{job}-head")).to_contain_text("retry with override")

        await page.get_by_role("button", name="Replace the target's image").click()

        await expect(page.locator(f"#job-{job + 1}-head")).to_contain_text("success", timeout=SECONDS)


async def test_a_failure_shows_its_reason_and_is_retried(chromium: Browser, ferry: Deployment):
    await images.push(ferry.store(NORTH), SOURCE, images.image(), Tag("v1"))
    (job,) = await started(ferry, "v2")
    await ferry.ended_jobs(SOURCE, [job])
    await images.push(ferry.store(NORTH), SOURCE, images.image(), Tag("v2"))
    async with visiting(chromium, ferry) as visit:
        page = await signed_in(visit, ferry)
        await visit.open(f"/console/jobs/{job}")
        await expect(page.locator(f"#job-{job}-head")).to_contain_text(
            "the tag does not exist in the source repository"
        )
        await page.get_by_role("button", name="Retry", exact=True).click()

        await expect(page.locator(f"#job-{job + 1}-head")).to_contain_text("success", timeout=SECONDS)


async def test_a_running_job_is_cancelled_and_lists_show_it_without_being_loaded_again(
    chromium: Browser, ferry: Deployment
):
    await images.push(ferry.store(NORTH), SOURCE, images.image(), Tag("v1"))
    held = ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1")
    async with visiting(chromium, ferry) as visit, visiting(chromium, ferry) as other:
        page, lists = await signed_in(visit, ferry), await signed_in(other, ferry)
        await other.open("/console/jobs")
        await expect(lists.locator(f"#job-{job}-state")).to_contain_text("running", timeout=SECONDS)
        await visit.open(f"/console/jobs/{job}")

        await page.get_by_role("button", name="Cancel").click()

        await expect(page.locator(f"#job-{job}-head")).to_contain_text("cancelled")
        await expect(lists.locator(f"#job-{job}-state")).to_contain_text("cancelled", timeout=SECONDS)
        await started(ferry, "v1")
        await lists.get_by_role("link", name="1 new job").click(timeout=SECONDS)
        await expect(lists.locator("tbody tr")).to_have_count(2)
    held.released.set()


async def test_the_first_page_follows_a_job_to_its_end_and_announces_the_next_one(chromium: Browser, ferry: Deployment):
    await images.push(ferry.store(NORTH), SOURCE, images.image(), Tag("v1"))
    held = ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1")

    async def runs() -> bool:
        async with ferry.client() as client:
            return bool(await client.list_all_jobs(limit=1, status="running"))

    await eventually(runs)
    async with visiting(chromium, ferry) as visit:
        page = await signed_in(visit, ferry)
        progress = page.locator(f"#job-{job}-progress")
        await expect(page.locator(f"#job-{job}-state")).to_contain_text("running", timeout=SECONDS)
        await expect(progress.locator("progress")).to_have_count(1, timeout=SECONDS)
        await page.evaluate("window.isSamePage = true")

        held.released.set()

        await expect(page.locator(f"#job-{job}-state")).to_contain_text("success", timeout=SECONDS)
        await expect(progress.locator("progress")).to_have_count(0)
        await started(ferry, "v2")
        await expect(page.get_by_role("link", name="1 new job")).to_be_visible(timeout=SECONDS)
        assert await page.evaluate("window.isSamePage")


async def test_200_jobs_are_selected_and_retried_at_once(chromium: Browser, ferry: Deployment):
    await images.push(ferry.store(NORTH), SOURCE, images.image(), Tag("other"))
    tags = [f"v{number}" for number in range(200)]
    jobs = await started(ferry, *tags)
    await ferry.ended_jobs(SOURCE, jobs)
    for tag in tags:
        await images.push(ferry.store(NORTH), SOURCE, images.image(), Tag(tag))
    async with visiting(chromium, ferry) as visit:
        page = await signed_in(visit, ferry)
        await visit.open("/console/jobs?state=failed&rows=200")
        await page.get_by_label("Select all on this page").check()
        await expect(page.locator("[data-selected]")).to_have_text("selected: 200")

        await page.get_by_role("button", name="Retry selected").click()

        await expect(page.get_by_text("Jobs retried: 200.")).to_be_visible(timeout=SECONDS)

    async def are_done() -> bool:
        async with ferry.client() as client:
            return len(await client.list_all_jobs(limit=1000, status="success")) == 200

    await eventually(are_done, seconds=120)


async def test_a_page_whose_session_is_revoked_says_so(
    chromium: Browser, ferry: Deployment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "_HEARTBEAT_SECONDS", 0.2)
    await images.push(ferry.store(NORTH), SOURCE, images.image(), Tag("v1"))
    held = ferry.hold(SOUTH)
    (job,) = await started(ferry, "v1")
    users = ferry.app.services.iam.users
    async with visiting(chromium, ferry) as visit:
        page = await signed_in(visit, ferry)
        await visit.open(f"/console/jobs/{job}")
        await expect(page.locator(f"#job-{job}-head")).to_contain_text("running", timeout=SECONDS)

        await users.update((await users.find(ferry.admin.name)).user_id, password="another long password")

        await expect(page.get_by_text("The session has ended.")).to_be_visible(timeout=SECONDS)
        await page.get_by_role("link", name="Sign in again").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to tagferry")
    held.released.set()


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[None]:
    async with open_app(settings) as app, listening(app.listeners, settings.limits):
        await ensure_admin(app.accounts)
        yield
        await app.services.console.live.close()


async def test_a_page_recovers_after_the_server_was_restarted(chromium: Browser, tmp_path: Path):
    regions: dict[str, dict[str, Any]] = {name: {"listen": f"127.0.0.1:{free_port()}"} for name in (NORTH, SOUTH)}
    async with deployed(tmp_path / "data", regions=regions) as ferry:
        await images.push(ferry.store(NORTH), SOURCE, images.image(), Tag("v1"))
        ferry.hold(SOUTH)
        (job,) = await started(ferry, "v1")
        visits = visiting(chromium, ferry)
        visit = await visits.__aenter__()
        page = await signed_in(visit, ferry)
        await visit.open(f"/console/jobs/{job}")
        await expect(page.locator(f"#job-{job}-head")).to_contain_text("running", timeout=SECONDS)
        await ferry.app.services.console.live.close()

    # The second server has no held store, so the job ends; the page was not touched.
    async with served(ferry.settings):
        await expect(page.locator(f"#job-{job}-head")).to_contain_text("success", timeout=SECONDS)
        await expect(page.locator(f"#job-{job}-timeline")).to_contain_text("Tag written")
        # The browser reports that it could not connect.
        visit.problems[:] = [one for one in visit.problems if "net::ERR" not in one]
        await visits.__aexit__(None, None, None)
