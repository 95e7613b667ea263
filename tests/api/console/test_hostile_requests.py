"""No request makes a page of the console fail: hostile values in the paths, queries and forms of all pages."""

import re
from pathlib import Path

import pytest

from tagferry.names import RepositoryName, Tag
from tagferry.web.console.app import _PAGES
from tagferry.web.console.pages import images
from tests.support.browser import Browser
from tests.support.deployment import NORTH, deployed
from tests.support.images import image, push
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.long

_HOSTILE = ("%00", "a%00b", "%ff", "%ed%a0%80", "%zz", "%0d%0aX-A:b", "9" * 30, "9" * 5000, "-1", "%F0%9F%92%A9", "..")
_VALUES = {"region": NORTH, "namespace": "team", "repository": "app", "tag": "v1", "job": "1", "rule": "1"}
_FIELDS = (
    *("action", "after", "by", "category", "deadline", "description", "domain", "edited", "enabled", "from", "job"),
    *("jobs", "marker", "name", "next", "offset", "operation", "order", "organization", "password", "permission", "q"),
    *("region", "repository", "request", "rows", "since", "state", "tag", "target", "to", "to_namespace", "to_region"),
    *("until", "user"),
)


def _filled(path: str, **values: str) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: ({**_VALUES, **values}).get(found[1], "1"), path)


async def test_hostile_values_are_refused_and_are_no_errors_of_the_server(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str
):
    url = postgres.url(postgres.new_database(like=postgres_template))
    async with deployed(tmp_path / "data", database_url=url) as ferry:
        await push(ferry.store(NORTH), RepositoryName("team/app"), image(), Tag("v1"))
        browser = Browser(ferry.urls[NORTH])
        await browser.sign_in(ferry.admin.name, ferry.admin.password)
        failed = []

        async def ask(method: str, path: str, form: str = "") -> None:
            headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
            answer = await browser.send(method, path, body=form.encode() if method == "POST" else None, headers=headers)
            if answer.status >= 500:
                failed.append((method, path[:200], form[:200], answer.status))

        for route in [*(route for module in _PAGES for route in module.routes), *images.late_routes]:
            if "sign-" in route.path:
                continue
            # Of a stream, only the head is asked for.
            methods = ["HEAD"] if route.path.endswith("/events") else sorted((route.methods or set()) - {"HEAD"})
            for method in methods:
                for name in re.findall(r"\{(\w+)", route.path):
                    for value in _HOSTILE:
                        await ask(method, _filled(route.path, **{name: value}), "permission=1&enabled=true")
                for value in _HOSTILE[:5]:
                    sent = "&".join(f"{field}={value}" for field in _FIELDS)
                    await ask(method, _filled(route.path) + ("" if method == "POST" else f"?{sent}"), sent)
        assert failed == []
