"""The console protects its users: no changes by other sites, no foreign redirects, headers of every answer."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tagferry.names import RepositoryName, Tag
from tests.support.browser import Browser
from tests.support.deployment import NORTH, Deployment, deployed
from tests.support.images import image, push

COOKIE = "tagferry-session"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "", "Origin": "null"},
        {"Sec-Fetch-Site": "", "Origin": "http://attacker.example"},
        {"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "", "Origin": "http://["},
        {"Sec-Fetch-Site": "", "Origin": "{own}.attacker.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "{own}"},
    ],
    ids=str,
)
async def test_a_change_that_another_site_initiated_is_refused(administrator: Browser, headers: dict[str, str]):
    sent = {name: value.format(own=administrator.url) for name, value in headers.items()}
    for path in ("/console/sign-out", "/console/sign-in", "/console/preferences", "/console/none"):
        refused = await administrator.post(path, headers=sent)
        assert (refused.status, refused.heading) == (403, "You may not do this")
    assert (await administrator.get("/console/")).status == 200


async def test_so_is_every_other_method(administrator: Browser):
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert (await administrator.send(method, "/console/")).status == 403


async def test_without_fetch_metadata_the_own_origin_is_accepted(administrator: Browser):
    page = await administrator.post("/console/sign-out", headers={"Sec-Fetch-Site": "", "Origin": administrator.url})

    assert page.status == 303


async def test_so_is_the_origin_of_the_public_address(tmp_path: Path):
    public: dict[str, Any] = {NORTH: {"listen": "", "public_url": "https://registry.example"}}
    async with deployed(tmp_path / "data", regions=public) as ferry:
        browser = Browser(ferry.urls[NORTH])
        sent = {"Sec-Fetch-Site": "", "Origin": "https://REGISTRY.example:443"}
        page = await browser.post("/console/preferences", {"theme": "dark"}, headers=sent)

    assert page.status == 303


TARGETS = (
    "//attacker.example",
    "/\\attacker.example",
    "/console//attacker.example",
    "/console/..//attacker.example",
    "/console/%2e%2e/v2/",
    "/console/.%2E/v2/",
    "/console/../v2/_token",
    "/console\\..\\",
    "/%2F%2Fattacker.example",
    "%2F%2Fattacker.example",
    "http://attacker.example/console/",
    "https:attacker.example",
    "javascript:alert(1)",
    "/console/\r\nX-Injected: yes",
    "/console/\t//attacker.example",
    " //attacker.example",
    "/consolex/",
    "/v2/",
    "",
)


async def test_signing_in_and_preferences_lead_only_to_pages_of_the_console(ferry: Deployment, browser: Browser):
    for target in TARGETS:
        saved = await browser.post("/console/preferences", {"theme": "dark", "next": target})
        fields = {"name": ferry.admin.name, "password": ferry.admin.password, "next": target}
        signed_in = await browser.post("/console/sign-in", fields)
        assert (saved.status, saved.location) == (303, "/console/"), target
        assert (signed_in.status, signed_in.location) == (303, "/console/"), target


async def test_every_page_has_the_headers_that_protect_it(administrator: Browser):
    for path in ("/console/", "/console/sign-in", "/console/none", "/console/static/none.css"):
        headers = (await administrator.get(path)).headers
        assert headers["Content-Security-Policy"] == (
            "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        )
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Request-Id"]


async def test_no_answer_of_the_server_is_shown_as_another_type_or_in_a_frame(ferry: Deployment):
    sample = image()
    await push(ferry.store(NORTH), RepositoryName("team/app"), sample, Tag("v1"))
    blob = next(iter(sample.blobs))
    paths = ["/", "/healthz", "/v2/", "/v2/team/app/blobs/sha256:0", "/v3", "/v2/manage/namespaces", "/nothing"]
    paths += ["/v2/team/app/manifests/v1", f"/v2/team/app/blobs/{blob}", "/console/", "/console/static/none.css"]
    empty: dict[str, str] = {}
    credentials = {"Authorization": aiohttp.encode_basic_auth(ferry.admin.name, ferry.admin.password)}
    for path in paths:
        for headers in (empty, credentials):
            answer = await ferry.http("GET", path, headers=headers)
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
            assert answer.headers["X-Frame-Options"] == "DENY", path


async def test_pages_contain_no_script_and_no_style_of_their_own(administrator: Browser):
    for path in ("/console/", "/console/none"):
        page = await administrator.get(path)
        assert not page.all("style")
        assert {one.get("src", "")[:16] for one in page.all("script")} == {"/console/static/"}
        assert not [one for one in page.tree.iter() for name in one.attrib if name.startswith("on") or name == "style"]


async def test_static_files_are_kept_forever_and_need_no_session(browser: Browser):
    page = await browser.get("/console/sign-in")
    links = [one.get("href") or "" for one in page.all("link")] + [one.get("src") or "" for one in page.all("script")]
    uses = {(one.get("href") or "").partition("#")[0] for one in page.all("use")}

    for address in {*links, *uses}:
        answer = await browser.get(address)
        assert answer.status == 200, address
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_else_is_served_as_a_static_file(browser: Browser):
    for name in ("../console.css", "%2e%2e%2fapp.py", "console.css", "icons.txt", "a/b.css"):
        assert (await browser.get(f"/console/static/{name}")).status == 404


async def test_names_that_look_like_html_stay_text(ferry: Deployment, browser: Browser):
    evil = "<script>alert(1)</script>%(name)s{{ 7*7 }}"
    page = await browser.sign_in(evil, "wrong")

    assert page.one("input[@id='name']").get("value") == evil
    assert "<script>alert" not in page.html


async def test_a_planted_notice_stays_text(administrator: Browser):
    administrator.cookies["tagferry-notice"] = "%3Cscript%3Ealert(1)%3C/script%3E"
    page = await administrator.get("/console/")

    assert "<script>alert" not in page.html
    assert "tagferry-notice" not in administrator.cookies


@pytest.mark.parametrize("number", ["0", "9" * 19, "9" * 5000, "-1", "1e3", "%D9%A3"])
async def test_a_number_that_no_row_can_have_is_no_page(administrator: Browser, number: str):
    for page in ("jobs", "policies"):
        assert (await administrator.get(f"/console/{page}/{number}")).status == 404
