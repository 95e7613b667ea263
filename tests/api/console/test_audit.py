"""The page of audit records."""

from urllib.parse import urlencode

import pytest

from tagferry.accounts.model import Permission
from tagferry.web.console.operations import OPERATIONS
from tagferry.web.operations import NAMES
from tests.support.browser import Browser, Page
from tests.support.deployment import NORTH, Deployment, eventually

AUDIT = "/console/audit"
ORGANIZATIONS = "/v2/manage/namespaces"


async def change(ferry: Deployment, *names: str) -> None:
    headers = {"X-Auth-Token": await ferry.token()}
    for name in names:
        await ferry.http("POST", ORGANIZATIONS, headers=headers, body={"namespace": name})


async def shown(browser: Browser, rows: int, **terms: str) -> Page:
    """Return the page once it has this many rows."""

    async def found() -> Page | None:
        page = await browser.get(f"{AUDIT}?{urlencode(terms)}")
        assert page.status == 200
        return page if len(page.rows()) == rows else None

    page = await eventually(found)
    assert page is not None
    return page


async def test_changes_are_listed_with_who_what_and_from_where(ferry: Deployment, administrator: Browser):
    await change(ferry, "first", "second")

    page = await shown(administrator, 2, operation="create an organization")

    (_, user, operation, subject, result, source), _ = page.rows()
    assert page.heading == "Audit"
    assert user == ferry.admin.name
    assert operation == f"create an organization POST {ORGANIZATIONS}"
    assert (subject, result) == ("second", "done 201")
    assert source.startswith(f"127.0.0.1 {NORTH}")
    assert "--operation 'create an organization'" in page.text


async def test_refused_requests_have_a_tab_and_anonymous_ones_are_counted(ferry: Deployment, administrator: Browser):
    await ferry.http("GET", ORGANIZATIONS)

    page = await shown(administrator, 1, refused="true")

    assert page.rows()[0][1] == "anonymous"
    assert page.rows()[0][4] == "refused 401"


async def test_filters_keep_their_values_and_pages_follow_each_other(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.web.console.pages.audit._SHOWN", 2)
    await change(ferry, "first", "second", "third")

    page = await shown(administrator, 2, operation="create an organization", user="admin")
    following = await administrator.get(page.one("a[@rel='next']").attrib["href"])

    assert page.form(AUDIT)["user"] == "admin"
    assert page.form(AUDIT)["operation"] == "create an organization"
    assert [row[3] for row in (*page.rows(), *following.rows())] == ["third", "second", "first"]
    assert following.form(AUDIT)["user"] == "admin"
    assert following.all("a[@rel='next']") == []


async def test_nothing_that_matches_says_what_to_do(administrator: Browser):
    page = await administrator.get(f"{AUDIT}?user=nobody&since=2024-01-01&until=2024-01-02")

    assert "No request matches" in page.text
    assert page.form(AUDIT)["since"] == "2024-01-01"


async def test_a_wrong_filter_is_explained(administrator: Browser):
    page = await administrator.get(f"{AUDIT}?since=yesterday")

    assert page.status == 400
    assert "since must be a date" in page.text


async def test_others_may_not_see_it(ferry: Deployment, browser: Browser):
    password, _ = await ferry.user("carol", team=Permission.MANAGE)
    await browser.sign_in("carol", password)

    page = await browser.get(AUDIT)

    assert page.status == 403
    assert "not an administrator" in page.text
    assert AUDIT not in {link.get("href") for link in (await browser.get("/console/")).all("a")}


async def test_names_of_clients_are_no_markup(ferry: Deployment, administrator: Browser):
    await ferry.http("DELETE", "/v2/manage/namespaces/%3Cscript%3Ealert(1)%3C/repos/%22%3E", headers={})

    page = await shown(administrator, 1, refused="true")

    assert page.all("main//script") == []
    assert "<script>alert(1)<" in page.rows()[0][2]


def test_every_operation_is_translated():
    assert set(OPERATIONS) == NAMES
