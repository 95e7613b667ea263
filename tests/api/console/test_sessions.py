"""Sign in, sign out, and what ends a session."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from tagferry.app import DEFAULT_DOMAIN
from tests.support.browser import Browser
from tests.support.deployment import NORTH, SOUTH, Deployment, deployed

COOKIE = "tagferry-session"
PASSWORD = "a long enough password"


async def test_a_browser_at_the_address_of_a_region_gets_to_the_page_for_signing_in(browser: Browser):
    page = await browser.get("/", follow=True)

    assert page.heading == "Sign in to tagferry"


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "application/json, text/html;q=0.9", "text/html;q=0", ""]
)
async def test_other_clients_get_the_versions_of_the_api_there(browser: Browser, accept: str):
    answer = await browser.get("/", headers={"Accept": accept})

    assert answer.status == 300 or "versions" in json.loads(answer.html)


async def test_signing_in_leads_to_the_page_that_was_requested(ferry: Deployment, browser: Browser):
    asked = await browser.get("/console/?q=1&r=%2F")
    assert asked.status == 303
    form = await browser.get(asked.location)
    page = await browser.submit(
        form, "/console/sign-in", follow=False, name=ferry.admin.name, password=ferry.admin.password
    )

    assert page.location == "/console/?q=1&r=%2F"
    assert (await browser.get(page.location)).heading == "Overview"


async def test_a_wrong_password_is_refused_on_the_page_and_keeps_the_name(ferry: Deployment, browser: Browser):
    page = await browser.sign_in(ferry.admin.name, "a wrong guess")

    assert page.status == 401
    assert "the user name or the password is wrong" in page.text
    assert page.one("input[@id='name']").get("value") == ferry.admin.name
    assert page.one("input[@id='password']").get("value") == ""
    assert COOKIE not in browser.cookies


async def test_too_many_wrong_passwords_lock_the_name_as_in_the_apis(ferry: Deployment, browser: Browser):
    statuses = [(await browser.sign_in(ferry.admin.name, "a wrong guess")).status for _ in range(6)]
    right = await browser.sign_in(ferry.admin.name, ferry.admin.password)

    assert statuses == [401] * 5 + [429]
    assert right.status == 429


async def test_signing_out_ends_the_session_everywhere(administrator: Browser):
    stolen = Browser(administrator.url)
    stolen.cookies = dict(administrator.cookies)

    page = await administrator.post("/console/sign-out", follow=True)

    assert page.heading == "Sign in to tagferry"
    assert "You have signed out." in page.text
    assert COOKIE not in administrator.cookies
    assert (await stolen.get("/console/")).status == 303


async def test_a_session_is_valid_in_every_region_of_the_installation(ferry: Deployment, administrator: Browser):
    other = Browser(ferry.urls[SOUTH])
    other.cookies = dict(administrator.cookies)

    assert (await other.get("/console/")).heading == "Overview"


async def test_signing_in_starts_a_new_session_and_ends_the_former_one(ferry: Deployment, administrator: Browser):
    former = dict(administrator.cookies)

    page = await administrator.post(
        "/console/sign-in", {"name": ferry.admin.name, "password": ferry.admin.password, "next": "/console/"}
    )

    assert page.status == 303
    assert administrator.cookies[COOKIE] != former[COOKIE]
    administrator.cookies = former
    assert (await administrator.get("/console/")).status == 303


async def test_a_planted_cookie_does_not_become_a_session(ferry: Deployment, browser: Browser):
    browser.cookies[COOKIE] = "planted"
    await browser.sign_in(ferry.admin.name, ferry.admin.password)

    assert browser.cookies[COOKIE] != "planted"


async def test_a_cookie_of_a_neighbor_does_not_hide_the_session(administrator: Browser):
    session = administrator.cookies[COOKIE]
    page = await administrator.send(
        "GET", "/console/", headers={"Cookie": f'{COOKIE}="planted"; a[b]=c; {COOKIE}={session}'}
    )

    assert page.status == 200


async def test_the_session_is_no_token_of_the_apis(ferry: Deployment, administrator: Browser):
    session = administrator.cookies[COOKIE]
    cookie = {"Cookie": f"{COOKIE}={session}"}
    headers: list[Any] = [{"X-Auth-Token": session}, cookie]
    for one in headers:
        refused = await ferry.http("GET", "/v2/manage/namespaces", headers=one)
        assert refused.status == 401
    body = {"auth": {"identity": {"methods": ["token"], "token": {"id": session}}}}
    assert (await ferry.http("POST", "/v3/auth/tokens", body=body)).status == 401
    assert (await ferry.http("GET", "/v2/team/app/tags/list", headers=cookie)).status == 401
    bearer = {"Authorization": f"Bearer {session}"}
    assert (await ferry.http("GET", "/v2/team/app/tags/list", headers=bearer)).status == 401


async def test_a_token_of_iam_is_no_session(ferry: Deployment, browser: Browser):
    user = {"name": ferry.admin.name, "password": ferry.admin.password, "domain": {"name": DEFAULT_DOMAIN}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    issued = await ferry.http("POST", "/v3/auth/tokens", body=body)
    browser.cookies[COOKIE] = issued.headers["X-Subject-Token"]

    assert (await browser.get("/console/")).status == 303


@pytest.mark.parametrize("change", [{"password": "another long password"}, {"enabled": False}])
async def test_a_new_password_or_disabling_ends_the_session_at_once(
    ferry: Deployment, browser: Browser, change: dict[str, Any]
):
    users = ferry.app.services.iam.users
    user = await users.create("wang.fang", PASSWORD, domain=DEFAULT_DOMAIN)
    await browser.sign_in("wang.fang", PASSWORD)
    assert (await browser.get("/console/")).status == 200

    await users.update(user.user_id, **change)

    assert (await browser.get("/console/")).status == 303


async def test_deleting_the_user_ends_the_session_at_once(ferry: Deployment, browser: Browser):
    users = ferry.app.services.iam.users
    user = await users.create("wang.fang", PASSWORD, domain=DEFAULT_DOMAIN)
    await browser.sign_in("wang.fang", PASSWORD)

    await users.delete(user.user_id)

    assert (await browser.get("/console/")).status == 303


async def test_a_session_ends_after_the_lifetime_of_tokens(ferry: Deployment, administrator: Browser):
    with ferry.later(timedelta(hours=ferry.settings.limits.token_lifetime_hours)):
        assert (await administrator.get("/console/")).status == 303


async def test_the_cookie_is_only_for_this_host_and_not_for_scripts(administrator: Browser):
    cookie = administrator.received[COOKIE]

    assert (cookie["httponly"], cookie["samesite"].lower(), cookie["path"]) == (True, "lax", "/")
    assert (cookie["secure"], cookie["domain"], cookie["expires"]) == ("", "", "")


async def test_behind_a_proxy_with_tls_the_cookie_is_secure(tmp_path: Path):
    async with deployed(tmp_path / "data", trusted_proxies=["127.0.0.1"]) as ferry:
        browser = Browser(ferry.urls[NORTH], **{"X-Forwarded-Proto": "https"})
        await browser.sign_in(ferry.admin.name, ferry.admin.password)

        cookie = browser.received[f"__Host-{COOKIE}"]
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
        assert (await browser.get("/console/")).status == 200
        # Without TLS the cookie may have been set by anyone on the way.
        assert (await browser.get("/console/", headers={"X-Forwarded-Proto": "http"})).status == 303


async def test_sign_in_and_changes_are_audited_with_the_caller(ferry: Deployment, browser: Browser):
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await browser.sign_in(ferry.admin.name, "a wrong guess")
        await browser.sign_in(ferry.admin.name, ferry.admin.password)
        await browser.post("/console/sign-out")

    audited = [(one["path"], one["status"], one.get("user")) for one in lines if one["event"] == "request"]
    assert audited == [
        ("/console/sign-in", 401, None),
        ("/console/sign-in", 303, ferry.admin.name),
        ("/console/sign-out", 303, ferry.admin.name),
    ]
    assert ferry.admin.password not in str(lines)


async def test_a_session_is_found_among_a_few_cookies_of_its_name_but_no_request_causes_many_queries(
    ferry: Deployment, administrator: Browser, monkeypatch: pytest.MonkeyPatch
):
    looked_up: list[str] = []
    tokens = type(ferry.app.services.console.tokens)
    find = tokens.session

    async def counted(self: Any, value: str) -> Any:
        looked_up.append(value)
        return await find(self, value)

    monkeypatch.setattr(tokens, "session", counted)
    own = f"{COOKIE}={administrator.cookies[COOKIE]}"
    planted = [f"{COOKIE}={number:064}" for number in range(500)]

    beside = await administrator.get("/console/", headers={"Cookie": "; ".join([*planted[:5], f"{COOKIE}=x", own])})
    assert (beside.status, len(looked_up)) == (200, 6)
    looked_up.clear()
    await administrator.get("/console/", headers={"Cookie": "; ".join(planted)})
    assert len(looked_up) == 16
