"""A user with a browser: signs in, opens pages, and notices what no page may do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Error, Page

from tests.support.deployment import NORTH, Deployment

POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
WIDE, NARROW = (1360, 850), (320, 700)


@dataclass
class Visit:
    """A window of a browser.

    Attributes:
        problems: errors of scripts, and what the content security policy has refused.
    """

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)

    async def open(self, path: str, status: int = 200) -> None:
        """Open a page, which must answer with this status."""
        response = await self.page.goto(f"{self.url}{path}")
        assert response is not None
        assert response.status == status, f"{path}: {response.status}"
        assert response.headers["content-security-policy"] == POLICY, path
        if status >= 400:
            # Browsers report the status of every page that failed.
            self.problems[:] = [one for one in self.problems if "Failed to load resource" not in one]

    async def sign_in(self, name: str, password: str) -> None:
        """Sign in, by the form that the address of the region leads to."""
        await self.open("/")
        await self.page.get_by_label("User name").or_(self.page.get_by_label("用户名")).fill(name)
        password_field = self.page.locator("#password")
        await password_field.fill(password)
        await password_field.press("Enter")
        await self.page.wait_for_url("**/console/")

    async def accessibility_problems(self) -> list[str]:
        """Return what axe finds on the page."""
        found = await Axe().run(self.page, options={"resultTypes": ["violations"]})
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found.response["violations"]
            for node in one["nodes"]
        ]

    async def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        wider: int = await self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return max(0, wider)


@asynccontextmanager
async def visiting(
    browser: Browser, ferry: Deployment, *, size: tuple[int, int] = WIDE, language: str = "en", **options: Any
) -> AsyncIterator[Visit]:
    """Open a window at `cn-north-4` of an installation, as `opened`."""
    async with opened(browser, ferry.urls[NORTH], size=size, language=language, **options) as visit:
        yield visit


@asynccontextmanager
async def opened(
    browser: Browser, url: str, *, size: tuple[int, int] = WIDE, language: str = "en", **options: Any
) -> AsyncIterator[Visit]:
    """Open a window; at the end, no script may have failed, and nothing may have been refused."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, locale=language, timezone_id="Asia/Shanghai", **options
    )
    page = await context.new_page()
    visit = Visit(page, url)

    def noticed(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.problems.append(message.text)

    def failed(error: Error) -> None:
        # The browser says that it shows the next page without the animation of its style sheet, as when it is late.
        if not error.message.startswith("Transition was "):
            visit.problems.append(str(error))

    page.on("console", noticed)
    page.on("pageerror", failed)
    yield visit
    await context.close()
    assert visit.problems == [], visit.problems
