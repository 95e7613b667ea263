"""Chromium behind a balancer without sticky sessions: two servers show what a worker copies, and one of them stops."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Response, expect

from tests.browser.visits import opened
from tests.support.balanced_servers import NAME, SOUTH, balanced_servers
from tests.support.deployment import eventually
from tests.support.nginx import SERVER_HEADER, nginx_balancer
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port, stop

SECONDS = 60_000
"""Milliseconds to wait for a change."""
MOVED = re.compile("[1-9]")


@pytest.mark.timeout(300)
async def test_a_page_shows_a_sync_of_a_third_process_and_goes_on_when_its_server_stops(
    chromium: Browser, tmp_path: Path, postgres: PostgresServer
):
    balancer = f"127.0.0.1:{free_port()}"
    async with balanced_servers(tmp_path, postgres.url(postgres.new_database()), balancer) as servers:
        with nginx_balancer(tmp_path / "nginx", balancer, list(servers.programs)):
            async with opened(chromium, f"http://{balancer}") as visit:
                page = visit.page
                answers: list[tuple[str, str]] = []

                def note(response: Response) -> None:
                    # After servers that did not answer comes the one that did.
                    server = response.headers[SERVER_HEADER.lower()].rpartition(" ")[2]
                    answers.append((response.url.partition("/console/")[2].partition("?")[0], server))

                def servers_of(path: str) -> list[str]:
                    """Return the servers that answered, in order; the browser keeps files with their first answer."""
                    return [server for answered, server in answers if answered == path]

                page.on("response", note)
                await visit.sign_in("admin", servers.password)
                await page.get_by_role("link", name="Synchronize").first.click()
                await page.get_by_label("Repository", exact=True).fill(NAME)
                await page.get_by_role("button", name="Choose its tags").click()
                await page.get_by_label("v1").check()
                await page.get_by_label("Region and organization").fill(f"{SOUTH}/team")
                await page.get_by_role("button", name="Show the plan").click()
                await expect(page.locator("#plan .figure").first).to_contain_text("4.0 MB", timeout=SECONDS)
                await page.get_by_role("button", name="Synchronize now").click()

                moved = page.locator("#job-1-progress progress")
                await expect(moved).to_have_attribute("value", MOVED, timeout=SECONDS)
                assert {server for _, server in answers} == set(servers.programs)
                await page.evaluate("window.isSamePage = true")
                streaming = servers_of("events")[-1]

                await asyncio.to_thread(stop, servers.programs[streaming].process)

                async def streams_again() -> bool:
                    return servers_of("events")[-1] != streaming

                await eventually(streams_again, seconds=60)
                servers.source.released.set()
                await expect(page.locator("#job-1-head")).to_contain_text("success", timeout=SECONDS)
                await expect(page.locator("#job-1-timeline")).to_contain_text("Tag written")
                assert await page.evaluate("window.isSamePage")

                # The session and the other pages do not need the server that has stopped either.
                await page.get_by_role("link", name="Jobs").first.click()
                await page.wait_for_url("**/console/jobs")
                await expect(page.locator("#job-1-state")).to_contain_text("success")
                assert servers_of("jobs")[-1] != streaming
