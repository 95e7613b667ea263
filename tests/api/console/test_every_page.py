"""What holds on every page of the console: it is in the list of pages, protected, and runs nothing that was said."""

import re
from urllib.parse import urlsplit

import pytest
from starlette.routing import Match

from tagferry.web.console.app import _PAGES
from tagferry.web.console.pages import images
from tests.browser.content import fill
from tests.browser.planted import markup, plant
from tests.support.browser import Browser, Page
from tests.support.changes import streaming, until
from tests.support.deployment import Deployment

POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
ROUTES = [*(route for module in _PAGES for route in module.routes), *images.late_routes]
NOT_LISTED = {"/console", "/console/events", "/console/sign-in", *(route.path for route in images.late_routes)}
"""Redirects, the stream of changes, and the page that needs no session."""

WITHOUT_COMMANDS = {"rules", "synchronize", "images-digest-incomplete"}
"""No operation of the API lists the rules of all repositories. Before anything is chosen, or if it cannot be searched
for, there is no command."""


def route_of(path: str) -> str:
    """Return the path of the route that answers an address; "" if there is none."""
    scope = {"type": "http", "path": urlsplit(path).path, "method": "GET"}
    return next((route.path for route in ROUTES if route.matches(scope)[0] is Match.FULL), "")


def assert_harmless(page: Page) -> None:
    """Require the headers that protect a page, and that it has no script, style or frame of its own."""
    assert page.headers["Content-Security-Policy"] == POLICY, page.path
    assert page.headers["X-Content-Type-Options"] == "nosniff", page.path
    assert page.headers["X-Frame-Options"] == "DENY", page.path
    assert page.headers["Referrer-Policy"] == "same-origin", page.path
    assert page.headers["Cache-Control"] == "no-store", page.path
    assert [one.get("src", "")[:16] for one in page.all("script")] == ["/console/static/"], page.path
    for one in page.tree.iter():
        assert one.tag not in ("base", "embed", "iframe", "img", "object", "style"), f"{page.path}: {one.tag}"
        assert not [name for name in one.attrib if name.startswith("on") or name == "style"], page.path
        for name in ("action", "formaction", "href", "src"):
            assert re.match(r"$|/(?!/)|[?#]", one.get(name, "")), f"{page.path}: {one.get(name)}"


@pytest.mark.timeout(300)
async def test_every_page_is_listed_and_protected_and_shows_markup_as_text(ferry: Deployment, administrator: Browser):
    pages = await fill(ferry)
    listed = {route_of(shown.path) for shown in pages}
    routes = {route.path for route in ROUTES if "GET" in (route.methods or ())}
    assert sorted(routes - listed - NOT_LISTED) == [], "add these to tests/browser/content.py"

    sources, more = await plant(ferry)
    pages += more
    told, live = "", list[str]()
    for shown in pages:
        page = await administrator.complete(shown.path)
        assert page.status == shown.status, shown
        assert_harmless(page)
        has_commands = bool(page.all("details[@class='same-by']"))
        assert has_commands is (page.status == 200 and shown.name not in WITHOUT_COMMANDS), shown
        if shown.name in ("jobs", "job-waiting"):
            live.append(page.one("*[@data-live]").get("data-live", ""))
        told += " ".join("".join(page.tree.itertext()).split())
        told += "".join(value for one in page.tree.iter() for value in one.attrib.values())
    # Scripts put the changes of jobs into pages.
    for address in live:
        async with streaming(administrator, address) as stream:
            assert "<img" not in await until(stream, "alert(&#39;sync_jobs.last_error&#39;)&lt;/script&gt;")
    assert sorted(one for one in sources if markup(one) not in told) == []
